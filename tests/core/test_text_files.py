import pytest

from toxicity.core.arguments import DataArguments
from toxicity.core.errors import RequestError
from toxicity.core.text_files import delimiter_of, encoding_of


@pytest.mark.parametrize(
    ("given", "delimiter"),
    [("tab", "\t"), ("\\t", "\t"), ("\t", "\t"), ("TAB", "\t"), (";", ";"), ("|", "|"), ("space", " "), ("§", "§")],
)
def test_what_separates_columns(given, delimiter):
    assert delimiter_of(given) == delimiter
    assert DataArguments(train_file="x.csv", delimiter=given).delimiter == delimiter


@pytest.mark.parametrize("given", ["", ";;", '"', "\n", "comma"])
def test_what_cannot_separate_columns(given):
    with pytest.raises(RequestError, match="--delimiter .* is not one character between columns"):
        delimiter_of(given)


@pytest.mark.parametrize(
    ("given", "encoding"),
    [
        ("utf8", "utf-8"),
        ("UTF-16", "utf-16"),
        ("latin1", "iso8859-1"),
        ("cp1252", "cp1252"),
        ("Windows-1252", "cp1252"),
    ],
)
def test_encodings(given, encoding):
    assert encoding_of(given) == encoding
    assert DataArguments(train_file="x.csv", encoding=given).encoding == encoding


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        *[("utf-88", "; the nearest is utf_8;"), ("base64", "; such as"), ("rot13", "; such as")],
        *[("klingon", "; such as"), ("a\0b", "; such as"), ("undefined", "; such as")],
    ],
)
def test_what_is_no_encoding_of_text(given, hint):
    with pytest.raises(RequestError, match=f"is no character encoding that Python knows{hint}"):
        encoding_of(given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train_file": "a.csv", "dataset_config_name": "x"}, "--dataset_config_name means nothing for --train_file"),
        ({"train_file": "a.csv", "dataset_revision": "x"}, "--dataset_revision means nothing for --train_file"),
        ({"train_file": "a.csv", "train_split_name": "x"}, "--train_split_name means nothing"),
        ({"train_file": "a.csv", "validation_split_name": "x"}, "--validation_split_name means nothing"),
        ({"dataset_name": "me/x", "delimiter": ";"}, "--delimiter means nothing for --dataset_name me/x: leave it out"),
        ({"dataset_name": "me/x", "encoding": "utf-8"}, "--encoding means nothing"),
        (
            {"dataset_name": "sample", "positive_labels": ["1"]},
            "--positive_labels means nothing for --dataset_name sample",
        ),
        ({"train_file": "a.csv", "delimiter": ""}, "--delimiter '' is not one character"),
        ({"train_file": "a.csv", "encoding": "x"}, "--encoding 'x' is no character encoding"),
        ({"dataset_name": "sample", "label_column_name": "x"}, "--label_column_name means nothing"),
        ({"dataset_name": "sample", "train_split_name": "x"}, "--train_split_name means nothing"),
    ],
)
def test_flags_that_describe_other_data(arguments, message):
    with pytest.raises(RequestError, match=message):
        DataArguments(**arguments)
