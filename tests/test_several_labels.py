"""The whole way of a model with several labels: from comments over the Hub to a submission."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pyarrow.parquet
import pytest
from builders import training_flags
from hub_server import WRITE_TOKEN
from labelled import LABELS_2018, LABELS_2019, jigsaw2018, jigsaw2018_test, jigsaw2019, write_table
from processes import Run, ended_well
from published_run import OWNER
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from toxicity.hub.push import push_run
from toxicity.predict.scorer import Scorer

OPTIONS = {
    "max_seq_length": 48,
    "num_train_epochs": 6,
    "learning_rate": 3e-3,
    "config_overrides": "hidden_dropout_prob=0",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """`train.csv`, `test.csv` and `test_labels.csv` of 2018; a third of the last was never scored."""
    folder = tmp_path_factory.mktemp("jigsaw2018")
    test, labels = jigsaw2018_test(120)
    for name, table in (("train", jigsaw2018(240)), ("test", test), ("test_labels", labels)):
        write_table(folder / f"{name}.csv", table)
    return folder


@pytest.fixture(scope="module")
def flags_2018(checkpoint, files):
    options = OPTIONS | {"validation_file": files / "test.csv", "validation_labels_file": files / "test_labels.csv"}
    options |= {"per_device_train_batch_size": 8, "save_strategy": "epoch"}
    return [*training_flags(checkpoint, files / "train.csv", **options), "--label_column_names", *LABELS_2018]


@pytest.fixture(scope="module")
def run_2018(flags_2018, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run2018")
    done = ended_well(Run(folder, *flags_2018, "--output_dir", folder / "run"))
    return folder / "run", done.row


def test_every_figure_is_that_of_scikit_learn(run_2018):
    folder, row = run_2018
    predictions = pyarrow.parquet.read_table(folder / "report" / "predictions.parquet").to_pandas()
    assert len(predictions) == 80
    assert sum(row["dropped_rows"].values()) == 40
    assert list(row["metrics"]["labels"]) == row["protocol"]["labels"] == list(LABELS_2018)
    predictions = predictions.rename(columns={"label": "label_toxic", "score": "score_toxic"})
    aucs = []
    for name, found in row["metrics"]["labels"].items():
        labels, scores = predictions[f"label_{name}"], predictions[f"score_{name}"]
        aucs.append(roc_auc_score(labels, scores))
        assert found["auc"] == pytest.approx(aucs[-1], abs=1e-9)
        assert found["average_precision"] == pytest.approx(average_precision_score(labels, scores), abs=1e-9)
        assert found["log_loss"] == pytest.approx(log_loss(labels, scores), abs=1e-9)
        assert (found["rows"], found["positives"]) == (80, labels.sum())
    assert row["metrics"]["mean_auc"] == pytest.approx(np.mean(aucs), abs=1e-9)
    assert row["metrics"]["auc"] == row["metrics"]["labels"]["toxic"]["auc"] > 0.8


def test_the_model_says_how_each_label_is_read(run_2018):
    folder, row = run_2018
    config = json.loads((folder / "config.json").read_text())
    assert list(config["id2label"].values()) == list(LABELS_2018)
    assert config["problem_type"] == "multi_label_classification"
    assert config["toxicity"]["toxic_label"] == "toxic"
    # json.dumps with sorted keys: the order of the labels is that of id2label.
    assert config["toxicity"]["labels"].keys() == set(LABELS_2018)
    card = (folder / "README.md").read_text()
    assert f"{row['metrics']['labels']['obscene']['auc']:.4f}"[:6] in card


def test_what_was_trained_goes_over_the_hub_to_a_submission(run_2018, files, hub, tmp_path, empty_cache):
    folder, _ = run_2018
    push_run(folder, "six-labels")
    scored = subprocess.run(
        [
            *(sys.executable, "-m", "toxicity.predict", "--model", f"{OWNER}/six-labels", "--submission"),
            *("--input", files / "test.csv", "--output", tmp_path / "kaggle", "--mixed_precision", "no"),
        ],
        env=os.environ | empty_cache | {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": WRITE_TOKEN},
        capture_output=True,
        text=True,
        check=False,
    )
    assert scored.returncode == 0, scored.stderr
    with (tmp_path / "kaggle" / "test.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", *LABELS_2018]
    scorer = Scorer(str(folder), mixed_precision="no")
    at_home = scorer.by_label(read(files / "test.csv", "comment_text"))
    for name in LABELS_2018:
        np.testing.assert_allclose([float(row[name]) for row in rows], at_home[name], atol=1e-6)


def read(path, column):
    with path.open(newline="") as file:
        return [row[column] for row in csv.DictReader(file)]


@pytest.fixture
def empty_cache(tmp_path):
    return {
        "HF_HOME": str(tmp_path / "empty"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1,localhost",
    }


def test_a_run_that_was_interrupted_ends_as_it_would_have(run_2018, flags_2018, tmp_path):
    folder, row = run_2018
    options = [*flags_2018, "--output_dir", tmp_path / "run", "--resume_from_checkpoint", "auto"]
    assert Run(tmp_path, *options, fault=("kill_at_step", 100)).ended() == -9
    done = ended_well(Run(tmp_path, *options))
    assert done.row["metrics"] == row["metrics"]
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_seven_labels_of_2019_with_identities_and_nulls(checkpoint, run_main, tmp_path, capsys):
    path = write_table(tmp_path / "train.parquet", jigsaw2019(400, missing=0.2))
    labels = [name for name in LABELS_2019 if name != "insult"]
    flags = training_flags(checkpoint, path, **OPTIONS, targets="soft", identity_weights="any", max_eval_samples=200)
    run_main(
        *(*flags, "--output_dir", tmp_path / "run", "--label_column_names", *labels, "--auxiliary_targets"),
        *(
            "subtypes",
            "identities",
            "--positive_class_weight",
            "balanced",
            "--focal_gamma",
            1,
            "--early_stopping_patience",
        ),
        *(3, "--metric_for_best_model", "auc_obscene", "--num_train_epochs", 2),
    )
    row = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(row["metrics"]["labels"]) == labels
    for name, found in row["metrics"]["labels"].items():
        assert found["rows"] < 200
        assert found["bias"] is not None, name
    assert json.loads((tmp_path / "run" / "config.json").read_text())["id2label"] == {
        str(place): name for place, name in enumerate(labels)
    }
    assert row["protocol"]["options"]["focal_gamma"] == 1.0
    predictions = pyarrow.parquet.read_table(tmp_path / "run" / "report" / "predictions.parquet")
    assert predictions["label"].null_count > 0
