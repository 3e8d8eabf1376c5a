import pytest

from toxicity.core.attributes import ATTRIBUTES, attributes_of
from toxicity.core.label_names import LABELS_2018
from toxicity.core.schema import SUBTYPES


@pytest.mark.parametrize(
    ("labels", "attributes"),
    [
        (["toxicity", *SUBTYPES], dict(ATTRIBUTES)),
        (
            LABELS_2018,
            {
                "TOXICITY": "toxic",
                "SEVERE_TOXICITY": "severe_toxic",
                "IDENTITY_ATTACK": "identity_hate",
                "INSULT": "insult",
                "PROFANITY": "obscene",
                "THREAT": "threat",
                "OBSCENE": "obscene",
            },
        ),
        (["LABEL_0"], {"TOXICITY": "LABEL_0"}),
        (["hate", "toxic", "Severe-Toxic"], {"TOXICITY": "hate", "SEVERE_TOXICITY": "Severe-Toxic"}),
        (["threat", "toxic"], {"TOXICITY": "threat", "THREAT": "threat"}),
        (
            ["toxic", "Sexually explicit", "profanity"],
            {"TOXICITY": "toxic", "PROFANITY": "profanity", "SEXUALLY_EXPLICIT": "Sexually explicit"},
        ),
        ([], {}),
    ],
)
def test_attributes_of_a_model(labels, attributes):
    found = attributes_of(labels)
    assert found == attributes
    assert list(found) == [name for name in ATTRIBUTES if name in found]
