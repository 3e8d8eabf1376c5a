"""The columns of several labels: their names, in every format, and the labels in them."""

import json

import numpy as np
import pandas
import pytest
from builders import COMMENTS, files_in, write_csv, write_texts
from label_models import LABELS_2018, calibration_of, save_label_model

from toxicity.predict.columns import names_of_columns
from toxicity.predict.scorer import Scorer

NAMES = ("hate", "threat", "threat_label", "score", "=cmd")
COLUMNS = [
    "threat",
    "threat_label_",
    "threat_label",
    "threat_label_label",
    "score_",
    "score_label",
    "=cmd",
    "=cmd_label",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_config, tokenizer):
    return save_label_model(tmp_path_factory.mktemp("labels"), tiny_config, tokenizer, NAMES)


@pytest.mark.parametrize(
    ("others", "labelled", "expected"),
    [
        ((), (), []),
        (("insult", "threat"), (), ["insult", "threat"]),
        (("insult", "threat"), ("insult", "threat"), ["insult", "insult_label", "threat", "threat_label"]),
        (("id", "Score", "LABEL"), ("id",), ["id_", "id_label", "Score_", "LABEL_"]),
        (("label", "label_"), (), ["label_", "label__"]),
        (("x_label", "x"), ("x_label", "x"), ["x_label", "x_label_label", "x", "x_label_"]),
        (("x", "X"), ("x", "X"), ["x", "x_label", "X_", "X_label_"]),
        (NAMES[1:], NAMES[1:], COLUMNS),
    ],
)
def test_no_two_columns_have_one_name(others, labelled, expected):
    found = names_of_columns(others, labelled)
    assert found == ["id", "score", "label", *expected]
    assert len({name.casefold() for name in found}) == len(found)


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_every_label_has_its_score_and_its_label(score, tmp_path, folder, form):
    write_texts(tmp_path / "in.csv", [*COMMENTS, ""])
    flags = ("--on_bad_rows", "score_null", "--output_format", form)
    assert score("--input", tmp_path / "in.csv", *flags, model=folder) == 0
    path = tmp_path / "out" / f"in.{form}"
    if form == "parquet":
        frame = pandas.read_parquet(path)
    else:
        frame = pandas.read_csv(path) if form == "csv" else pandas.read_json(path, lines=True)
    header = [f"'{name}" if form == "csv" and name.startswith("=") else name for name in COLUMNS]
    assert frame.columns.tolist() == ["id", "score", "label", *header]
    assert frame.iloc[-1, 1:].isna().all()
    scorer = Scorer(str(folder))
    for (name, expected), column in zip(scorer.by_label(COMMENTS).items(), range(1, 11, 2), strict=True):
        scores, labels = frame.iloc[:50, column].to_numpy(), frame.iloc[:50, column + 1].to_numpy()
        assert scores == pytest.approx(expected, abs=0.01)
        assert labels.tolist() == (scores >= scorer.calibrations[name].threshold).tolist()
    labels = frame.iloc[:50, 2::2].to_numpy()
    assert (labels != labels[:, :1]).any(), "labels of their own"


def test_each_label_has_its_own_threshold_for_a_precision(score, tmp_path, tiny_config, tokenizer, capsys):
    sections = {name: calibration_of(number) for number, name in enumerate(("hate", "threat", "insult"))}
    sections["insult"] |= {"threshold": 0.5, "thresholds": {"0.9": 0.99}}
    save_label_model(tmp_path / "m", tiny_config, tokenizer, tuple(sections), labels=sections)
    write_texts(tmp_path / "in.csv")
    call = ("--input", tmp_path / "in.csv", "--precision_target")
    assert score(*call, "0.8", model=tmp_path / "m") == 0
    told = "Without a threshold for precision 0.8, these are labelled at their own: `insult` at 0.5."
    assert capsys.readouterr().err.count(told) == 1
    job = json.loads((tmp_path / "out" / "manifest.json").read_text())["job"]
    expected = {"label": 0.4 - 0.1, "threat_label": 0.45 - 0.1, "insult_label": 0.5}
    assert {"label": job["threshold"]} | {f"{n}_label": t for n, t in job["label_thresholds"].items()} == expected
    frame = pandas.read_parquet(tmp_path / "out" / "in.parquet")
    for (name, threshold), scores in zip(expected.items(), ("score", "threat", "insult"), strict=True):
        assert frame[name].tolist() == (frame[scores] >= threshold).tolist()
    assert score(*call, "0.9", model=tmp_path / "m", output=tmp_path / "other") == 0
    assert "Without a threshold" not in capsys.readouterr().err
    assert score(*call, "0.95", model=tmp_path / "m", output=tmp_path / "none") == 2
    assert "--precision_target 0.95: the model's config.json has thresholds for 0.8, 0.9" in capsys.readouterr().err


def test_the_manifest_tells_what_decides_labels_and_columns(score, tmp_path, folder, capsys):
    write_texts(tmp_path / "in.csv", COMMENTS[:3])
    assert score("--input", tmp_path / "in.csv", model=folder) == 0
    before = files_in(tmp_path / "out")
    job = json.loads(before["manifest.json"])["job"]
    assert job["labels"] == {"toxic": [0], "civil": [], "subtypes": {name: n for n, name in enumerate(NAMES) if n}}
    assert job["label_thresholds"] == {name: 0.4 + n / 20 for n, name in enumerate(NAMES) if n}
    assert job["label_temperatures"] == {name: 1 + n / 4 for n, name in enumerate(NAMES) if n}
    assert "submission_columns" not in job
    flags = ("--toxic_label", "threat")
    assert score("--input", tmp_path / "in.csv", *flags, model=folder) == 2
    assert "holds scores of another job, with labels.toxic [0] instead of [1]" in capsys.readouterr().err
    assert score("--input", tmp_path / "in.csv", "--precision_target", "0.8", model=folder) == 2
    assert "another job, with threshold 0.4 instead of 0.3" in capsys.readouterr().err
    assert files_in(tmp_path / "out") == before


def test_one_label_has_the_columns_and_the_manifest_that_it_ever_had(score, tmp_path):
    write_texts(tmp_path / "in.csv", COMMENTS[:3])
    assert score("--input", tmp_path / "in.csv") == 0
    job = json.loads((tmp_path / "out" / "manifest.json").read_text())["job"]
    assert job["labels"] == {"toxic": [0], "civil": [], "subtypes": {}}
    assert list(job) == [
        *("model", "revision", "weights_xxh3", "tokenizer_xxh3", "labels", "runtime", "device", "mixed_precision"),
        *("max_seq_length", "head_tail_truncation", "temperature", "threshold", "output_format", "submission"),
        *("on_bad_rows", "text_column_name", "id_column_name", "delimiter", "encoding", "rows_per_window"),
        *("bytes_per_window", "tokens_per_batch", "versions"),
    ]


def test_subtypes_of_models_of_others_have_no_labels(score, tmp_path, tiny_config, tokenizer):
    save_label_model(tmp_path / "m", tiny_config, tokenizer, LABELS_2018, calibrated=False)
    write_csv(tmp_path / "in.csv", ["text"], [["one"]])
    subtypes = ["severe_toxicity", "obscene", "identity_attack", "insult", "threat"]
    for flags, output in (((), "out"), (("--toxic_label", "threat"), "threat")):
        assert score("--input", tmp_path / "in.csv", *flags, model=tmp_path / "m", output=tmp_path / output) == 0
        frame = pandas.read_parquet(tmp_path / output / "in.parquet")
        assert frame.columns.tolist() == ["id", "score", "label", *subtypes]
        job = json.loads((tmp_path / output / "manifest.json").read_text())["job"]
        assert not {"label_thresholds", "label_temperatures", "submission_columns"} & job.keys()
    assert np.isclose(frame["score"], frame["threat"]).all()
