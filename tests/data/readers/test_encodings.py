"""Files of text in other encodings: named, told by a mark, or guessed for the message that names one."""

import gzip

import pandas as pd
import pytest
from builders import choose_all
from layouts import CSV

from toxicity.core.errors import RequestError
from toxicity.data.readers.base import Layout
from toxicity.data.readers.encodings import likely_encoding
from toxicity.data.readers.files import read_files


def read(path, content, **layout):
    path.write_bytes(content)
    table, _, broken = read_files([path], choose_all, Layout(**layout))
    return [text.decode() for text in table["text"].to_pylist()], broken


@pytest.mark.parametrize(
    ("encoding", "delimiter"), [("cp1252", ","), ("utf-16-le", "\t"), ("shift_jis", ","), ("utf-8", ";")]
)
def test_an_encoding_and_a_delimiter_that_are_named(tmp_path, encoding, delimiter):
    texts = ["schön", "café"] if encoding != "shift_jis" else ["日本語", "はい"]
    content = pd.DataFrame({"text": texts}).assign(target=1).to_csv(sep=delimiter, index=False).encode(encoding)
    assert read(tmp_path / "c.csv", content, delimiter=delimiter, encoding=encoding) == (texts, {})


def test_bytes_that_are_not_in_the_encoding_spoil_their_cell_alone(tmp_path):
    (tmp_path / "c.csv").write_bytes(b"text,target\nsch\xf6n,0\na\x81b,1\n")
    table, _, broken = read_files([tmp_path / "c.csv"], choose_all, Layout(encoding="cp1252"))
    assert table["text"].to_pylist() == ["schön".encode(), b"a\x81b"]
    assert table["target"].to_pylist() == [b"0", b"1"]
    assert broken == {}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (CSV.decode().encode("utf-16-be"), "give --encoding utf-16-be"),
        (CSV, "if it is utf-16, give --encoding utf-16-le"),
    ],
)
def test_utf_16_without_its_mark(tmp_path, content, told):
    with pytest.raises(RequestError, match=f"c.csv does not begin with the byte order mark of utf-16: {told}"):
        read(tmp_path / "c.csv", content, encoding="utf-16")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Das ist schön und größer als früher, sagte er über die Straße.", "cp1252"),
        ("déjà vu, l'été à la plage", "cp1252"),
        ("caf\xe9", "cp1252"),
        ("“smart quotes” – and it’s", "cp1252"),
        ("zażółć gęślą jaźń, to głupi komentarz", "cp1250"),
        ("Это очень глупый комментарий, и автор его ничего не понимает в том, о чём пишет.", "cp1251"),
        ("これは日本語のコメントです。とても良いと思います。ありがとうございました。", "shift_jis"),
    ],
)
def test_the_likely_encoding(tmp_path, text, encoding):
    path = tmp_path / "c.csv.gz"
    path.write_bytes(gzip.compress(("text,target\n" + "ascii only,0\n" * 99 + f"{text},1\n" * 3).encode(encoding)))
    assert text.encode(encoding).decode(likely_encoding(path)) == text


@pytest.mark.parametrize(
    ("content", "encoding"),
    [(b"text\nplain\n", None), (b"PAR1\0\xe9 \xe9", None), ("caf\xe9 \xdd\n".encode(), "utf-8")],
)
def test_files_that_have_no_other_encoding(tmp_path, content, encoding):
    (tmp_path / "c.csv").write_bytes(content)
    assert likely_encoding(tmp_path / "c.csv") == encoding
