"""What a run is judged on beside its validation rows: other comments, and its own in other writing."""

import json

import numpy as np
import pyarrow.parquet
import pytest
from builders import make_comments, training_flags, write_comments, write_csv
from labelled import LABELS_2018, jigsaw2018, write_table
from processes import Run, ended_well, two_ranks
from sklearn.metrics import roc_auc_score

from toxicity.core.rewriting import REWRITINGS, rewrite
from toxicity.evaluation.robustness import draw_rows
from toxicity.predict.scorer import Scorer

OPTIONS = {"learning_rate": 3e-3, "num_train_epochs": 3, "config_overrides": "hidden_dropout_prob=0"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Comments to train on, and others, in which one in four is labelled wrongly, so that no AUC is 1."""
    folder = tmp_path_factory.mktemp("files")
    rows = [[f"well {text}", label if n % 5 else 1 - label] for n, (text, label) in enumerate(make_comments(100, 3))]
    write_csv(folder / "forum.csv", ["text", "toxic"], rows)
    return write_comments(folder / "comments.csv"), folder / "forum.csv"


@pytest.fixture(scope="module")
def flags(checkpoint, files):
    return [*training_flags(checkpoint, files[0], **OPTIONS), "--eval_files", f"forum={files[1]}"]


@pytest.fixture(scope="module")
def made(flags, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    options = ["--save_strategy", "epoch", "--robustness_rows", 30]
    return folder / "run", ended_well(Run(folder, *flags, *options, "--output_dir", folder / "run")).row


def test_other_comments_are_scored_as_the_scorer_does(made, files):
    folder, row = made
    found = row["eval_files"]["forum"]
    rows = files[1].read_text().splitlines()[1:]
    texts, labels = zip(*(line.rsplit(",", 1) for line in rows), strict=True)
    truth = np.array(labels, int)
    scores = Scorer(str(folder), mixed_precision=row["protocol"]["mixed_precision"])(list(texts))
    assert (found["rows"], found["positives"]) == (100, truth.sum())
    assert found["auc"] == pytest.approx(roc_auc_score(truth, scores), abs=2e-3)
    assert 0.5 < found["auc"] < 0.95
    assert found["flagged"] == pytest.approx((scores >= found["threshold"]).mean(), abs=0.02)
    assert row["timing"]["eval_files_seconds"] > 0


def test_the_same_comments_are_scored_in_other_writing(made, files):
    folder, row = made
    found = row["robustness"]
    predictions = pyarrow.parquet.read_table(folder / "report" / "predictions.parquet")
    labels = predictions["label"].to_numpy()
    drawn = draw_rows(labels.astype(float), 30, 1234)
    assert found["rows"] == 30
    assert found["auc"] == pytest.approx(roc_auc_score(labels[drawn], predictions["score"].to_numpy()[drawn]), abs=1e-9)
    text_of = dict(enumerate(text for text, _ in make_comments(120)))
    texts = [text_of[number] for number in predictions["id"].take(drawn).to_pylist()]
    scorer = Scorer(str(folder), mixed_precision=row["protocol"]["mixed_precision"])
    for name in REWRITINGS:
        scores = scorer([rewrite(text, name, 1234) for text in texts])
        assert found["rewritings"][name]["auc"] == pytest.approx(roc_auc_score(labels[drawn], scores), abs=0.02)
    assert found["rewritings"]["capitals"]["flagged_change"] == 0  # the vocabulary is of small letters
    assert row["timing"]["robustness_seconds"] > 0


def test_the_report_and_the_card_tell_of_both(made):
    folder, row = made
    report = (folder / "report" / "report.md").read_text()
    page = (folder / "report" / "report.html").read_text()
    card = (folder / "README.md").read_text()
    auc = f"{row['eval_files']['forum']['auc']:.5f}"
    assert "`forum`" in report
    assert all(auc in text for text in (report, page, card))
    spaced = row["robustness"]["rewritings"]["letters spaced"]
    assert all(f"{spaced['auc']:.5f}" in text and "letters spaced" in text for text in (report, page))
    assert "The same 30 comments written in 7 other ways: at worst the AUC changes by" in card


def test_a_run_without_them_trains_the_same_model(made, checkpoint, files, tmp_path):
    folder, row = made
    without = training_flags(checkpoint, files[0], **OPTIONS, robustness_rows=0, output_dir=tmp_path / "run")
    done = ended_well(Run(tmp_path, *without))
    assert (done.row["robustness"], done.row["eval_files"]) == (None, {})
    assert done.row["metrics"] == row["metrics"]
    for name in ("model.safetensors", "config.json", "report/predictions.parquet"):
        assert (tmp_path / "run" / name).read_bytes() == (folder / name).read_bytes()
    report = (tmp_path / "run" / "report" / "report.md").read_text()
    assert "other ways" not in report
    assert "other sources" not in report


def test_a_run_that_was_interrupted_and_two_processes_find_the_same(made, flags, tmp_path):
    _, row = made
    options = [*flags, "--robustness_rows", 30, "--save_strategy", "epoch"]
    again = [*options, "--output_dir", tmp_path / "again", "--resume_from_checkpoint", "auto"]
    assert Run(tmp_path, *again, fault=("kill_at_step", 25)).ended() == -9
    done = ended_well(Run(tmp_path, *again))
    assert (done.row["eval_files"], done.row["robustness"]) == (row["eval_files"], row["robustness"])
    two = [*options, "--output_dir", tmp_path / "two", "--per_device_train_batch_size", 4]
    for run in two_ranks(tmp_path, *two):
        ended_well(run)
    found = json.loads((tmp_path / "two" / "report" / "benchmark.json").read_text())
    assert found["eval_files"]["forum"]["auc"] == pytest.approx(row["eval_files"]["forum"]["auc"], abs=0.01)
    assert found["robustness"]["auc"] == pytest.approx(row["robustness"]["auc"], abs=0.01)


def test_several_labels_are_judged_each(checkpoint, run_main, tmp_path, capsys):
    train = write_table(tmp_path / "train.csv", jigsaw2018(240))
    forum = write_table(tmp_path / "b.csv", jigsaw2018(120, 3), ["comment_text", "toxic", "obscene", "insult"])
    run_main(
        *training_flags(checkpoint, train, **OPTIONS, output_dir=tmp_path / "run"),
        *("--label_column_names", *LABELS_2018, "--eval_files", f"forum={forum}"),
    )
    row = json.loads(capsys.readouterr().out.splitlines()[-1])
    labels = row["eval_files"]["forum"]["labels"]
    assert list(labels) == list(LABELS_2018)
    assert {name for name, found in labels.items() if found["auc"] is None} == {
        "severe_toxic",
        "threat",
        "identity_hate",
    }
    assert labels["threat"]["undefined"]["auc"] == "no comment has a value of this label"
    assert (labels["toxic"]["rows"], labels["threat"]["rows"]) == (120, 0)
    assert row["robustness"]["rows"] == 80
    report = (tmp_path / "run" / "report" / "report.md").read_text()
    assert report.count("| `forum` | ") == 6


def test_a_dry_run_tells_of_them_and_a_bad_file_ends_it(checkpoint, files, run_main, tmp_path, capsys):
    flags = training_flags(checkpoint, files[0], output_dir=tmp_path / "run")
    run_main(*flags, "--eval_files", f"forum={files[1]}", "--dry_run")
    assert "Judged on in the end: forum: 100 rows, 35 (35.00%) toxic" in capsys.readouterr().out
    bad = write_csv(tmp_path / "bad.csv", ["text", "likes"], [["thank you", 3]])
    with pytest.raises(SystemExit) as stop:
        run_main(*flags, "--eval_files", f"forum={files[1]}", f"bad={bad}")
    assert stop.value.code == 2
    printed = capsys.readouterr().err
    assert "error: --eval_files bad: " in printed
    assert "Traceback" not in printed
    assert "Tokenizing" not in printed
    assert not (tmp_path / "run").exists()


def test_typos_are_learnt_and_told(checkpoint, files, run_main, tmp_path, capsys):
    flags = training_flags(checkpoint, files[0], **OPTIONS, output_dir=tmp_path / "run", augment_typos=0.5)
    run_main(*flags)
    row = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert row["protocol"]["options"]["augment_typos"] == 0.5
    assert "Augment typos" in (tmp_path / "run" / "README.md").read_text()
