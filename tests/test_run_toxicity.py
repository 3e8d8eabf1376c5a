"""The real commands, in processes of their own."""

import errno
import json
import os
import sys

import numpy as np
import pandas
import pyarrow.parquet
import pytest
from builders import MAX_POSITIONS, make_comments, write_csv
from launcher import launcher_environment
from processes import LAUNCH, Run, ended_well, flags, run
from sklearn.metrics import roc_auc_score

from toxicity.core.schema import IDENTITIES, SUBTYPES
from toxicity.evaluation.calibration import Calibration
from toxicity.predict.scorer import Scorer

CPU = ["--config_file", "accelerate_configs/cpu.yaml"]


def test_a_run_leaves_what_the_contract_says_and_does_it_again(checkpoint, comments_csv, tmp_path, home):
    output_dir = tmp_path / "run"
    command = [*LAUNCH, *CPU, "run_toxicity.py", *flags(checkpoint, comments_csv, output_dir)]
    first = run(*command, **home)
    assert first.returncode == 0, first.stderr
    row = json.loads(first.stdout.splitlines()[-1])
    assert row == json.loads((output_dir / "report" / "benchmark.json").read_text())
    predictions_file = output_dir / "report" / "predictions.parquet"
    assert row["protocol"] | {"mixed_precision": "any"} == {
        "recipe": "sample",
        "dataset": "comments.csv",
        "model": str(checkpoint),
        "model_is_local": True,
        "config_overrides": "hidden_dropout_prob=0.1",
        "train_rows": 80,
        "validation_rows": 40,
        "max_seq_length": 32,
        "epochs": 6.0,
        "seed": 1234,
        "mixed_precision": "any",
        "labels": ["toxicity"],
        "validation_positives": sum(pyarrow.parquet.read_table(predictions_file)["label"].to_pylist()),
        "train_sampling_strategy": "random",
        "max_tokens_per_batch": None,
        "optimiser": {
            "optim": "adamw_torch_fused",
            "batch_size": 8,
            "learning_rate": 1e-3,
            "lr_scheduler_type": "linear",
            "warmup_steps": 0.06,
            "weight_decay": 0.01,
            "max_grad_norm": 1.0,
        },
        "options": {},
    }
    assert row["machine"]["label"] == "cpu"
    assert 0 < row["throughput"]["training_flops_per_second"] < row["machine"]["matmul_flops_per_second"]
    assert not row["timing"]["tokenizer_cache_hit"]
    assert all(row["timing"][f"{phase}_seconds"] > 0 for phase in ("tokenizer", "training", "inference"))
    assert all(rate > 0 for rate in row["throughput"].values())
    assert "| Machine | Epochs |" in first.stdout
    assert "Most toxic (" in first.stdout
    assert "Least toxic (" in first.stdout
    assert "Training: step 10 of 60" in first.stderr
    assert "%|" not in first.stderr, "no progress bars where the output is piped"

    predictions = pyarrow.parquet.read_table(predictions_file)
    assert predictions.column_names == ["id", "label", "score"]
    assert row["metrics"]["auc"] > 0.95
    of_label = row["metrics"]["labels"]["toxicity"]
    assert {name: of_label[name] for name in row["metrics"] if name != "labels"} | {
        "labels": row["metrics"]["labels"]
    } == (row["metrics"])
    assert of_label["calibration"] == row["calibration"]
    assert row["metrics"]["auc"] == pytest.approx(roc_auc_score(predictions["label"], predictions["score"]), abs=1e-12)

    second = run(*command, **home)
    assert predictions.equals(pyarrow.parquet.read_table(output_dir / "report" / "predictions.parquet"))
    again = json.loads(second.stdout.splitlines()[-1])
    assert again["metrics"] == row["metrics"]
    assert again["timing"]["tokenizer_cache_hit"]
    assert "(cached)" in second.stdout
    assert "are in the token cache" in second.stderr

    from transformers import pipeline

    classify = pipeline("text-classification", str(output_dir))
    texts = ["thank you kind note", "stupid rotten liar"]
    civil, toxic = classify(texts)
    assert civil["label"] == toxic["label"] == "toxic"
    assert 0 < civil["score"] < toxic["score"] < 1


@pytest.mark.parametrize("precision", ["no", "fp16"])
def test_precision_is_what_the_launcher_says(checkpoint, comments_csv, tmp_path, precision):
    settings = launcher_environment("--cpu", "--num_processes", 1, "--mixed_precision", precision)
    done = ended_well(Run(tmp_path, *flags(checkpoint, comments_csv, tmp_path / "run"), **settings))
    assert done.row["protocol"]["mixed_precision"] == precision


BAD_REQUESTS = {
    "unknown flag": (["--max_seq_len", 3], "`--max_seq_length`"),
    "missing file": (["--train_file", "nowhere.csv"], "nowhere.csv"),
    "missing column": (["--label_column_name", "rudeness"], "it has id, comment_text, target"),
    "label is the text": (["--label_column_name", "comment_text"], "`comment_text` holds the text and is not numeric"),
    "too long": (["--max_seq_length", MAX_POSITIONS + 1], f"lower it to {MAX_POSITIONS}"),
    "no such model": (["--model_name_or_path", "nowhere"], "--model_name_or_path"),
    "unknown machine": (["--gpu", "k80"], "the known ones are cpu, p100"),
    "another machine": (["--gpu", "hopper"], "hopper was asked for"),
}


def assert_refused(error_text, message, output_dir):
    errors = error_text[error_text.index("error:") :]
    assert message in errors
    assert len(errors.splitlines()) <= 2
    assert "Traceback" not in error_text
    assert not output_dir.exists()


@pytest.mark.parametrize("request_name", BAD_REQUESTS)
def test_a_refusal_is_two_lines_and_leaves_nothing(checkpoint, comments_csv, tmp_path, run_main, capsys, request_name):
    extra, message = BAD_REQUESTS[request_name]
    with pytest.raises(SystemExit) as stop:
        run_main(*flags(checkpoint, comments_csv, tmp_path / "run"), *extra)
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert_refused(printed.err, message, tmp_path / "run")


def test_a_metric_that_this_run_has_not_is_refused_before_the_tokens_are_made(
    checkpoint, comments_csv, tmp_path, run_main, capsys
):
    choose = ["--early_stopping_patience", 2, "--metric_for_best_model", "mean_auc"]
    with pytest.raises(SystemExit) as stop:
        run_main(*flags(checkpoint, comments_csv, tmp_path / "run"), *choose)
    assert stop.value.code == 2
    printed = capsys.readouterr().err
    assert "this run has no label but toxic; what it measures is loss, auc." in printed
    assert "Tokenizing" not in printed
    assert not (tmp_path / "run").exists()


BAD_DATA = {
    "one class": ([["thank you", 0]] * 30, "training needs both"),
    "label is no number": ([["thank you", "kind"]] * 9, "`target` holds `kind` (9 rows), of which nobody can tell"),
    "empty split": ([["thank you", 0]], "split empty"),
    "blank text": ([["thank you", 0], [" ", 1], ["liar", 1]] * 9, "row 2: the text is blank"),
}


@pytest.mark.parametrize("data_name", BAD_DATA)
def test_refusals_of_bad_data_leave_nothing_either(checkpoint, tmp_path, run_main, capsys, data_name):
    rows, message = BAD_DATA[data_name]
    comments = write_csv(tmp_path / "bad.csv", ["text", "target"], rows)
    with pytest.raises(SystemExit) as stop:
        run_main(*flags(checkpoint, comments, tmp_path / "run"))
    assert stop.value.code == 2
    assert_refused(capsys.readouterr().err, message, tmp_path / "run")


def test_a_refusal_from_the_command_line(checkpoint, comments_csv, tmp_path, home):
    options = flags(checkpoint, comments_csv, tmp_path / "run")
    refused = run(sys.executable, "run_toxicity.py", *options, "--label_column_name", "rudeness", **home)
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert_refused(refused.stderr, "it has id, comment_text, target", tmp_path / "run")


def test_a_model_that_was_trained_is_kept_whatever_fails_afterwards(
    checkpoint, comments_csv, tmp_path, run_main, monkeypatch
):
    def fail(*arguments):
        raise MemoryError("of the probe")

    monkeypatch.setattr("toxicity.training.evaluate.probe_labels", fail)
    with pytest.raises(MemoryError):
        run_main(*flags(checkpoint, comments_csv, tmp_path / "run"), "--num_train_epochs", 1)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }


def test_a_disk_that_is_full_at_the_report_is_told_with_what_is_kept(
    checkpoint, comments_csv, tmp_path, run_main, monkeypatch, capsys
):
    def fail(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("toxicity.report.plots.draw_timing", fail)
    output_dir = tmp_path / "run"
    with pytest.raises(SystemExit) as stop:
        run_main(*flags(checkpoint, comments_csv, output_dir), "--num_train_epochs", 1, "--save_strategy", "epoch")
    assert stop.value.code == 1
    error = capsys.readouterr().err.split("error: ")[1]
    assert error.startswith(f"cannot write the report in {output_dir}: ")
    assert f"The trained model is saved. The last good checkpoint is {output_dir / 'checkpoint-10'}." in error
    assert "start again with --resume_from_checkpoint auto" in error
    assert not list(output_dir.rglob("*.unfinished"))


def test_all_options_at_once_train_a_model_with_one_label(checkpoint, tmp_path, run_main, capsys):
    rng = np.random.default_rng(0)
    subtypes = {name: rng.random(120) for name in SUBTYPES}
    annotated = np.where(rng.random(120) < 0.5, 1.0, np.nan)
    identities = {name: rng.integers(0, 2, 120) * annotated for name in IDENTITIES}
    texts, labels = zip(*make_comments(120), strict=True)
    frame = pandas.DataFrame(
        {"id": range(120), "comment_text": texts, "target": np.array(labels) * 0.75, "toxicity_annotator_count": 6}
        | subtypes
        | identities
    )
    frame.to_csv(tmp_path / "all.csv", index=False)
    run_main(
        *("--train_file", tmp_path / "all.csv", "--model_name_or_path", checkpoint, "--output_dir", tmp_path / "run"),
        *("--max_seq_length", 16, "--num_train_epochs", 3, "--learning_rate", 3e-3, "--targets", "smoothed"),
        *("--identity_weights", "any", "--auxiliary_targets", "subtypes", "identities", "--init_head_bias", True),
        *("--head_tail_truncation", True, "--layerwise_lr_decay", 0.9, "--later_negatives", 0.5),
        *("--early_stopping_patience", 3, "--per_device_train_batch_size", 8),
    )
    row = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert row["protocol"]["options"] == {
        "targets": "smoothed",
        "identity_weights": "any",
        "auxiliary_targets": ["subtypes", "identities"],
        "init_head_bias": True,
        "head_tail_truncation": True,
        "layerwise_lr_decay": 0.9,
        "later_negatives": 0.5,
        "early_stopping_patience": 3,
    }
    assert row["metrics"]["auc"] > 0.9
    assert row["metrics"]["bias"] is not None
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["id2label"] == {"0": "toxic"}
    assert config["toxicity"]["head_tail_truncation"]
    predictions = pyarrow.parquet.read_table(tmp_path / "run" / "report" / "predictions.parquet")
    scorer = Scorer(str(tmp_path / "run"), mixed_precision="no", runtime="torch")
    scorer.calibration = Calibration()  # those of the run are not calibrated
    rows = predictions["id"].to_numpy()
    scores = scorer([texts[row] for row in rows])
    np.testing.assert_allclose(scores, predictions["score"], atol=1e-5)


def test_options_that_the_data_cannot_serve_are_refused_before_anything_is_done(
    checkpoint, comments_csv, tmp_path, run_main, capsys
):
    with pytest.raises(SystemExit) as stopped:
        run_main(*flags(checkpoint, comments_csv, tmp_path / "run"), "--identity_weights", "share")
    assert stopped.value.code == 2
    assert "--identity_weights share needs columns that these comments do not have: male" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
