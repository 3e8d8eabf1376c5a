"""Every layout of file that people have gives the same rows, or is refused with the sentence that helps."""

import gzip
import io
import json
import pickle
import tarfile
import uuid

import pyarrow as pa
import pytest
from builders import choose_all
from layouts import (
    CSV,
    FRAME,
    LAYOUTS,
    PLAIN,
    TARGETS,
    TEXTS,
    arrow_bytes,
    with_classes,
    write_parquet,
    write_stream,
    zipped,
)

from toxicity.core.errors import RequestError
from toxicity.data.readers import files
from toxicity.data.readers.base import Layout
from toxicity.data.readers.files import read_files, read_windows

WANTED = {"id": "id", "text": "text", "target": "target"}


def choose(names, source):
    assert set(WANTED) <= set(names), names
    return WANTED


def as_text(column):
    return [value.decode() if isinstance(value, bytes) else value for value in column.to_pylist()]


def read(path, content, choose=choose_all, layout=files.DEFAULT_LAYOUT):
    path.write_bytes(content)
    table, _, broken = read_files([path], choose, layout)
    return {name: as_text(column) for name, column in zip(table.column_names, table.columns, strict=True)}, broken


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_same_rows(tmp_path, name):
    rows, broken = read(tmp_path / name, LAYOUTS[name], choose)
    assert broken == {}
    assert rows["text"] == TEXTS
    assert [int(value) for value in rows["id"]] == [10, 11, 12, 13]
    assert [int(value) for value in rows["target"]] == TARGETS
    windows = list(read_windows(tmp_path / name, choose, 3, 2**25))
    assert [text for window in windows for text in as_text(window.table["text"])] == TEXTS
    assert windows[-1].share == 1.0


def html(page):
    return f"<!DOCTYPE html>\n<html><body>{page}</body></html>".encode()


def tar():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        entry = tarfile.TarInfo("c.csv")
        entry.size = len(CSV)
        archive.addfile(entry, io.BytesIO(CSV))
    return file.getvalue()


REFUSED = {
    "book.csv": (zipped(**{"xl/workbook.xml": b"x"}), "is an Excel workbook: save it as CSV"),
    "old book.csv": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), "is an old Excel or Word document"),
    "office.csv": (zipped(**{"mimetype": b"x", "content.xml": b"x"}), "is an office document"),
    "login.csv": (html("Sign in"), "is a web page, perhaps a login"),
    "login.csv.gz": (gzip.compress(html("Sign in")), "is a web page"),
    "page.json": (b"\xef\xbb\xbf \n<html>", "is a web page"),
    "pickled.csv": (pickle.dumps({"text": ["a"]}), "is a pickle, which could run a program"),
    "torch.csv": (zipped(**{"archive/data.pkl": b"x"}), "is a file of PyTorch"),
    "arrays.csv": (zipped(**{"text.npy": b"x"}), "is an archive of NumPy arrays"),
    "database.csv": (b"SQLite format 3\0" + bytes(99), "is an SQLite database: export its table as CSV"),
    "paper.txt": (b"%PDF-1.7\n", "is a PDF"),
    "pointer.csv": (b"version https://git-lfs.github.com/spec/v1\n", "fetch them with `git lfs pull`"),
    "tarred.csv": (tar(), "is a tar archive: unpack it"),
    "c.csv.gz": (gzip.compress(tar()), "is a tar archive: unpack it"),
    "program.csv": (b"\x7fELF" + bytes(99), "is a program"),
    "old.feather": (b"FEA1\0\0\0\0" + bytes(99), "is a Feather file of version 1"),
    "twice.csv.gz": (gzip.compress(gzip.compress(CSV)), "is packed twice"),
    "c.parquet.gz": (gzip.compress(arrow_bytes(write_parquet, PLAIN)), "is a packed parquet or Arrow file: unpack it"),
    "both.zip": (zipped(**{"a.csv": CSV, "b.csv": CSV}), "should hold one data file; it holds a.csv, b.csv: unpack it"),
    "none.zip": (zipped(), "should hold one data file; it holds none"),
    "no.parquet": (CSV, "it is no parquet or Arrow file, as its name says"),
    "no mark.csv": (CSV.decode().encode("utf-16-le"), "is not UTF-8 but utf-16-le, and has no byte order mark"),
    "no mark be.csv": (CSV.decode().encode("utf-16-be"), "give --encoding utf-16-be"),
    "no mark 32.csv": (CSV.decode().encode("utf-32-le"), "give --encoding utf-32-le"),
    "latin.csv": ("id,täxt,größe\n1,schön,0\n".encode("cp1252"), "it seems to be cp1252: give --encoding cp1252"),
    "cut.json": (json.dumps([{"text": "a"}, {"text": "b"}]).encode()[:-5], "element 2 of its JSON array"),
    "more.json": (b'[{"text": "a"}] {"text": "b"}', "goes on behind its JSON array"),
    "comma.json": (b'[{"text": "a"} {"text": "b"}]', "element 2 of its JSON array: `,` is missing"),
    "words.json": (b'["a", "b"]', "holds no JSON lines"),
    "number.json": (b"17", "holds no JSON lines"),
    "nothing.json": (b"[]", "holds no JSON lines: it is blank"),
    "not closed.json": (b'{\n"text": {"0": "a"},\n', "holds no JSON lines"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_something_else_is_called_by_its_name(tmp_path, name):
    content, message = REFUSED[name]
    with pytest.raises(RequestError) as refusal:
        read(tmp_path / name, content)
    assert message in str(refusal.value)
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize("name", ["c.csv.gz", "c.csv.bz2", "c.tsv.xz", "c.csv.zst", "c.zip", "c.parquet", "c.feather"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_file_that_is_cut_off(tmp_path, name, share):
    content = LAYOUTS[name]
    with pytest.raises(RequestError, match="damaged, cut off or locked|cannot read"):
        read(tmp_path / name, content[: int(len(content) * share)])


def test_a_locked_archive(tmp_path):
    locked = bytearray(LAYOUTS["c.zip"])
    locked[6] |= 1  # the flags of the file's own header, and of the archive's directory
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(RequestError, match="damaged, cut off or locked: .*password"):
        read(tmp_path / "c.zip", bytes(locked))


ONE_COLUMN = b"text\nso kind\nyou, liar\n1, 2, 3\n"
SHORT = b"id,text,target,insult\n1,a,0\n2,b\n3,c,1,0,,\n4,d,1,0,x\n5\n"


def test_text_behind_a_comma_is_no_second_column(tmp_path):
    rows, broken = read(tmp_path / "c.csv", ONE_COLUMN)
    assert rows == {"text": ["so kind", None, None]}
    assert broken == {1: "2 columns instead of 1", 2: "3 columns instead of 1"}


@pytest.mark.parametrize("content", [b"text\n1,so kind\n2,you liar\n3,yes\n", b"text,target\n0,a,0\n1,b, 1\n"])
def test_rows_that_count_up_below_a_header_without_quotes_are_not_sure_to_have_names(tmp_path, content):
    rows, broken = read(tmp_path / "c.csv", content)
    assert len(broken) == len(rows["text"])


def test_rows_without_their_last_cells(tmp_path):
    rows, broken = read(tmp_path / "c.csv", SHORT)
    assert rows["text"] == ["a", "b", "c", None, None]
    assert rows["target"] == ["0", None, "1", None, None]
    assert rows["insult"] == [None, None, "0", None, None]
    assert broken == {3: "5 columns instead of 4"}


def test_one_comment_a_line(tmp_path, caplog):
    caplog.set_level("INFO", logger="toxicity")
    rows, broken = read(tmp_path / "c.txt", b'so kind\r\n\nyou, "liar"\nlast', layout=Layout(txt_holds_lines=True))
    assert (rows, broken) == ({"text": ["so kind", None, 'you, "liar"', "last"]}, {})
    assert "one comment a line; with --delimiter it is a table" in caplog.text


UUIDS = [uuid.UUID(int=2**127 + number) for number in range(4)]
STORED = pa.array([value.bytes for value in UUIDS], pa.binary(16))


@pytest.mark.parametrize("write", [write_parquet, write_stream])
@pytest.mark.parametrize("column", [STORED, pa.ExtensionArray.from_storage(pa.uuid(), STORED)])
def test_uuids_are_text(tmp_path, write, column):
    rows, _ = read(tmp_path / "c.arrow", arrow_bytes(write, PLAIN.set_column(0, "id", column)))
    assert rows["id"] == list(map(str, UUIDS))


@pytest.mark.parametrize("kind", [pa.list_(pa.int64()), pa.large_list(pa.int8()), pa.list_(pa.int64(), 1)])
def test_lists_of_one_are_their_element(tmp_path, kind):
    lists = pa.array([[1], [0], None, [1]], kind)
    rows, _ = read(tmp_path / "c.parquet", arrow_bytes(write_parquet, PLAIN.set_column(2, "target", lists)))
    assert rows["target"] == [1, 0, None, 1]


@pytest.mark.parametrize("write", [write_parquet, write_stream])
def test_classes_are_their_names(tmp_path, write):
    table = with_classes(PLAIN.set_column(2, "target", pa.array([0, 1, -1, 7])), ["toxic", "non-toxic"])
    rows, _ = read(tmp_path / "c.arrow", arrow_bytes(write, table))
    assert rows["target"] == ["toxic", "non-toxic", None, None]


@pytest.mark.parametrize("kind", ["List", "Sequence", None])
def test_classes_in_lists_of_one_are_their_names(tmp_path, kind):
    table = PLAIN.set_column(2, "target", pa.array([[0], [1], [0], []]))
    feature = {"names": ["toxic", "non-toxic"], "_type": "ClassLabel"}
    features = {"target": {"feature": feature, "_type": kind} if kind else [feature]}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    rows, _ = read(tmp_path / "c.parquet", arrow_bytes(write_parquet, table))
    assert rows["target"] == ["toxic", "non-toxic", "toxic", None]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([True, None, False], pa.bool_(), [True, None, False]),
        ([1, None], pa.int64(), [1, None]),
        ([0.5, 1.0], pa.float64(), [0.5, 1.0]),
        ([0.5, 1], pa.binary(), [b"0.5", b"1"]),
        ([True, 1, "yes"], pa.binary(), [b"true", b"1", b"yes"]),
        ([10**30, 1], pa.binary(), [b"1" + b"0" * 30, b"1"]),
        ([None, None], pa.null(), [None, None]),
        ([["a"], "b"], pa.binary(), [b"a", b"b"]),
        (["a", float("nan")], pa.binary(), [b"a", None]),
        ([1, [float("nan")]], pa.int64(), [1, None]),
    ],
)
def test_types_of_json(tmp_path, values, kind, expected):
    path = tmp_path / "c.json"
    path.write_text(json.dumps([{"text": "a", "target": value} for value in values]))
    table, _, broken = read_files([path], choose_all)
    assert (table.schema.field("target").type, table["target"].to_pylist(), broken) == (kind, expected, {})


def test_a_broken_row_of_json_is_null_in_all_columns(tmp_path):
    rows, broken = read(tmp_path / "c.jsonl", b'{"id": 1, "text": "a"}\n{"id": 2, "text": {"b": 1}}\n{"id": 3}\n')
    assert rows == {"id": [1, None, 3], "text": ["a", None, None]}
    assert broken == {1: "its `text` is neither text nor a number"}


def test_a_key_that_comes_up_late_is_a_column(tmp_path, monkeypatch):
    from toxicity.data.readers import json as reader

    monkeypatch.setattr(reader, "LIMIT", base_limit := reader.Limit(2, 2**20))
    assert base_limit.rows == 2
    lines = [{"text": str(number)} for number in range(5)] + [{"text": "5", "insult": 1}]
    rows, _ = read(tmp_path / "c.jsonl", "\n".join(map(json.dumps, lines)).encode())
    assert rows == {"text": list("012345"), "insult": [None] * 5 + [1]}


def test_a_name_that_is_not_utf_8_can_be_read_and_printed(tmp_path):
    for name in ("caf\udce9.csv", "caf\udce9.parquet", "caf\udce9.csv.zst", "caf\udce9.arrow"):
        source = name.replace("caf\udce9", "c").replace("c.arrow", "file.arrow")
        rows, _ = read(tmp_path / name, LAYOUTS[source])
        assert rows["text"] == TEXTS
    with pytest.raises(RequestError) as refusal:
        read(tmp_path / "caf\udce9.csv", b"")
    assert r"caf\udce9.csv is empty" in str(refusal.value)
    str(refusal.value).encode()


def test_the_frame_is_what_it_should_be():
    assert FRAME["text"].tolist() == TEXTS
