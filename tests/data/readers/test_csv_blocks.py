"""CSV in blocks: wherever their borders fall, the rows are those of Python's parser over the whole file."""

import csv
import io
import re

import pytest
from builders import choose_all
from hypothesis import example, given, settings
from hypothesis import strategies as st

from toxicity.core.errors import RequestError
from toxicity.data.readers import base, csv_blocks
from toxicity.data.readers.base import Layout
from toxicity.data.readers.csv_blocks import regular_end
from toxicity.data.readers.files import read_files, read_windows

HEADER = b"id,text,target\n0,a,0\n"


def python_reads(content: bytes, delimiter: str = ",", width: int = 3):
    """What Python's strict parser makes of all rows below the header, in one go: cells, and which rows are broken."""
    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", errors="surrogateescape", newline="")
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    rows = []
    while True:
        start = reader.line_num
        try:
            row = next(reader)
        except StopIteration:
            return rows
        except csv.Error as error:
            taken = reader.line_num - start
            lines = f", in {taken} lines taken for one row" if taken > 1 else ""
            rows.append(f"its quotes do not match: {error}{lines}")
            continue
        if len(row) > width and any(row[width:]):
            rows.append(f"{len(row)} columns instead of {width}")
        elif taken := rows_in_a_cell(row, delimiter, width):
            rows.append(f"its quotes take {taken} rows for one: double the quotes, or remove them")
        elif row:
            cells = [cell.encode("utf-8", "surrogateescape") or None for cell in (*row, *([""] * width))[:width]]
            rows.append(cells)


def read(path, content, delimiter=","):
    path.write_bytes(content)
    table, _, broken = read_files([path], choose_all, Layout(delimiter=delimiter))
    cells = zip(*(column.to_pylist() for column in table.columns), strict=True)
    return [broken.get(number) or list(row) for number, row in enumerate(cells)]


def rows_in_a_cell(row, delimiter, width):
    """How many whole rows a row was made of, where tabs or bars are not quoted; 0 for an ordinary row."""
    for place, cell in enumerate(row[:width]):
        lines = re.split(r"\r\n?|\n", cell)
        counts = [line.count(delimiter) for line in lines]
        counts[0] += place
        counts[-1] += width - 1 - place
        if delimiter in "\t|" and len(row) >= width and len(lines) > 1 and {*counts} == {width - 1}:
            return len(lines)
    return 0


QUOTED = [b'"', b'""', b'"a"', b'"a""b"', b'"a\nb"', b'"a\r\nb",', b'"x,y"', b'"1","2","3"\r\n']
BARE = [b"a", b" ", b"\xc3\xa9", b"\xff", b"\0", b"\xef\xbb\xbf", b",", b";", b"\n", b"\r", b"\r\n", b"\n\n"]
ROWS = [b"1,2,3\n", b"a,b,c,d\n", b"a,b\n", b"1,2,3,,\n"]
PIECES = st.sampled_from([*QUOTED, *BARE, *ROWS])


@settings(max_examples=500, deadline=None)
@given(st.lists(PIECES, max_size=60).map(b"".join), st.integers(1, 60), st.sampled_from([16, 1000]))
@example(b'a"b,c,d\n' * 9, 24, 16)
@example(b'1,"a\r\n\r\nb",2\r\n' * 9, 17, 16)
@example(b'1,"a""",2\n"",3,"4"' * 2, 16, 16)
def test_blocks_are_the_file(tmp_path_factory, content, block, stretch):
    path = tmp_path_factory.mktemp("blocks") / "c.csv"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_blocks, "STRETCH_BYTES", stretch)
        patch.setattr(csv_blocks, "WINDOW_BYTES", block)
        found = read(path, HEADER + content)
    assert found == [[b"0", b"a", b"0"], *python_reads(content)]


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES, max_size=40).map(b"".join), st.sampled_from([";", "\t", "|", " ", "§"]))
@example(b'"1,2,3\n"', "\t")  # a cell of several lines in a row that is short of cells
@example(b'a,"2,3\n1,"\n', "|")
@example(b'"1,2,3\n",b,c\n', "\t")  # two rows taken for one, as far as anybody can tell
@example(b'"1,2,3\n",b,c,\n', "|")
def test_any_delimiter(tmp_path_factory, content, delimiter):
    content = content.replace(b",", delimiter.encode())
    header = delimiter.join(["id", "text", "target"]).encode() + b"\n"
    content = delimiter.join("xyz").encode() + b"\n" + content  # tells that no delimiter is behind the last cell
    path = tmp_path_factory.mktemp("delimiters") / "c.csv"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_blocks, "WINDOW_BYTES", 200)
        assert read(path, header + content, delimiter) == python_reads(content, delimiter)


@pytest.mark.parametrize(
    ("window", "is_last", "end"),
    [
        (b"a,b\nc,d", False, 4),
        (b"a,b\nc,d", True, 7),
        (b'a,"b\nc",d\ne', False, 10),
        (b'a,"b\nc', False, 0),
        (b'a\n"b\nc', True, 2),
        (b'a\n"b""\nc', True, 2),
        (b'a\n5" nail\nb', False, 10),
        (b'5" nail,"""b\n"",","\n",c\n"d', False, 24),
        (b'a\n"b"c\nd\n', True, 2),
        (b'a,"b"', False, 0),
        (b'"a\n"', False, 0),  # the next byte may be another quote
        (b'"a\n"', True, 4),
        (b'"a\n""b\n"\n"c\n', False, 9),
        (b"\r", False, 1),
        (b"", True, 0),
    ],
)
def test_where_the_last_row_of_a_block_ends(window, is_last, end):
    assert regular_end(window, ",", is_last) == end


def test_regular_blocks_are_for_arrow_and_a_stretch_around_others_for_python(monkeypatch):
    monkeypatch.setattr(csv_blocks, "WINDOW_BYTES", 1000)
    monkeypatch.setattr(csv_blocks, "STRETCH_BYTES", 100)
    lines = [b'%d,"a, ""b""\nc",0\n' % number for number in range(1000)]
    lines[400] = b'400,5" nail,0\n'
    lines[500] = b'500,"5" nail",0\n'
    found = list(csv_blocks.blocks(b"", io.BytesIO(b"".join(lines)), ","))
    slow = [block for block in found if isinstance(block, list)]
    assert len(slow) == 1
    assert "expected after" in str(slow[0][0])
    assert len(slow[0]) < 10
    assert sum(len(block) for block in found if isinstance(block, memoryview)) > 0.99 * len(b"".join(lines)) - 200


def test_what_is_not_regular_takes_longer_stretches(monkeypatch):
    monkeypatch.setattr(csv_blocks, "WINDOW_BYTES", 1000)
    monkeypatch.setattr(csv_blocks, "STRETCH_BYTES", 10)
    found = list(csv_blocks.blocks(b"", io.BytesIO(b'"a"b\n' * 1000), ","))
    assert [len(block) for block in found[:5]] == [2, 4, 8, 16, 32]
    assert sum(map(len, found)) == 1000


def test_a_line_longer_than_a_block_is_one_broken_row(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "BLOCK_BYTES", 100)
    monkeypatch.setattr(csv_blocks, "WINDOW_BYTES", 100)
    long = b"x" * 1000
    rows = read(tmp_path / "c.csv", HEADER + b"1,a,0\n2," + long + b',1\n3,"' + long + b'",1\n4,b,0\n' + long)
    reason = "its quotes do not match: a line is longer than 100 bytes"
    assert rows[1:] == [[b"1", b"a", b"0"], reason, reason, [b"4", b"b", b"0"], reason]


def test_parts_are_of_few_blocks_at_a_time(tmp_path, monkeypatch):
    """Only a few blocks have been read when the first part comes."""
    monkeypatch.setattr(csv_blocks, "WINDOW_BYTES", 2**16)
    taken = []
    original = csv_blocks.blocks

    def watched(*arguments):
        for block in original(*arguments):
            taken.append(block)
            yield block

    monkeypatch.setattr(csv_blocks, "blocks", watched)
    path = tmp_path / "c.csv"
    path.write_bytes(HEADER + b"1,a comment,0\n" * 400_000)
    windows = read_windows(path, choose_all, 100, 2**25)
    next(windows)
    assert len(taken) <= 6


def test_a_header_that_is_no_csv(tmp_path):
    with pytest.raises(RequestError, match="the quotes of its first row do not match"):
        read(tmp_path / "c.csv", b'"id"x,text\n1,2\n', None)


def test_a_quote_without_an_end_tells_how_many_lines_it_takes(tmp_path):
    found = read(tmp_path / "c.csv", b'text,target\na,0\n"b,1\n' + b"c,0\n" * 998)
    assert found[1:] == ["its quotes do not match: unexpected end of data, in 999 lines taken for one row"]


@pytest.mark.parametrize("name", ["id", "tweet_id", "Index", ""])
def test_rows_that_count_up_below_the_name_of_their_numbers_have_no_names(tmp_path, name):
    content = f"{name}, text, target\n" + "".join(f'{row}, "a, b", 1\n' for row in range(20))
    assert read(tmp_path / "c.csv", content.encode()) == ["4 columns instead of 3"] * 20


@pytest.mark.parametrize("delimiter", ["\t", "|"])
@pytest.mark.parametrize("irregular", [False, True], ids=["read by Arrow", "read by Python"])
def test_a_quote_that_begins_a_comment_takes_no_other_rows_unseen(tmp_path, delimiter, irregular):
    rows = [[f"id {row}", f"comment {row}", str(row % 2)] for row in range(20)]
    rows[5][1], rows[9][1] = '"what', 'ever"'
    rows[12][1] = '"two\nlines"'
    if irregular:
        rows[15].append("one too many")
    lines = ["id,text,target".replace(",", delimiter), *map(delimiter.join, rows)]
    found = read(tmp_path / "c.tsv", "\n".join(lines).encode(), delimiter)
    assert len(found) == 16
    assert found[5] == "its quotes take 5 rows for one: double the quotes, or remove them"
    assert found[8] == [b"id 12", b"two\nlines", b"0"]
    assert sum(isinstance(row, str) for row in found) == 1 + irregular
