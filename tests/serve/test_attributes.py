"""Names of attributes."""

import pytest

from toxicity.core.label_names import LABELS_2018, MAIN_NAMES, synonyms_of
from toxicity.core.schema import SUBTYPES
from toxicity.serve.attributes import attributes_of, column_of
from toxicity.serve.errors import ApiError

ALL = ("SEVERE_TOXICITY", "PROFANITY", "OBSCENE", "THREAT", "INSULT", "IDENTITY_ATTACK", "SEXUALLY_EXPLICIT")


@pytest.mark.parametrize(
    ("labels", "columns"),
    [
        (["x"], {"TOXICITY": 0}),
        (["hate or offensive"], {"TOXICITY": 0}),
        (["insult"], {"TOXICITY": 0, "INSULT": 0}),
        (
            LABELS_2018,
            {"TOXICITY": 0, "SEVERE_TOXICITY": 1, "PROFANITY": 2, "OBSCENE": 2, "THREAT": 3, "INSULT": 4}
            | {"IDENTITY_ATTACK": 5},
        ),
        (["target", *SUBTYPES], {"TOXICITY": 0, "SEVERE_TOXICITY": 1, "PROFANITY": 2, "OBSCENE": 2}
            | {"IDENTITY_ATTACK": 3, "INSULT": 4, "THREAT": 5, "SEXUALLY_EXPLICIT": 6}),
        # Another label may be the main one of a model that has one for toxicity.
        (["insult", "toxic"], {"TOXICITY": 1, "INSULT": 0}),
        # Attributes that no competition has a label for, by their own names.
        (["toxicity", "Profanity", "flirtation", "sexism"], {"TOXICITY": 0, "PROFANITY": 1, "FLIRTATION": 2}),
        (["Severe-Toxic", "toxic", "toxicity"], {"SEVERE_TOXICITY": 0, "TOXICITY": 1}),
    ],
)  # fmt: skip
def test_attributes_of_labels(labels, columns):
    found = attributes_of(labels)
    assert found == columns
    assert next(iter(found)) == "TOXICITY"


def test_every_label_of_the_competitions_has_an_attribute():
    for name in (*MAIN_NAMES, *(name for subtype in SUBTYPES for name in synonyms_of(subtype))):
        assert len(attributes_of(["main", name])) > (name not in MAIN_NAMES), name


def test_an_experimental_attribute_is_the_one_of_its_name():
    columns = attributes_of(LABELS_2018)
    assert [column_of(f"{name}_EXPERIMENTAL", columns) for name in columns] == [*columns.values()]


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("toxicity", "Unknown requested attribute: toxicity"),
        ("", "Unknown requested attribute: "),
        ("_EXPERIMENTAL", "Unknown requested attribute: _EXPERIMENTAL"),
        ("FLIRTATION", "Unknown requested attribute: FLIRTATION. This model has TOXICITY, INSULT."),
        (
            "FLIRTATION_EXPERIMENTAL",
            "Unknown requested attribute: FLIRTATION_EXPERIMENTAL. This model has TOXICITY, INSULT.",
        ),
        ("X" * 1000, f"Unknown requested attribute: {'X' * 59}…"),
        ("A\nB", "Unknown requested attribute: A\\nB"),
    ],
)
def test_attributes_that_are_not_there(attribute, message):
    with pytest.raises(ApiError) as refused:
        column_of(attribute, {"TOXICITY": 0, "INSULT": 1})
    assert refused.value.message == message
    assert refused.value.details[0]["errorType"] == "INVALID_REQUEST"


def test_attributes_of_perspective_may_be_dropped():
    assert column_of("FLIRTATION", {"TOXICITY": 0}, drop=True) is None
    with pytest.raises(ApiError):
        column_of("FLIRT", {"TOXICITY": 0}, drop=True)
