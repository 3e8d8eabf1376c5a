import gzip
import json
import zipfile

import pytest
from conftest import write_csv
from hypothesis import given
from hypothesis import strategies as st

from toxicity import reading
from toxicity.errors import RequestError
from toxicity.reading import read_files

CSV = b"id,text,target\n1,first,0\n2,second,1\n"


def choose_all(names, source):
    return names


def read(path, choose=choose_all):
    table, _, bad_rows = read_files(str(path), choose)
    return table.to_pydict(), [(bad.row, bad.reason) for bad in bad_rows]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.csv", CSV),
        ("c.CSV", CSV),
        ("c.csv.gz", gzip.compress(CSV)),
        ("bom.csv", b"\xef\xbb\xbf" + CSV),
        ("crlf.csv", CSV.replace(b"\n", b"\r\n")),
        ("open.csv", CSV.rstrip()),
    ],
)
def test_csv_in_every_dress(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    rows = {"id": [b"1", b"2"], "text": [b"first", b"second"], "target": [b"0", b"1"]}
    assert read(tmp_path / name) == (rows, [])


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
    table, files, _ = read_files(str(tmp_path), choose_all)
    assert table["id"].to_pylist() == [b"1", b"2", b"3"]
    assert files == [(str(tmp_path / "a.csv"), 2), (str(tmp_path / "b.csv"), 1)]


@pytest.mark.parametrize(
    ("content", "bad"),
    [
        (b"id,text,target\n1,a,0\n2,b\n3,c,1\n", [(2, "2 columns instead of 3")]),
        (b"id,text,target\n1,a,0\n2,b,c,1\n3,c,1\n", [(2, "4 columns instead of 3")]),
        (b'id,text,target\n1,"a\nb",0\n3,c,1\n4,d', [(3, "2 columns instead of 3")]),
        (b'id,text,target\n1,a,0\n3,c,1\n4,"cut', [(3, "2 columns instead of 3")]),
        (b'id,target,text\n1,0,a\n3,1,c\n4,0,"cut', [(3, "the file ends inside a quoted text")]),
    ],
)
def test_broken_rows_are_numbered_and_left_out(tmp_path, content, bad):
    (tmp_path / "c.csv").write_bytes(content)
    table, found = read(tmp_path / "c.csv")
    assert table["id"] == [b"1", b"3"]
    assert [(row, reason[: len(bad[0][1])]) for row, reason in found] == bad


def test_rows_are_numbered_right_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "BLOCK_BYTES", 1000)
    lines = [f"{i},some text,0" for i in range(1, 501)]
    lines[399] = "broken"
    (tmp_path / "c.csv").write_text("\n".join(["id,text,target", *lines]))
    table, bad = read(tmp_path / "c.csv")
    assert len(table["id"]) == 499
    assert bad == [(400, "1 columns instead of 3")]


def test_json_lines(tmp_path):
    records = [{"text": "a", "target": 0.5, "more": [1]}, {"text": "b\u0000", "target": 1}]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, records)))
    table, bad = read(tmp_path / "c.jsonl", lambda names, source: ["text", "target"])
    assert (table, bad) == ({"text": ["a", "b\x00"], "target": [0.5, 1.0]}, [])


def test_a_line_that_is_no_json_is_numbered(tmp_path):
    (tmp_path / "c.jsonl").write_text('{"text": "a"}\n{"text": \n[1]\n{"text": "b"}\n')
    table, bad = read(tmp_path / "c.jsonl")
    assert table == {"text": ["a", "b"]}
    assert [row for row, _ in bad] == [2, 3]
    assert "one JSON object a line" in bad[1][1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.csv", b"", "is empty"),
        ("c.csv", b"id;text;target\n1;a;0\n", "separated by semicolons; it should be by commas"),
        ("c.csv", b"id\ttext\ttarget\n1\ta\t0\n", "separated by tabs"),
        ("c.csv", b"id,text,text\n1,a,b\n", "has the column `text` twice"),
        ("c.csv", "id,text,target\n1,a,0\n".encode("utf-16"), "not UTF-8"),
        ("c.csv.gz", gzip.compress(CSV * 99)[:60], "damaged or cut off"),
        ("c.csv.gz", CSV, "damaged or cut off"),
        ("c.csv.zip", b"PK\x03\x04 cut", "damaged or cut off"),
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
    assert bad == []


# Carriage returns are line ends to a CSV parser, also within quotes; NULs and surrogates are for other tests.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), min_size=1, max_size=40)


@given(st.lists(st.tuples(TEXTS, st.floats(0, 1)), min_size=1, max_size=20))
def test_what_csv_wrote_is_read(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "c.csv"
    write_csv(path, ["id", "text", "target"], [[i, *row] for i, row in enumerate(rows)])
    table, bad = read(path)
    assert bad == []
    assert [text.decode() for text in table["text"]] == [text for text, _ in rows]
    assert [float(target) for target in table["target"]] == [target for _, target in rows]


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("bytes")
    for name in ("c.csv", "c.jsonl", "c.parquet", "c.csv.gz", "c.zip"):
        (folder / name).write_bytes(content)
        try:
            table, bad = read(folder / name)
        except RequestError:
            continue
        assert len({len(column) for column in table.values()}) <= 1
        assert all(row >= 1 and reason for row, reason in bad)


@given(st.integers(1, 10_000))
def test_a_csv_cut_anywhere_loses_no_row_in_silence(tmp_path_factory, cut):
    """Whatever is left of the file: its rows are right, but for the last one, or the cut is told."""
    path = tmp_path_factory.mktemp("cut") / "c.csv"
    rows = [[f"{i:04d}", 'a "quoted", long\ntext ' * 3, "0.25"] for i in range(100)]
    write_csv(path, ["id", "text", "target"], rows)
    whole = path.read_bytes()
    path.write_bytes(whole[: min(cut, len(whole))])
    try:
        table, bad = read(path)
    except RequestError:
        return
    if len(table) == 3:
        texts = [row[1].encode() for row in rows]
        assert table["text"] == texts[: len(table["text"])]
    assert len(bad) <= 1
