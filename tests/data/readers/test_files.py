import contextlib
import gzip
import json
import zipfile

import pytest
from builders import choose_all, write_csv
from hypothesis import given
from hypothesis import strategies as st

from toxicity.core.arguments import DataArguments
from toxicity.core.errors import RequestError
from toxicity.data.readers import base
from toxicity.data.readers.files import read_files
from toxicity.data.sources import load_splits

CSV = b"id,text,target\n1,first,0\n2,second,1\n"


def read(path, choose=choose_all):
    table, _, broken = read_files([path], choose)
    return table.to_pydict(), broken


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.csv", CSV),
        ("c.CSV", CSV),
        ("c.csv.gz", gzip.compress(CSV, mtime=0)),
        ("c.csv.GZ", gzip.compress(CSV, mtime=0)),
        ("bom.csv", b"\xef\xbb\xbf" + CSV),
        ("crlf.csv", CSV.replace(b"\n", b"\r\n")),
        ("open.csv", CSV.rstrip()),
    ],
)
def test_csv_in_every_dress(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    rows = {"id": [b"1", b"2"], "text": [b"first", b"second"], "target": [b"0", b"1"]}
    assert read(tmp_path / name) == (rows, {})


def test_a_zip_with_one_csv(tmp_path):
    with zipfile.ZipFile(tmp_path / "train.csv.zip", "w") as archive:
        archive.writestr("train.csv", CSV)
        archive.writestr("__MACOSX/._train.csv", b"x")
    assert read(tmp_path / "train.csv.zip")[0]["id"] == [b"1", b"2"]


def test_a_zip_with_two(tmp_path):
    with zipfile.ZipFile(tmp_path / "both.zip", "w") as archive:
        archive.writestr("a.csv", CSV)
        archive.writestr("b.csv", CSV)
    with pytest.raises(RequestError, match="should hold one CSV file; it holds a.csv, b.csv"):
        read(tmp_path / "both.zip")


def test_shards_of_a_folder_come_in_the_order_of_their_names(tmp_path):
    for name, ids in (("b.csv", [3]), ("a.csv", [1, 2])):
        write_csv(tmp_path / name, ["id", "text"], [[i, "x"] for i in ids])
    (tmp_path / "notes.txt").write_text("not data")
    table, files, _ = read_files(sorted(tmp_path.glob("*.csv")), choose_all)
    assert table["id"].to_pylist() == [b"1", b"2", b"3"]
    assert files == [(str(tmp_path / "a.csv"), 2), (str(tmp_path / "b.csv"), 1)]


@pytest.mark.parametrize(
    ("content", "ids", "broken"),
    [
        (b"id,text,target\n1,a,0\n2,b\n3,c,1\n", [b"1", None, b"3"], {1: "2 columns instead of 3"}),
        (b"id,text,target\n1,a,0\n2,b,c,1\n3,c,1\n", [b"1", None, b"3"], {1: "4 columns instead of 3"}),
        (b'id,text,target\n1,"a\nb",0\n\n3,c,1\n4,d', [b"1", b"3", None], {2: "2 columns instead of 3"}),
        (b'id,text,target\n1,a,0\n3,c,1\n4,"cut', [b"1", b"3", None], {2: "its quotes do not match"}),
        (b'id,target,text\n1,0,a\n3,1,c\n4,0,"cut', [b"1", b"3", None], {2: "its quotes do not match"}),
        (b'id,target,text\n1,0,a\n3,1,c\n4,0,"he said ""', [b"1", b"3", None], {2: "its quotes do not match"}),
        (b'id,text,target\n1,a\n3,"cut, and', [None, None], {0: "2 columns", 1: "its quotes do not match"}),
        (b'id,text,target\n1,5" nail,0\n3,c,1\n', [b"1", b"3"], {}),
        (b"id,text,target\n1,a\xff\n3,c,1\n", [None, b"3"], {0: "2 columns instead of 3"}),
    ],
)
def test_broken_rows_keep_their_place(tmp_path, content, ids, broken):
    (tmp_path / "c.csv").write_bytes(content)
    table, found = read(tmp_path / "c.csv")
    assert table["id"] == ids
    assert found.keys() == broken.keys()
    for row, reason in broken.items():
        assert found[row].startswith(reason)


def test_rows_are_numbered_right_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "BLOCK_BYTES", 1000)
    lines = [f"{i},some text,0" for i in range(500)]
    lines[400] = "broken"
    (tmp_path / "c.csv").write_text("\n".join(["id,text,target", *lines]))
    table, broken = read(tmp_path / "c.csv")
    assert table["id"] == [None if i == 400 else str(i).encode() for i in range(500)]
    assert broken == {400: "1 columns instead of 3"}


def test_json_lines_are_read_as_a_csv_file_would_be(tmp_path):
    records = [
        {"text": "2020-01-01", "target": 0.5, "more": [1]},
        {"text": "b\0", "target": True},
        {"text": "\ud800", "target": 10**30},
        {"text": None, "target": "0.25"},
    ]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, records)))
    table, broken = read(tmp_path / "c.jsonl", lambda names, source: {"text": "text", "target": "target"})
    assert table == {
        "text": [b"2020-01-01", b"b\0", b"\xed\xa0\x80", None],
        "target": [b"0.5", b"1", b"1" + b"0" * 30, b"0.25"],
    }
    assert broken == {}


def test_a_line_that_is_no_json_keeps_its_place(tmp_path):
    lines = [b'{"text": "a"}', b'{"text": ', b"[1]", b'{"text": ["b"]}', b'{"text": "\xff"}', b'{"text": "c"}']
    (tmp_path / "c.jsonl").write_bytes(b"\n".join(lines))
    table, broken = read(tmp_path / "c.jsonl")
    assert table == {"text": [b"a", None, None, None, None, b"c"]}
    assert sorted(broken) == [1, 2, 3, 4]
    assert "one JSON object a line" in broken[2]
    assert "neither text nor a number" in broken[3]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.csv", b"", "is empty"),
        ("c.csv", b"id;text;target\n1;a;0\n", "separated by semicolons; it should be by commas"),
        ("c.csv", b"id\ttext\ttarget\n1\ta\t0\n", "separated by tabs"),
        ("c.csv", b"id,text,text\n1,a,b\n", "has the column `text` twice"),
        ("c.csv", "id,text,target\n1,a,0\n".encode("utf-16"), "not UTF-8"),
        ("c.csv.gz", gzip.compress(CSV * 99, mtime=0)[:60], "damaged, cut off or locked"),
        ("c.csv.gz", CSV, "damaged, cut off or locked"),
        ("c.csv.zip", b"PK\x03\x04 cut", "damaged, cut off or locked"),
        ("c.jsonl", b'{"text": "a"', "holds no JSON lines"),
        ("c.json", b'[{"text": "a"}]', "one JSON object a line"),
        ("c.parquet", b"PAR1 and more", "cannot read"),
        ("c.txt", b"text", "should end in one of .csv"),
    ],
)
def test_files_that_are_none(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RequestError, match=message) as refusal:
        read(tmp_path / name)
    assert len(str(refusal.value).splitlines()) == 1


def test_a_folder_without_data(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(RequestError, match="holds no data"):
        read(tmp_path)


def test_shards_with_other_columns(tmp_path):
    write_csv(tmp_path / "a.csv", ["id", "text"], [[1, "x"]])
    write_csv(tmp_path / "b.csv", ["id", "body"], [[1, "x"]])
    with pytest.raises(RequestError, match="b.csv has the columns id, body, but .*a.csv has id, text"):
        read(tmp_path)


def test_a_comment_longer_than_the_parsers_own_block(tmp_path):
    write_csv(tmp_path / "c.csv", ["id", "text"], [[1, "x" * 3_000_000], [2, "y"]])
    table, bad = read(tmp_path / "c.csv")
    assert [len(text) for text in table["text"]] == [3_000_000, 1]
    assert bad == {}


# Carriage returns are line ends to a CSV parser, also within quotes; NULs and surrogates are for other tests.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), min_size=1, max_size=40)


@given(st.lists(st.tuples(TEXTS, st.floats(0, 1)), min_size=1, max_size=20))
def test_what_csv_wrote_is_read(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "c.csv"
    write_csv(path, ["id", "text", "target"], [[i, *row] for i, row in enumerate(rows)])
    table, bad = read(path)
    assert bad == {}
    assert [text.decode() for text in table["text"]] == [text for text, _ in rows]
    assert [float(target) for target in table["target"]] == [target for _, target in rows]


@given(st.binary(max_size=300), st.sampled_from([b"", b"id,text,target\n"]))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content, header):
    folder = tmp_path_factory.mktemp("bytes")
    for name in ("c.csv", "c.jsonl", "c.parquet", "c.csv.gz", "c.zip"):
        (folder / name).write_bytes(header + content)
        with contextlib.suppress(RequestError):
            load_splits(DataArguments(train_file=str(folder / name), on_bad_rows="drop"))


@given(st.integers(0, 10**6))
def test_a_csv_cut_anywhere_tells_of_the_row_that_was_cut(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("cut") / "c.csv"
    rows = [[f"{i:04d}", "0.25", 'a "quoted", long\ntext ' * 2] for i in range(100)]
    write_csv(path, ["id", "target", "text"], rows)
    whole = path.read_bytes()
    path.write_bytes(whole[: 20 + cut % (len(whole) - 20)])
    table, broken = read(path)
    count = len(table["id"])
    assert count >= path.read_bytes().count(b"\r\n") - 1
    for row in range(count - 1):
        assert (table["id"][row].decode(), table["text"][row].decode()) == (rows[row][0], rows[row][2])
    assert set(broken) <= {count - 1}
    if count and count - 1 not in broken:
        # A cut right after a quote within the text looks like its end; nothing tells them apart.
        assert rows[count - 1][2].startswith((table["text"][-1] or b"").decode())


def test_a_blank_line_is_no_row_also_where_there_is_one_column(tmp_path):
    (tmp_path / "c.csv").write_text("text\na\n\nb\n")
    assert read(tmp_path / "c.csv")[0]["text"] == [b"a", b"b"]
    (tmp_path / "c.csv").write_text('text\na\n\nb\n"cut')
    assert read(tmp_path / "c.csv")[0]["text"] == [b"a", b"b", None]
