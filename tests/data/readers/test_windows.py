import gzip
import io
import json

import pandas
import pyarrow as pa
import pyarrow.parquet
import pytest
from builders import choose_all
from hypothesis import given, settings
from hypothesis import strategies as st

from toxicity.core.errors import RequestError
from toxicity.data.readers import base
from toxicity.data.readers.files import read_files, read_lines, read_windows


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["fine", "broken"]), min_size=1, max_size=40),
    st.integers(1, 50),
    st.sampled_from(["csv", "jsonl", "csv.gz"]),
)
def test_windows_are_the_file_in_pieces(tmp_path_factory, rows, size, kind):
    path = tmp_path_factory.mktemp("windows") / f"c.{kind}"
    if kind == "jsonl":
        lines = [json.dumps({"id": str(i), "text": "a"}) if row == "fine" else "{" for i, row in enumerate(rows)]
        lines[0] = json.dumps({"id": "0", "text": "a"})
    else:
        lines = ["id,text", *(f"{i},a" if row == "fine" else f"{i}" for i, row in enumerate(rows))]
    content = "\n".join(lines).encode()
    path.write_bytes(gzip.compress(content) if kind == "csv.gz" else content)
    table, _, broken = read_files([path], choose_all)
    windows = list(read_windows(path, choose_all, size, 2**25))
    assert [len(window.table) for window in windows[:-1]] == [size] * (len(windows) - 1)
    assert 0 < len(windows[-1].table) <= size
    assert [row for window in windows for row in window.table.to_pylist()] == table.to_pylist()
    found = {number * size + row: why for number, window in enumerate(windows) for row, why in window.broken.items()}
    assert found == broken
    shares = [window.share for window in windows]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_windows_of_parquet_do_not_follow_its_row_groups(tmp_path):
    frame = pandas.DataFrame({"id": range(100), "text": [f"comment {i}" for i in range(100)]})
    frame.to_parquet(tmp_path / "c.parquet", row_group_size=7)
    windows = list(read_windows(tmp_path / "c.parquet", choose_all, 30, 2**25))
    assert [len(window.table) for window in windows] == [30, 30, 30, 10]
    assert [i for window in windows for i in window.table["id"].to_pylist()] == list(range(100))


@pytest.mark.parametrize(("name", "content"), [("c.csv", b"id,text\n"), ("c.parquet", None)])
def test_a_file_without_rows_is_one_empty_window(tmp_path, name, content):
    if content is None:
        pandas.DataFrame({"id": [], "text": []}).to_parquet(tmp_path / name)
    else:
        (tmp_path / name).write_bytes(content)
    (window,) = read_windows(tmp_path / name, choose_all, 10, 2**25)
    assert (len(window.table), window.table.column_names) == (0, ["id", "text"])


def test_windows_of_a_damaged_file(tmp_path):
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(b"id,text,target\n1,first,0\n2,second,1\n" * 99)[:60])
    with pytest.raises(RequestError, match="damaged, cut off or locked"):
        list(read_windows(tmp_path / "c.csv.gz", choose_all, 10, 2**25))


@pytest.mark.parametrize("kind", ["csv", "csv with care", "jsonl", "parquet", "lines"])
def test_windows_of_long_comments_hold_fewer(tmp_path, kind):
    texts = ["x" * length for length in [10, 400, 500, 600, 2000, 10, 10]]
    frame, path = pandas.DataFrame({"id": map(str, range(7)), "text": texts}), tmp_path / f"c.{kind.split()[0]}"
    if kind == "parquet":
        frame.to_parquet(path)
    elif kind == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False)
    if kind == "csv with care":
        path.write_text(path.read_text() + "broken\n")
    if kind == "lines":
        windows = list(read_lines(io.BytesIO("\n".join(texts).encode()), 3, 1000))[:-1]
    else:
        windows = list(read_windows(path, lambda names, source: {"text": "text"}, 3, 1000))
    assert max(len(window.table) for window in windows) <= 3
    lengths = [[len(text or "") for text in window.table["text"].to_pylist()] for window in windows]
    assert [length for some in lengths for length in some][:7] == list(map(len, texts))
    # Of a stream the row that goes over the limit is in memory anyway.
    assert lengths[:3] == (
        [[10, 400, 500], [600, 2000], [10, 10]] if kind == "lines" else [[10, 400, 500], [600], [2000]]
    )


def test_a_row_group_of_parquet_need_not_fit_into_the_memory(tmp_path):
    table = pa.table({"text": [f"{row:1000}" for row in range(50_000)]})
    pa.parquet.write_table(table, tmp_path / "c.parquet", use_dictionary=False, compression="none")
    size, before = table.nbytes, pa.total_allocated_bytes()
    taken = 0
    for window in read_windows(tmp_path / "c.parquet", choose_all, 1000, 2**25):
        taken = max(taken, pa.total_allocated_bytes() - before)
        del window
    assert taken < size / 4


def test_a_line_of_a_stream_without_an_end(monkeypatch):
    monkeypatch.setattr(base, "BLOCK_BYTES", 100)
    window, end = read_lines(io.BytesIO(b"one\n" + b"x" * 1000 + b"\nthree"), 10, 2**25)
    assert window.table["text"].to_pylist() == [b"one", None, b"three"]
    assert list(window.broken) == [1]
    assert "its line is longer than" in window.broken[1]
    assert len(end.table) == 0


def test_lines_of_a_stream():
    windows = list(read_lines(io.BytesIO(b"one\r\n\n\xff\nfour"), 3, 2**25))
    assert [window.table["text"].to_pylist() for window in windows] == [[b"one", None, b"\xff"], [b"four"], []]
