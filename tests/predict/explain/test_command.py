"""`python -m toxicity.predict --explain N`: a further column, and nothing else changes."""

import json

import numpy as np
import pandas
import pyarrow.parquet
import pytest
from builders import files_in, write_csv, write_texts
from scipy.special import expit

from toxicity.predict.explain import column, explain, occlusion
from toxicity.predict.scorer import Scorer

TOXIC, CIVIL = "You STUPID local idiot, you are an idiot about trains", "Thank you for the kind note"
TEXTS = [CIVIL, TOXIC, "stupid", TOXIC, "the kind gardens", "You idiot and the note"]
FLAGS = ["--runtime", "torch", "--mixed_precision", "no"]


def written(folder, name="a"):
    return pyarrow.parquet.read_table(folder / f"{name}.parquet")


def test_toxic_comments_have_the_words_that_push_them_up(score, planted, tmp_path):
    write_texts(tmp_path / "a.csv", TEXTS)
    assert score("--input", tmp_path / "a.csv", "--explain", "2", *FLAGS, model=planted) == 0
    table = written(tmp_path / "out")
    assert table.column_names == ["id", "score", "label", "words"]
    assert table.schema.field("words").type == column.TYPE
    rows = table.to_pylist()
    assert [row["label"] for row in rows] == [0, 1, 1, 1, 0, 1]
    told = [row["words"] and [word["word"] for word in row["words"]] for row in rows]
    assert told[0] is told[4] is None
    assert told[1] == told[3]
    assert {word.casefold() for word in told[1]} == {"stupid", "idiot"}
    assert told[2] == ["stupid"]
    assert told[5][0] == "idiot"
    scorer = Scorer(str(planted), device="cpu", runtime="torch", mixed_precision="no")
    for row, text in zip(rows, TEXTS, strict=True):
        weights = {word.text: word.weight for word in sorted(explain(scorer, text), key=lambda word: word.weight)}
        for word in row["words"] or ():
            assert word["weight"] == pytest.approx(weights[word["word"]], abs=1e-4)


def test_people_read_them_in_csv_and_programs_in_json(score, planted, tmp_path):
    write_texts(tmp_path / "a.csv", TEXTS)
    for kind in ("csv", "jsonl"):
        flags = ["--explain", "3", "--output_format", kind, *FLAGS]
        assert score("--input", tmp_path / "a.csv", *flags, model=planted, output=tmp_path / kind) == 0
    cells = pandas.read_csv(tmp_path / "csv" / "a.csv")["words"].tolist()
    lines = [json.loads(line)["words"] for line in (tmp_path / "jsonl" / "a.jsonl").read_text().splitlines()]
    assert np.isnan(cells[0])
    assert lines[0] is None
    assert cells[1] == ", ".join(f"{word['word']} {word['weight']:.2f}" for word in lines[1])


def test_the_other_columns_and_the_job_without_it_are_as_before(score, planted, tmp_path):
    write_texts(tmp_path / "a.csv", TEXTS)
    for name, flags in {"with": ["--explain", "1"], "without": []}.items():
        assert score("--input", tmp_path / "a.csv", *flags, *FLAGS, model=planted, output=tmp_path / name) == 0
    assert written(tmp_path / "with").drop(["words"]).equals(written(tmp_path / "without"))
    jobs = {name: json.loads((tmp_path / name / "manifest.json").read_text())["job"] for name in ("with", "without")}
    assert jobs["with"] == jobs["without"] | {"explain": 1}


def test_a_job_goes_on_and_another_is_refused(score, planted, tmp_path, capsys):
    for name in "ab":
        write_texts(tmp_path / f"{name}.csv", TEXTS * 10)
    inputs = ["--input", tmp_path / "a.csv", tmp_path / "b.csv", *FLAGS]
    assert score(*inputs, "--explain", "3", model=planted) == 0
    before = files_in(tmp_path / "out")
    (tmp_path / "out" / "b.parquet").write_bytes(b"cut")
    assert score(*inputs, "--explain", "3", model=planted) == 0
    assert files_in(tmp_path / "out") == before
    assert score(*inputs, "--explain", "2", model=planted) == 2
    assert "holds scores of another job, with explain 3 instead of 2" in capsys.readouterr().err


def test_bad_rows_have_no_words(score, planted, tmp_path):
    write_csv(tmp_path / "a.csv", ["id", "text"], [[1, "stupid"], [2, " "], [3, TOXIC]])
    flags = ["--explain", "1", "--on_bad_rows", "score_null", *FLAGS]
    assert score("--input", tmp_path / "a.csv", *flags, model=planted) == 0
    assert [row["words"] is None for row in written(tmp_path / "out").to_pylist()] == [False, True, False]


def test_what_pushes_nothing_up_is_an_empty_cell():
    def toxic_whatever_it_says(texts):
        return np.full(len(texts), 0.9)

    for as_text, expected in ((False, [[], None]), (True, ["", None])):
        assert column.words_column(["Fine words", None], toxic_whatever_it_says, 3, as_text).to_pylist() == expected


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ([0.05, 2.0, -3.0, 0.3, 0.2], ["b 2.00", "d 0.30", "e 0.20"]),
        ([1.0, 4.0, 2.0, 3.0, 0.0], ["b 4.00", "d 3.00", "c 2.00"]),
        ([-1.0, -2.0, 0.0, -3.0, 0.0], []),
    ],
)
def test_the_strongest_come_first_and_what_may_be_rounding_is_left_out(weights, told):
    def score(texts):
        adds = dict(zip("abcde", weights, strict=True))
        return expit([sum(adds[word] for word in text.split()) for text in texts])

    assert column.words_column(["a b c d e"], score, 3, True).to_pylist() == [", ".join(told)]


def test_equal_comments_are_explained_once():
    scored = []

    def score(texts):
        scored.extend(texts)
        return np.array([0.9 if "idiot" in text else 0.2 for text in texts])

    cells = column.words_column(["You idiot", None, "You idiot", "An idiot"], score, 1, True).to_pylist()
    assert cells == ["idiot 3.58", None, "idiot 3.58", "idiot 3.58"]
    assert len(scored) == len(set(scored)) == 5


def test_comments_are_explained_in_few_calls(score, planted, tmp_path, monkeypatch):
    calls = []
    within = occlusion._log_odds
    monkeypatch.setattr(occlusion, "_log_odds", lambda pairs, score: calls.append(1) or within(pairs, score))
    write_texts(tmp_path / "a.csv", [f"You idiot {number}" for number in range(16)])  # the rows of a window here
    assert score("--input", tmp_path / "a.csv", "--explain", "3", *FLAGS, model=planted) == 0
    assert len(calls) <= 2


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--explain", "0"], "--explain 0: say how many words, 1 or more."),
        (["--explain", "3", "--submission"], "a submission has no column for words: leave out --explain, or"),
        (["--explain", "3", "--export", "onnx"], "--explain means nothing with --export: leave it out."),
        (["--explain", "three"], "argument --explain: invalid int value: 'three'"),
    ],
)
def test_what_cannot_be_explained_is_refused(score, capsys, flags, told):
    assert score("--input", "a.csv", *flags) == 2
    assert told in capsys.readouterr().err
