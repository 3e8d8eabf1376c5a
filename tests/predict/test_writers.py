import csv

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxicity.predict.writers import output_file

TABLE = pa.table({"id": ["a", "b"], "score": [0.1, None], "label": pa.array([0, None], pa.int8())})


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_nothing_is_seen_under_the_name_before_it_is_whole(tmp_path, ending):
    path = tmp_path / "deep" / f"out.{ending}"
    with output_file(path, TABLE.schema) as write:
        write(TABLE)
        assert not path.exists()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_nothing_is_left_of_one_that_failed(tmp_path, ending):
    def fail():
        with output_file(tmp_path / f"out.{ending}", TABLE.schema) as write:
            write(TABLE)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_tables_follow_each_other(tmp_path):
    for ending in ("parquet", "csv", "jsonl"):
        with output_file(tmp_path / f"out.{ending}", TABLE.schema) as write:
            write(TABLE)
            write(TABLE)
    assert pyarrow.parquet.read_table(tmp_path / "out.parquet") == pa.concat_tables([TABLE, TABLE])
    assert (tmp_path / "out.csv").read_text(encoding="utf-8") == "id,score,label\na,0.1,0\nb,,\na,0.1,0\nb,,\n"
    line = '{"id": "a", "score": 0.1, "label": 0}\n{"id": "b", "score": null, "label": null}\n'
    assert (tmp_path / "out.jsonl").read_text() == 2 * line


@pytest.mark.parametrize(
    ("identifier", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("+cmd", "'+cmd"),
        ("-2+3", "'-2+3"),
        ("\tx", "'\tx"),
        ("\rx", "'\rx"),
        ("-17", "-17"),
        ("+1.5", "+1.5"),
        ("a=b", "a=b"),
        ("＝1+1", "'＝1+1"),
        ("＠SUM(A1)", "'＠SUM(A1)"),
        ("a;=1+1", "a;'=1+1"),
        ("a\t-2+3", "a\t'-2+3"),
        ("a;b\r\nc", "a;b\r\nc"),
    ],
)
def test_a_spreadsheet_finds_no_formula(tmp_path, identifier, cell):
    table = pa.table({"id": [identifier]})
    with output_file(tmp_path / "out.csv", table.schema) as write:
        write(table)
    with (tmp_path / "out.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["id"], [cell]]


def test_nor_in_the_name_of_a_column(tmp_path):
    table = pa.table({"id": [1], "=1+1": [0.5]})
    with output_file(tmp_path / "out.csv", table.schema) as write:
        write(table)
    assert (tmp_path / "out.csv").read_text().splitlines() == ["id,'=1+1", "1,0.5"]


@given(st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.floats(0, 1)), max_size=20))
def test_scores_come_back_to_the_last_bit(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("out") / "out.csv"
    table = pa.table(
        {"id": pa.array([i for i, _ in rows], pa.string()), "score": pa.array([s for _, s in rows], pa.float64())}
    )
    with output_file(path, table.schema) as write:
        write(table)
    with path.open(newline="", encoding="utf-8") as file:
        _, *lines = csv.reader(file)
    assert [float(score) for _, score in lines] == [score for _, score in rows]
    assert [found.replace("'", "") for found, _ in lines] == [identifier.replace("'", "") for identifier, _ in rows]
