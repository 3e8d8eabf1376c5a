import io
import json
from pathlib import Path

import pytest
from builders import choose_all
from hypothesis import given, settings
from hypothesis import strategies as st

from toxicity.core.errors import RequestError
from toxicity.data.readers import base, json_documents
from toxicity.data.readers import json as reader
from toxicity.data.readers.files import read_files
from toxicity.data.readers.json_documents import array_elements, records_of

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=3), values, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(st.lists(VALUES, max_size=8), st.integers(1, 30), st.sampled_from([None, 1]), st.booleans())
def test_an_array_in_pieces_is_the_array(values, size, indent, ascii_only):
    content = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_documents, "READ_BYTES", size)
        found = [value for value, _ in array_elements(io.BytesIO(b" " + content + b"\n"), Path("c.json"))]
    assert found == values


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1, 2", "element 3 of its JSON array: it is cut off"),
        (b"[1, ]", "element 2 of its JSON array"),
        (b"[, 1]", "element 1 of its JSON array"),
        (b"[1 2]", "element 2 of its JSON array: `,` is missing"),
        (b'[{"a": 1}, {"a": }, {"a": 2}]', "element 2 of its JSON array: Expecting value"),
        (b"[1] [2]", "goes on behind its JSON array"),
        (b"[" * 100_000, "element 1 of its JSON array"),
    ],
)
def test_an_array_that_is_damaged(content, message):
    with pytest.raises(RequestError, match=message):
        list(array_elements(io.BytesIO(content), Path("c.json")))


def test_an_element_without_an_end_is_not_read_to_the_end(monkeypatch):
    monkeypatch.setattr(json_documents, "READ_BYTES", 10)
    monkeypatch.setattr(base, "BLOCK_BYTES", 100)
    file = io.BytesIO(b'["' + b"x" * 1000)
    with pytest.raises(RequestError, match="element 1"):
        list(array_elements(file, Path("c.json")))
    assert file.tell() < 200


@pytest.mark.parametrize("document", [{}, {"text": "a"}, {"text": ["a"]}, {"text": "a", "more": {"b": 1}}, {"a": []}])
def test_an_object_that_holds_no_table(document):
    assert records_of(document) is None


def test_rows_that_not_every_column_has():
    assert list(records_of({"text": {"0": "a", "2": "c"}, "target": {"0": 1, "1": 0}})) == [
        {"text": "a", "target": 1},
        {"text": "c", "target": None},
        {"text": None, "target": 0},
    ]


@pytest.mark.parametrize("indent", [None, 1])
def test_an_object_that_is_too_large_for_the_memory(tmp_path, monkeypatch, indent):
    monkeypatch.setattr(reader, "MAX_DOCUMENT_BYTES", 500)
    monkeypatch.setattr(base, "BLOCK_BYTES", 100)
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"text": {str(number): "x" for number in range(1000)}}, indent=indent))
    with pytest.raises(RequestError, match="one object a line|holds no JSON lines: .*longer than"):
        read_files([path], choose_all)


def test_a_long_line_is_one_broken_row(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "MAX_DOCUMENT_BYTES", 500)
    monkeypatch.setattr(base, "BLOCK_BYTES", 100)
    for size in (200, 2000):
        lines = [json.dumps({"text": "x" * size}), '{"text": "a"}', json.dumps({"text": "x" * size}), '{"text": "b"}']
        (tmp_path / "c.jsonl").write_text("\n".join(lines))
        table, _, broken = read_files([tmp_path / "c.jsonl"], choose_all)
        assert table["text"].to_pylist() == [None, b"a", None, b"b"]
        assert list(broken) == [0, 2]
