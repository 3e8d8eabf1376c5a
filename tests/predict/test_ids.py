"""Ids come back in the type that they have in the input, so that scores can be joined to it."""

import datetime
import decimal
import json

import pandas
import pyarrow as pa
import pyarrow.parquet
import pytest
from builders import COMMENTS, write_csv

from toxicity.data.readers.base import Part
from toxicity.predict import score_shards
from toxicity.predict.progress import Progress
from toxicity.predict.shards import list_shards

TEXTS = COMMENTS[:40]
NUMBERS = [str(number) for number in range(40)]


def read_ids(path):
    column = pyarrow.parquet.read_table(path)["id"]
    return column.type, column.to_pylist()


@pytest.mark.parametrize(
    ("ids", "type_", "expected"),
    [
        (NUMBERS, pa.int64(), range(40)),
        ([*NUMBERS[:39], ""], pa.int64(), [*range(39), None]),
        ([*NUMBERS[:39], "x"], pa.string(), [*NUMBERS[:39], "x"]),
        (["x", *NUMBERS[1:]], pa.string(), ["x", *NUMBERS[1:]]),
        ([*NUMBERS[:20], "020", *NUMBERS[21:]], pa.string(), [*NUMBERS[:20], "020", *NUMBERS[21:]]),
        ([str(2**64 + number) for number in range(40)], pa.string(), [str(2**64 + number) for number in range(40)]),
        ([""] * 40, pa.int64(), [None] * 40),
    ],
    ids=["numbers", "one missing", "text at the end", "text at first", "a leading zero", "too large", "none"],
)
def test_ids_of_a_csv_file_are_numbers_if_all_of_them_are(score, tmp_path, ids, type_, expected):
    write_csv(tmp_path / "in.csv", ["id", "text"], [list(row) for row in zip(ids, TEXTS, strict=True)])
    assert score("--input", tmp_path / "in.csv") == 0
    assert read_ids(tmp_path / "out" / "in.parquet") == (type_, list(expected))


def test_a_shard_that_is_started_again_is_counted_once(job, tmp_path):
    scorer, outputs, options = job
    rows = [list(row) for row in zip([*NUMBERS[:39], "x"], TEXTS, strict=True)]
    shards = list_shards([str(write_csv(tmp_path / "in.csv", ["id", "text"], rows))])
    progress = Progress(shards[0].bytes)
    assert score_shards.score_shards(shards, scorer, outputs, options, progress) == {}
    assert (progress.rows, progress.input_bytes) == (40, shards[0].bytes)
    assert json.loads(outputs.record_of(shards[0]).read_text())["rows"] == 40
    assert len((tmp_path / "out" / "in.csv").read_text().splitlines()) == 41


TYPED = {
    "int32": pa.array(range(40), pa.int32()),
    "uint64": pa.array([2**63 + number for number in range(40)], pa.uint64()),
    "float": pa.array([number / 4 for number in range(40)]),
    "bool": pa.array([number % 2 == 0 for number in range(40)]),
    "timestamp": pa.array([datetime.datetime(2020, 1, 1, 0, 0, number) for number in range(40)]),
    "date": pa.array([datetime.date(2020, 1, 1 + number % 28) for number in range(40)]),
    "decimal": pa.array([decimal.Decimal(f"-1.{number:02d}") for number in range(40)]),
    "text": pa.array([f"0{number}" for number in range(40)]),
    "digits": pa.array(NUMBERS),
    "missing": pa.array([None, *range(39)]),
}
TEXT_OF = {"timestamp": "2020-01-01T00:00:00", "date": "2020-01-01", "decimal": "-1.00"}


@pytest.mark.parametrize("kind", TYPED)
def test_ids_of_a_parquet_file_keep_their_type(score, tmp_path, kind):
    pyarrow.parquet.write_table(pa.table({"id": TYPED[kind], "text": TEXTS}), tmp_path / "in.parquet")
    assert score("--input", tmp_path / "in.parquet") == 0
    assert read_ids(tmp_path / "out" / "in.parquet") == (TYPED[kind].type, TYPED[kind].to_pylist())
    first = TEXT_OF.get(kind, TYPED[kind][0].as_py())
    assert score("--input", tmp_path / "in.parquet", "--output_format", "jsonl", output=tmp_path / "lines") == 0
    assert json.loads((tmp_path / "lines" / "in.jsonl").read_text().splitlines()[0])["id"] == first
    assert score("--input", tmp_path / "in.parquet", "--output_format", "csv", output=tmp_path / "csv") == 0
    cell = (tmp_path / "csv" / "in.csv").read_text().splitlines()[1].split(",")[0]
    assert cell == ("" if first is None else str(first))


@pytest.mark.parametrize(
    ("parts", "type_", "expected"),
    [
        ([[1, 2], [3, 4]], pa.int64(), [1, 2, 3, 4]),
        ([[b"1", b"2"], [b"3", b"4"]], pa.string(), ["1", "2", "3", "4"]),
        ([[1, 2], [b"x", b"4"]], pa.string(), ["1", "2", "x", "4"]),
        ([[b"x", b"y"], [3, 4]], pa.string(), ["x", "y", "3", "4"]),
        ([[1, 2], [0.5, 4.0]], pa.float64(), [1.0, 2.0, 0.5, 4.0]),
        ([[0.5, 4.0], [2**53 + 1, 2]], pa.string(), ["0.5", "4", "9007199254740993", "2"]),
        ([[None, None], [1, 2]], pa.int64(), [None, None, 1, 2]),
        ([[1, 2], [True, False], [b"x", None]], pa.string(), ["1", "2", "true", "false", "x", None]),
    ],
)
def test_ids_whose_type_changes_from_part_to_part_get_one_that_holds_all(
    score, tmp_path, monkeypatch, parts, type_, expected
):
    def read_windows(path, choose, *_):
        columns = list(choose(["id", "text"], str(path)))
        for number, ids in enumerate(parts, 1):
            table = pa.table({"id": ids, "text": COMMENTS[: len(ids)]})
            yield Part(table.select(columns), {}, number / len(parts))

    monkeypatch.setattr(score_shards, "read_windows", read_windows)
    (tmp_path / "in.jsonl").touch()
    assert score("--input", tmp_path / "in.jsonl") == 0
    assert read_ids(tmp_path / "out" / "in.parquet") == (type_, expected)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("ids", [range(7000000, 7000040), [f"c{number}" for number in range(40)]], ids=["int", "text"])
def test_pandas_joins_scores_to_their_comments(score, tmp_path, kind, ids):
    def read(path):
        if path.suffix == ".parquet":
            return pandas.read_parquet(path)
        return pandas.read_csv(path) if path.suffix == ".csv" else pandas.read_json(path, lines=True)

    frame = pandas.DataFrame({"id": list(ids), "text": TEXTS})
    path = tmp_path / f"in.{kind}"
    if kind == "parquet":
        frame.to_parquet(path)
    else:
        path.write_text(frame.to_csv(index=False) if kind == "csv" else frame.to_json(orient="records", lines=True))
    assert score("--input", path, "--output_format", kind) == 0
    merged = read(path).merge(read(tmp_path / "out" / path.name), on="id")
    assert len(merged) == 40
    assert merged["text"].tolist() == TEXTS
    if kind == "csv":
        assert score("--input", path, output=tmp_path / "parquet") == 0
        assert len(read(path).merge(read(tmp_path / "parquet" / "in.parquet"), on="id")) == 40


@pytest.mark.parametrize(
    ("content", "flags", "message"),
    [
        ("id,text\n1,x\n,y\n", [], "in.csv, row 2: the id is missing, and a submission needs the id of every row"),
        ("id,text\n1,x\n2,y,z\n", ["--on_bad_rows", "score_null"], "row 2: 3 columns instead of 2, and a submission"),
    ],
)
def test_a_submission_has_an_id_in_every_row(score, tmp_path, capsys, content, flags, message):
    (tmp_path / "in.csv").write_text(content)
    assert score("--input", tmp_path / "in.csv", "--submission", *flags) == 2
    assert message in capsys.readouterr().err


def test_a_number_that_is_none_is_null_in_json(score, tmp_path):
    ids = pa.array([0.5, float("nan")])
    pyarrow.parquet.write_table(pa.table({"id": ids, "text": TEXTS[:2]}), tmp_path / "in.parquet")
    assert score("--input", tmp_path / "in.parquet", "--output_format", "jsonl") == 0
    assert '"id": null' in (tmp_path / "out" / "in.jsonl").read_text().splitlines()[1]
