import pyarrow as pa
import pytest

from toxicity.data.near_duplicates import groups_of_texts

TEXT = "Thank you for the kind note"


def groups(*texts, type_=None):
    return groups_of_texts(pa.chunked_array([list(texts)], type_ or pa.large_string())).tolist()


@pytest.mark.parametrize(
    "other",
    [
        TEXT,
        "THANK YOU, for the  kind note!!!",
        "\tthank you for\r\nthe kind note \u00a0",
        "1. Thank you for the kind note 2026-11-26",
        "“Thank you” – for the kind note 🙂",
        "Ｔｈａｎｋ you for the kind note",
    ],
)
def test_case_spaces_digits_signs_and_compatible_forms_make_no_difference(other):
    assert groups(TEXT, other) == [0, 0]


@pytest.mark.parametrize("other", ["Thank you for the kind notes", "Thankyou for the kind note", "note kind the for"])
def test_other_words_are_another_text(other):
    assert groups(TEXT, other) == [0, 1]


def test_texts_without_letters_are_like_themselves_alone():
    assert groups("!!!", "???", "!!!", "12", "13") == [0, 1, 0, 2, 3]


def test_marks_on_letters_are_part_of_them():
    assert groups("कि", "का") == [0, 1]
    assert groups("caf\u00e9", "CAFE\u0301", "cafe") == [0, 0, 1]


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string()])
def test_chunks_make_no_difference(type_):
    texts = pa.chunked_array([["a b", "c"], [], ["A, B"]], type_)
    assert groups_of_texts(texts).tolist() == [0, 1, 0]
    assert groups_of_texts(texts).dtype == "int64"
