import numpy as np
import pytest

from toxicity.core.schema import find_columns, hard_labels, polarity


def test_one_half_is_toxic():
    labels = hard_labels(np.array([0.0, 0.4999, 0.5, 1.0]))
    assert labels.tolist() == [0.0, 0.0, 1.0, 1.0]
    assert labels.dtype == np.float32


@pytest.mark.parametrize(
    ("word", "is_toxic"),
    [
        ("toxic", True),
        ("Non-Toxic", False),
        ("not toxic", False),
        ("OFF", True),
        ("NOT", False),
        ("noHate", False),
        ("nothate", False),
        ("not_offensive", False),
        ("hate speech", True),
        ("neither", False),
        ("is_safe", False),
        ("is_toxic", True),
        ("is_clean", False),
        ("isn't", None),
        ("LABEL_1", None),
        ("yes", None),
        ("positive", None),
        ("note", None),
        ("toxic2", None),
        ("1", None),
        ("", None),
    ],
)
def test_the_name_of_a_class_says_whether_it_is_toxic_or_says_nothing(word, is_toxic):
    assert polarity(word) is is_toxic


@pytest.mark.parametrize(
    ("name", "names", "found"),
    [
        ("comment text", ["id", "Comment_Text"], ["Comment_Text"]),
        ("rude", ["Rude!", "rude?"], ["Rude!", "rude?"]),
        ("की", ["का", "क"], []),  # words that differ in their vowels
        ("की", ["का", "[की]"], ["[की]"]),
    ],
)
def test_names_are_the_same_if_their_letters_are(name, names, found):
    assert find_columns((name,), names) == found
