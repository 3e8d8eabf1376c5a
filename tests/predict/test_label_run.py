"""A run of the six labels of 2018, scored: what training measured is what the command writes."""

import json

import numpy as np
import pandas
import pytest
from builders import training_flags
from labelled import LABELS_2018, jigsaw2018, jigsaw2018_test, write_table
from scipy.special import expit, logit

from toxicity.core.arguments import DataArguments
from toxicity.predict.export.comments import read_comments
from toxicity.predict.scorer import Scorer


def test_from_train_csv_to_submission_csv(run_main, score, checkpoint, tmp_path):
    write_table(tmp_path / "train.csv", jigsaw2018(200))
    write_table(tmp_path / "test.csv", jigsaw2018_test(30)[0])
    run, names = tmp_path / "run", LABELS_2018
    flags = training_flags(checkpoint, tmp_path / "train.csv", output_dir=run, num_train_epochs=1, learning_rate=1e-3)
    run_main(*flags, "--label_column_names", *names)

    scorer = Scorer(str(run), device="cpu", mixed_precision="no")
    predictions = pandas.read_parquet(run / "report" / "predictions.parquet")
    texts = pandas.read_csv(tmp_path / "train.csv").set_index("id").loc[predictions["id"], "comment_text"]
    found = scorer.by_label(texts.tolist())
    assert tuple(found) == names
    for name, scores in found.items():
        # The report has them as they are before calibration.
        expected = predictions["score" if name == names[0] else f"score_{name}"]
        before = expit(logit(scores) * scorer.calibrations[name].temperature)
        assert before == pytest.approx(expected.to_numpy(), abs=1e-5)
    probed = json.loads((run / "report" / "benchmark.json").read_text())["probe"]["labels"]
    assert tuple(probed) == names

    assert score("--input", tmp_path / "test.csv", "--submission", model=run) == 0
    submission = pandas.read_csv(tmp_path / "out" / "test.csv")
    assert submission.columns.tolist() == ["id", *names]
    assert len(submission) == 30
    assert np.isfinite(submission[list(names)].to_numpy()).all()


def test_an_export_is_measured_on_all_labels_of_a_file(tmp_path):
    path = write_table(tmp_path / "train.csv", jigsaw2018(60, missing=0.2))
    labelled = DataArguments(train_file=str(path), label_column_names=list(LABELS_2018))
    comments, table = read_comments(labelled, "m", calibrate=False), jigsaw2018(60, missing=0.2)
    for name, labels in {LABELS_2018[0]: comments.labels, **comments.other_labels}.items():
        assert [None if np.isnan(value) else int(value) for value in labels] == table[name].to_pylist()
    assert np.isnan(comments.labels).any()
