"""The flags that say how files of text are laid out."""

import pytest

from toxicity.core.errors import RequestError
from toxicity.data.readers.base import Layout, layout_of


@pytest.mark.parametrize(
    ("delimiter", "encoding", "expected"),
    [
        (None, None, Layout()),
        (";", None, Layout(";")),
        ("tab", None, Layout("\t")),
        ("TAB", None, Layout("\t")),
        (r"\t", None, Layout("\t")),
        ("\t", None, Layout("\t")),
        (" ", "UTF8", Layout(" ", "utf-8")),
        (None, "Windows-1252", Layout(None, "cp1252")),
        (None, "utf-16", Layout(None, "utf-16")),
    ],
)
def test_layouts(delimiter, encoding, expected):
    assert layout_of(delimiter, encoding) == expected


@pytest.mark.parametrize("delimiter", ["", ";;", "\n", "\r", '"', "\0", "comma"])
def test_what_cannot_separate_columns(delimiter):
    with pytest.raises(RequestError, match="--delimiter .* should be one character"):
        layout_of(delimiter, None)


@pytest.mark.parametrize("encoding", ["", "utf-9", "zip", "hex", "a\0b", "undefined"])
def test_what_is_no_encoding(encoding):
    with pytest.raises(RequestError, match="--encoding .*: Python knows no such encoding"):
        layout_of(None, encoding)
