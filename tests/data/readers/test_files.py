import contextlib
import gzip
import json

import pyarrow as pa
import pyarrow.parquet
import pytest
from builders import choose_all, write_csv
from hypothesis import given, settings
from hypothesis import strategies as st

from toxicity.core.arguments import DataArguments
from toxicity.core.errors import RequestError
from toxicity.data.readers import csv_blocks
from toxicity.data.readers.base import union_of
from toxicity.data.readers.files import read_files
from toxicity.data.sources import load_splits

CSV = b"id,text,target\n1,first,0\n2,second,1\n"


def read(path, choose=choose_all):
    table, _, broken = read_files([path], choose)
    return table.to_pydict(), broken


def test_files_come_in_their_order(tmp_path):
    for name, ids in (("b.csv", [3]), ("a.csv", [1, 2])):
        write_csv(tmp_path / name, ["id", "text"], [[i, "x"] for i in ids])
    table, files, _ = read_files([tmp_path / "b.csv", tmp_path / "a.csv"], choose_all)
    assert table["id"].to_pylist() == [b"3", b"1", b"2"]
    assert files == [(str(tmp_path / "b.csv"), 1), (str(tmp_path / "a.csv"), 2)]


@pytest.mark.parametrize(
    ("content", "ids", "broken"),
    [
        (b"id,text,target\n1,a,0\n2,b\n3,c,1\n", [b"1", b"2", b"3"], {}),
        (b"id,text,target\n1,a,0\n2,b,c,1\n3,c,1\n", [b"1", None, b"3"], {1: "4 columns instead of 3"}),
        (b'id,text,target\n1,"a\nb",0\n\n3,c,1\n4,d', [b"1", b"3", b"4"], {}),
        (b'id,text,target\n1,a,0\n3,c,1\n4,"cut', [b"1", b"3", None], {2: "its quotes do not match"}),
        (b'id,target,text\n1,0,a\n3,1,c\n4,0,"cut', [b"1", b"3", None], {2: "its quotes do not match"}),
        (b'id,target,text\n1,0,a\n3,1,c\n4,0,"he said ""', [b"1", b"3", None], {2: "its quotes do not match"}),
        (b'id,text,target\n1,a\n3,"cut, and', [b"1", None], {1: "its quotes do not match"}),
        (b'id,text,target\n1,5" nail,0\n3,c,1\n', [b"1", b"3"], {}),
        (b"id,text,target\n1,a\xff\n3,c,1\n", [b"1", b"3"], {}),
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
    monkeypatch.setattr(csv_blocks, "WINDOW_BYTES", 1000)
    lines = [f"{i},some text,0" for i in range(500)]
    lines[400] = "broken,as,it,is"
    (tmp_path / "c.csv").write_text("\n".join(["id,text,target", *lines]))
    table, broken = read(tmp_path / "c.csv")
    assert table["id"] == [None if i == 400 else str(i).encode() for i in range(500)]
    assert broken == {400: "4 columns instead of 3"}


def test_json_lines_with_values_of_many_kinds_are_read_as_a_csv_file_would_be(tmp_path):
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
        "target": [b"0.5", b"true", b"1" + b"0" * 30, b"0.25"],
    }
    assert broken == {}


def test_a_line_that_is_no_json_keeps_its_place(tmp_path):
    lines = [b'{"text": "a"}', b'{"text": ', b"[1]", b'{"text": ["b", "c"]}', b'{"text": "\xff"}', b'{"text": "c"}']
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
        ("c.csv", b"id,text,text\n1,a,b\n", "has the column `text` twice"),
        ("c.csv.gz", gzip.compress(CSV * 99, mtime=0)[:60], "damaged, cut off or locked"),
        ("c.csv.zip", b"PK\x03\x04 cut", "damaged, cut off or locked"),
        ("c.jsonl", b'{"text": "a"', "holds no JSON lines"),
        ("c.parquet", b"PAR1 and more", "cannot read"),
    ],
)
def test_files_that_are_none(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RequestError, match=message) as refusal:
        read(tmp_path / name)
    assert len(str(refusal.value).splitlines()) == 1


def test_the_union_of_files(tmp_path):
    write_csv(tmp_path / "a.csv", ["id", "text", "insult"], [[1, "x", 0.5]])
    (tmp_path / "b.jsonl").write_text('{"id": 7, "text": "y", "threat": 1}\n')
    pa.parquet.write_table(pa.table({"threat": [0.5], "text": ["z"]}), tmp_path / "c.parquet")
    table, files, _ = read_files([tmp_path / name for name in ("a.csv", "b.jsonl", "c.parquet")], choose_all)
    assert table.to_pydict() == {
        "id": [b"1", b"7", None],
        "text": [b"x", b"y", b"z"],
        "insult": [b"0.5", None, None],
        "threat": [None, 1.0, 0.5],
    }
    assert [rows for _, rows in files] == [1, 1, 1]


@pytest.mark.parametrize(
    ("columns", "kind", "values"),
    [
        ([pa.array([1]), pa.array([0.5])], pa.float64(), [1.0, 0.5]),
        ([pa.array([1]), pa.array(["a"])], pa.large_binary(), [b"1", b"a"]),
        ([pa.array([True]), pa.array([1])], pa.large_binary(), [b"true", b"1"]),
        ([pa.array([-1]), pa.array([2**63], pa.uint64())], pa.large_binary(), [b"-1", str(2**63).encode()]),
        ([pa.array([-1]), pa.array([3], pa.uint64())], pa.int64(), [-1, 3]),
        ([pa.nulls(1), pa.array([b"a"])], pa.binary(), [None, b"a"]),
        ([pa.array(["a"]), pa.array([b"\xff"])], pa.binary(), [b"a", b"\xff"]),
        ([pa.array([], pa.list_(pa.int8())), pa.array([b"a"])], pa.binary(), [b"a"]),
        ([pa.array([2**60 + 1]), pa.array([0.5, None])], pa.large_binary(), [str(2**60 + 1).encode(), b"0.5", None]),
    ],
)
def test_the_union_of_types(columns, kind, values):
    table = union_of([pa.table({"x": column}) for column in columns])
    assert (table.schema.field("x").type, table["x"].to_pylist()) == (kind, values)


def test_types_that_cannot_be_text_have_no_union():
    tables = [pa.table({"x": pa.array([(1, 2, 3)], pa.month_day_nano_interval())}), pa.table({"x": ["a"]})]
    with pytest.raises(RequestError, match="the column `x` is of several types: .* Make them alike"):
        union_of(tables)


def test_lists_and_numbers_have_no_union(tmp_path):
    for name, values in (("a.parquet", [[1, 2]]), ("b.parquet", [1])):
        pa.parquet.write_table(pa.table({"x": values}), tmp_path / name)
    with pytest.raises(RequestError, match=r"the column `x` is list.* in .*a.parquet and int64 in .*b.parquet"):
        read_files([tmp_path / "a.parquet", tmp_path / "b.parquet"], choose_all)


def test_a_comment_longer_than_the_parsers_own_block(tmp_path):
    write_csv(tmp_path / "c.csv", ["id", "text"], [[1, "x" * 3_000_000], [2, "y"]])
    table, bad = read(tmp_path / "c.csv")
    assert [len(text) for text in table["text"]] == [3_000_000, 1]
    assert bad == {}


# Carriage returns are line ends to a CSV parser, also within quotes; NULs and surrogates are for other tests.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), min_size=1, max_size=40)


@settings(deadline=None)
@given(st.lists(st.tuples(TEXTS, st.floats(0, 1)), min_size=1, max_size=20))
def test_what_csv_wrote_is_read(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "c.csv"
    write_csv(path, ["id", "text", "target"], [[i, *row] for i, row in enumerate(rows)])
    table, bad = read(path)
    assert bad == {}
    assert [text.decode() for text in table["text"]] == [text for text, _ in rows]
    assert [float(target) for target in table["target"]] == [target for _, target in rows]


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", b"id,text,target\n"]))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content, header):
    folder = tmp_path_factory.mktemp("bytes")
    for name in ("c.csv", "c.jsonl", "c.parquet", "c.csv.gz", "c.zip"):
        (folder / name).write_bytes(header + content)
        with contextlib.suppress(RequestError):
            load_splits(DataArguments(train_file=str(folder / name), on_bad_rows="drop"))


@settings(deadline=None)
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
