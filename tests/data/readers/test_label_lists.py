"""Lists of labels stay lists, and a column may be wanted under two names; in every format."""

import json
import uuid

import pyarrow as pa
import pytest
from layouts import LAYOUTS, TARGETS, arrow_bytes, write_file, write_parquet, write_stream

from toxicity.core.schema import LABEL_LISTS
from toxicity.data.readers import json as reader
from toxicity.data.readers.files import read_files

LISTS = [["a", "b"], [], None, ["c"]]
WANTED = {LABEL_LISTS: "labels"}


def read(path, choose=lambda names, source: WANTED):
    table, _, broken = read_files([path], choose)
    assert broken == {}
    return table


def texts(column):
    return [
        None if row is None else [value.decode() if isinstance(value, bytes) else value for value in row]
        for row in column.to_pylist()
    ]


@pytest.mark.parametrize("write", [write_parquet, write_file, write_stream])
@pytest.mark.parametrize(
    "column",
    [
        pa.array(LISTS),
        pa.array(LISTS, pa.large_list(pa.large_string())),
        pa.array(LISTS, pa.list_(pa.binary())),
        pa.array(LISTS, pa.list_(pa.dictionary(pa.int8(), pa.string()))),
        pa.array([["x"], *LISTS]).slice(1),
    ],
    ids=str,
)
def test_lists_of_arrow(tmp_path, write, column):
    (tmp_path / "c.arrow").write_bytes(arrow_bytes(write, pa.table({"labels": column})))
    found = read(tmp_path / "c.arrow")[LABEL_LISTS]
    assert pa.types.is_large_list(found.type)
    assert texts(found) == LISTS


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([[1], [0], None]), [[1], [0], None]),
        (pa.array([[1, 0], None, [0, 1]], pa.list_(pa.int64(), 2)), [[1, 0], None, [0, 1]]),
        (pa.array([[], None, []], pa.list_(pa.string())), [[], None, []]),
        (pa.array(["a", None, "b"]), ["a", None, "b"]),
        (pa.array([1.0, None, 0.0]), [1.0, None, 0.0]),
        (pa.array([uuid.UUID(int=2**127).bytes] * 2, pa.binary(16)), [str(uuid.UUID(int=2**127))] * 2),
    ],
    ids=str,
)
def test_other_columns_of_arrow(tmp_path, column, expected):
    (tmp_path / "c.parquet").write_bytes(arrow_bytes(write_parquet, pa.table({"labels": column})))
    assert read(tmp_path / "c.parquet")[LABEL_LISTS].to_pylist() == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (LISTS, LISTS),
        ([["a"], ["b"]], [["a"], ["b"]]),
        ([["a"], "b", None, []], [["a"], ["b"], None, []]),
        ([[1, True, 0.5, None], [2]], [["1", "true", "0.5"], ["2"]]),
    ],
)
@pytest.mark.parametrize("rows", [2, 100])
def test_lists_of_json(tmp_path, monkeypatch, values, expected, rows):
    monkeypatch.setattr(reader, "LIMIT", reader.Limit(rows, 2**20))
    path = tmp_path / "c.jsonl"
    path.write_text("\n".join(json.dumps({"text": "a", "labels": value}) for value in values))
    assert texts(read(path)[LABEL_LISTS]) == expected


def test_single_values_of_json_are_no_lists(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text('{"labels": 1}\n{"labels": null}\n{"labels": 0}')
    assert read(path)[LABEL_LISTS].to_pylist() == [1, None, 0]


def test_what_is_nested_deeper_is_broken(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text('{"labels": [["a"], "b"]}\n{"labels": {"a": 1}}\n{"labels": ["a", "b"]}')
    table, _, broken = read_files([path], lambda names, source: WANTED)
    assert broken == dict.fromkeys((0, 1), "its `labels` is neither text nor a number")
    assert texts(table[LABEL_LISTS]) == [None, None, ["a", "b"]]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_column_under_two_names(tmp_path, name):
    (tmp_path / name).write_bytes(LAYOUTS[name])
    table = read(tmp_path / name, lambda names, source: {"label x": "target", "target": "target", "text": "text"})
    assert {*table.column_names} == {"label x", "target", "text"}
    assert [int(value) for value in table["target"].to_pylist()] == TARGETS
    assert table["label x"].equals(table["target"])


def test_two_names_of_a_column_that_comes_up_late(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "LIMIT", reader.Limit(2, 2**20))
    path = tmp_path / "c.jsonl"
    path.write_text("\n".join(json.dumps({"text": "a"} | ({"b": 1} if row == 5 else {})) for row in range(6)))
    table = read(path, lambda names, source: {"text": "text"} | ({"x": "b", "y": "b"} if "b" in names else {}))
    assert table["x"].to_pylist() == table["y"].to_pylist() == [None] * 5 + [1]
