"""Thresholds for what was asked for, and another share of toxic comments: from the flags to report and scores."""

import json
import subprocess
import sys

import numpy as np
import pandas
import pytest
from builders import ROOT, make_comments, training_flags, write_comments, write_csv, write_texts
from labelled import jigsaw2018, write_table
from processes import Run, ended_well

PRIOR = 0.08
TEXTS = [text for text, _ in make_comments(120, seed=3)]


def odds(share):
    return np.log(share) - np.log1p(-share)


@pytest.fixture(scope="module")
def runs(checkpoint, tmp_path_factory):
    """The folders of two runs, without a flag and with all of them, and the log of the second."""
    folder = tmp_path_factory.mktemp("thresholds")
    # Some are wrong, so that no score is sure.
    comments = make_comments(480, seed=1)
    rows = [[number, text, label ^ (number % 23 == 0)] for number, (text, label) in enumerate(comments)]
    validation = write_csv(folder / "validation.csv", ["id", "comment_text", "target"], rows)
    flags = training_flags(
        *(checkpoint, write_comments(folder / "train.csv", 160, first_id=1000)),
        **{"validation_file": validation, "num_train_epochs": 4, "learning_rate": 1e-3},
    )
    ended_well(Run(folder, *flags, "--output_dir", folder / "plain"))
    asked = ["--threshold_for", "recall=0.9", "flagged=0.02", "--prior", PRIOR]
    done = ended_well(Run(folder, *flags, *asked, "--output_dir", folder / "asked"))
    return folder / "plain", folder / "asked", done.errors


def section(folder):
    return json.loads((folder / "config.json").read_text())["toxicity"]


def test_the_run_says_what_each_threshold_is_for_and_how_sure_that_is(runs):
    _, folder, log = runs
    found = json.loads((folder / "report" / "benchmark.json").read_text())["calibration"]
    predictions = pandas.read_parquet(folder / "report" / "predictions.parquet")
    toxic, scores = predictions.label.to_numpy() > 0, predictions.score.to_numpy()
    assert (found["prior"], found["base_rate"], found["confidence"]) == (PRIOR, toxic.mean(), 0.9)
    recall, flagged = found["thresholds"][4:]
    assert (recall["recall_target"], flagged["flagged_target"]) == (0.9, 0.02)
    chosen = scores >= recall["pipeline_threshold"]
    assert recall["recall"] == chosen[toxic].mean() >= 0.9
    weights = np.where(toxic, PRIOR / toxic.mean(), (1 - PRIOR) / (1 - toxic.mean()))
    assert recall["precision"] == pytest.approx(np.average(toxic[chosen], weights=weights[chosen]))
    assert flagged["flagged"] == pytest.approx(np.average(scores >= flagged["pipeline_threshold"], weights=weights))
    assert flagged["flagged"] <= 0.02

    config = section(folder)
    assert {"recall=0.9", "flagged=0.02"} <= config["thresholds"].keys()
    assert (config["prior"], config["base_rate"]) == (PRIOR, toxic.mean())
    assert config["guarantee"].startswith("With 90 % confidence for each threshold, on comments like those")
    probed = json.loads((folder / "report" / "benchmark.json").read_text())["probe"]["thresholds"]
    assert probed == config["thresholds"]
    assert "Traceback" not in log


@pytest.mark.parametrize("page", ["README.md", "report/report.md", "report/report.html"])
def test_every_page_says_it_in_words(runs, page):
    plain, folder, _ = runs
    text, without = (" ".join((run / page).read_text().split()) for run in (folder, plain))
    text = text.replace("<code>", "`").replace("</code>", "`")
    for told in (
        "With 90 % confidence, each threshold keeps what is wanted of it on comments like these",
        "or of the toxic ones at least that share does (recall), or at most that share of all does (flagged)",
        "recall 0.9",
        "at most 2 % flagged",
        "Scores and thresholds are for 8.0 % toxic comments, as `--prior` asked for, though",
    ):
        assert told in text
    assert "With 90 % confidence, each threshold keeps" in without
    assert "as `--prior` asked for" not in without
    assert "recall 0.9" not in without


def test_the_training_is_the_same(runs):
    plain, folder, _ = runs
    assert (plain / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert section(folder)["method"] == section(plain)["method"]


def test_scores_are_for_another_share_if_asked_and_labels_stay(runs, score, tmp_path, capsys):
    plain, asked, _ = runs
    write_texts(tmp_path / "in.csv", TEXTS)
    call = ("--input", tmp_path / "in.csv", "--runtime", "torch")
    found = {}
    for name, folder, flags in (
        ("before", plain, ("--precision_target", "0.5")),
        ("moved", plain, ("--precision_target", "0.5", "--prior", PRIOR)),
        ("trained", asked, ("--threshold_for", "recall=0.9")),
        ("back", asked, ("--threshold_for", "recall=0.9", "--prior", section(asked)["base_rate"])),
    ):
        assert score(*call, *flags, model=folder, output=tmp_path / name) == 0
        found[name] = pandas.read_parquet(tmp_path / name / "in.parquet")
    shift = odds(PRIOR) - odds(section(plain)["base_rate"])
    for before, after in (("before", "moved"), ("back", "trained")):
        moved = odds(found[after].score) - odds(found[before].score)
        np.testing.assert_allclose(moved, shift, atol=1e-5)
        assert found[before].label.tolist() == found[after].label.tolist()
        assert 0 < found[before].label.sum() < len(TEXTS)
    assert "the thresholds label the same comments as before" in capsys.readouterr().err
    assert section(asked)["precision_target"] is None
    flags = ("--prior", 0.3)
    assert score(*call, *flags, model=asked, output=tmp_path / "default") == 0
    assert "labels are given from 0.5 on, as before, though" in capsys.readouterr().err
    frame = pandas.read_parquet(tmp_path / "default" / "in.parquet")
    assert frame.label.tolist() == (frame.score >= 0.5).tolist()


def test_labels_by_the_threshold_that_was_asked_for(runs, score, tmp_path, capsys):
    _, folder, _ = runs
    write_texts(tmp_path / "in.csv", TEXTS)
    for number, name in enumerate(("recall=0.9", "flagged=0.02", "precision=0.5")):
        call = ("--input", tmp_path / "in.csv", "--runtime", "torch", "--threshold_for", name)
        assert score(*call, model=folder, output=tmp_path / f"{number}") == 0
        frame = pandas.read_parquet(tmp_path / f"{number}" / "in.parquet")
        threshold = section(folder)["thresholds"][name.removeprefix("precision=")]
        assert frame.label.tolist() == (frame.score >= threshold).tolist()
    assert score("--input", tmp_path / "in.csv", "--threshold_for", "recall=0.7", model=folder) == 2
    told = capsys.readouterr().err
    assert "--threshold_for recall=0.7: the model's config.json has thresholds for 0.5" in told
    assert "recall=0.9" in told


REFUSED_IN_TRAINING = {
    "no kind": (["--threshold_for", "precison=0.9"], "--threshold_for precison=0.9: give precision, recall or flagged"),
    "no share": (["--threshold_for", "recall=0.9", "recall=1.5"], "--threshold_for recall=1.5: give precision, recall"),
    "nobody": (["--prior", 0], "--prior 0: give a share of toxic comments above 0 and below 1, such as 0.02."),
    "percent": (["--prior", 8], "--prior 8: give a share of toxic comments above 0 and below 1, such as 0.02."),
    "too many": (["--prior", 0.1, 0.2], "--prior has 2 values, and there is 1 label: give one for the main label"),
}


@pytest.mark.parametrize("name", REFUSED_IN_TRAINING)
def test_what_cannot_be_is_refused_before_anything_is_done(checkpoint, comments_csv, tmp_path, run_main, capsys, name):
    flags, message = REFUSED_IN_TRAINING[name]
    with pytest.raises(SystemExit) as stop:
        run_main(*training_flags(checkpoint, comments_csv, output_dir=tmp_path / "run"), *flags)
    printed = capsys.readouterr()
    assert (stop.value.code, printed.out) == (2, "")
    assert message in printed.err
    assert "Traceback" not in printed.err
    assert not (tmp_path / "run").exists()


REFUSED_IN_SCORING = {
    "no kind": (["--threshold_for", "precison=0.9"], "--threshold_for precison=0.9: give precision, recall or flagged"),
    "no share": (["--threshold_for", "recall=1.5"], "--threshold_for recall=1.5: give precision, recall or flagged"),
    "both": (["--threshold_for", "0.9", "--precision_target", "0.9"], "keep one of them"),
    "nobody": (["--prior", 0], "--prior 0: give a share of toxic comments above 0 and below 1"),
    "too many": (["--prior", 0.1, 0.2], "--prior has 2 values, and there is 1 label"),
    "a model that was never calibrated": (["--prior", 0.08], "does not have it (`base_rate`): leave --prior out"),
}


@pytest.mark.parametrize("name", REFUSED_IN_SCORING)
def test_what_cannot_be_scored_is_refused(score, tmp_path, capsys, name):
    flags, message = REFUSED_IN_SCORING[name]
    write_texts(tmp_path / "in.csv", TEXTS[:3])
    assert score("--input", tmp_path / "in.csv", *flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "out" / "in.parquet").exists()


def test_a_refusal_from_the_command_line(tmp_path):
    command = [sys.executable, "-m", "toxicity.predict", "--model", "m", "--input", "in.csv", "--output", tmp_path]
    done = subprocess.run([*command, "--prior", "0"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.strip() == (
        "error: --prior 0: give a share of toxic comments above 0 and below 1, such as 0.02."
    )


@pytest.mark.parametrize(
    ("rows", "in_log", "in_report"),
    [
        (
            48,
            "as no threshold is certified for a precision of 0.9: not enough comments: about ",
            "- Precision 0.9: not enough comments: about ",
        ),
        (
            24,
            "Neither scores are calibrated nor thresholds chosen: 6 toxic rows, fewer than 10. That takes 10 comments",
            "No thresholds were chosen, and the scores were not calibrated; the log of the run says why. That takes 10",
        ),
    ],
)
def test_too_few_comments_for_a_threshold_are_told_with_how_many_would_do(
    checkpoint, tmp_path, run_main, capsys, rows, in_log, in_report
):
    files = {"validation_file": write_comments(tmp_path / "few.csv", rows), "output_dir": tmp_path / "run"}
    train = write_comments(tmp_path / "train.csv", 80, first_id=1000)
    run_main(*training_flags(checkpoint, train, **files, num_train_epochs=4, learning_rate=1e-3))
    assert in_log in capsys.readouterr().err
    report = (tmp_path / "run" / "report" / "report.md").read_text()
    assert in_report in report
    assert "would do, and there are 48" in report or "at least 27 toxic ones" in report
    assert section(tmp_path / "run")["threshold"] == 0.5


def test_each_of_several_labels_has_them(checkpoint, tmp_path, run_main, score, capsys):
    train = write_table(tmp_path / "train.parquet", jigsaw2018(240))
    validation = write_table(
        tmp_path / "validation.parquet",
        jigsaw2018(400, seed=5).set_column(0, "id", [[f"v{row}" for row in range(400)]]),
    )
    options = {"validation_file": validation, "max_seq_length": 48, "num_train_epochs": 4, "learning_rate": 3e-3}
    flags = [*training_flags(checkpoint, train, **options), "--label_column_names", "toxic", "insult", "obscene"]
    with pytest.raises(SystemExit) as stop:
        run_main(*flags, "--output_dir", tmp_path / "run", "--prior", 0.05, 0.01)
    assert stop.value.code == 2
    assert "--prior has 2 values, and there are 3 labels: give one for the main label" in capsys.readouterr().err
    asked = ["--threshold_for", "recall=0.8", "--prior", 0.05, 0.01, 0.02]
    run_main(*flags, *asked, "--output_dir", tmp_path / "run")
    row = json.loads(capsys.readouterr().out.splitlines()[-1])
    priors = {name: found["calibration"]["prior"] for name, found in row["metrics"]["labels"].items()}
    assert priors == {"toxic": 0.05, "insult": 0.01, "obscene": 0.02}
    labels = section(tmp_path / "run")["labels"]
    assert {name: found["prior"] for name, found in labels.items()} == priors
    assert all("recall=0.8" in found["thresholds"] for found in labels.values())
    for page in ("README.md", "report/report.md"):
        text = (tmp_path / "run" / page).read_text()
        assert "| Recall 0.8" in text
        assert "as `--prior` asked for" in text

    write_texts(tmp_path / "in.csv", TEXTS)
    call = ("--input", tmp_path / "in.csv", "--runtime", "torch", "--threshold_for", "recall=0.8")
    assert score(*call, model=tmp_path / "run", output=tmp_path / "a") == 0
    assert score(*call, "--prior", 0.3, model=tmp_path / "run", output=tmp_path / "b") == 0
    before, after = (pandas.read_parquet(tmp_path / name / "in.parquet") for name in "ab")
    np.testing.assert_allclose(odds(after.score) - odds(before.score), odds(0.3) - odds(0.05), atol=1e-5)
    assert after.insult.tolist() == before.insult.tolist(), "one prior is that of the main label"
    for label in ("label", "insult_label"):
        assert after[label].tolist() == before[label].tolist()
    threshold = labels["insult"]["thresholds"]["recall=0.8"]
    assert before.insult_label.tolist() == (before.insult >= threshold).tolist()
