"""Names of attributes in requests."""

import pytest

from toxicity.core.attributes import attributes_of
from toxicity.core.label_names import LABELS_2018
from toxicity.serve.attributes import label_of
from toxicity.serve.errors import ApiError

LABELS = {"TOXICITY": "toxic", "INSULT": "insult"}


def test_an_experimental_attribute_is_the_one_of_its_name():
    labels = attributes_of(LABELS_2018)
    assert [label_of(f"{name}_EXPERIMENTAL", labels) for name in labels] == [*labels.values()]


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
        label_of(attribute, LABELS)
    assert refused.value.message == message
    assert refused.value.details[0]["errorType"] == "INVALID_REQUEST"


def test_attributes_of_perspective_may_be_dropped():
    assert label_of("FLIRTATION", LABELS, drop=True) is None
    with pytest.raises(ApiError):
        label_of("FLIRT", LABELS, drop=True)
