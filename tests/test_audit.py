"""`python -m toxicity.audit` with trainings of tiny models in this process, and requests that cannot work."""

import csv
import json
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from builders import make_comments, training_flags, write_csv
from labelled import jigsaw2018, write_table
from matplotlib.figure import Figure
from processes import BLANK_PNG

from toxicity.audit import command
from toxicity.training import folds

ROWS = 160


@pytest.fixture
def run_audit(run_main, monkeypatch, capsys):
    """The command with its flags; returns its exit code and what it printed. Trainings are in this process."""
    trained = []

    def train(argv, which):
        trained.append(which)
        run_main(*argv)
        capsys.readouterr()

    monkeypatch.setattr(folds, "_run", train)
    # Half of the time of a training goes into drawing.
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **options: Path(path).write_bytes(BLANK_PNG))

    def call(*flags):
        monkeypatch.setattr(sys, "argv", ["toxicity.audit", *map(str, flags)])
        code = 0
        try:
            command()
        except SystemExit as stop:
            code = stop.code
        return code, capsys.readouterr()

    call.trained = trained
    return call


@pytest.fixture
def mislabelled(tmp_path):
    """Comments of which each row that 30 divides has a wrong label, row 7 is a copy of row 4,
    and row 30 begins as a formula does."""
    rows = [[number, text, toxic] for number, (text, toxic) in enumerate(make_comments(ROWS))]
    for row in rows[::30]:
        row[2] = 1 - row[2]
    rows[7] = [7, rows[4][1].upper() + "!", 0]
    rows[30][1] = "=SUM(1) " + rows[30][1]
    return write_csv(tmp_path / "comments.csv", ["id", "comment_text", "target"], rows)


def listed(folder):
    with (folder / "label_errors.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def flags_of(checkpoint, file, output, **options):
    options = {"learning_rate": 3e-3, "num_train_epochs": 3, **options}
    return [*training_flags(checkpoint, file, **options), "--folds", 2, "--output", output]


def test_folds_find_the_wrong_labels(run_audit, checkpoint, mislabelled, tmp_path):
    pytest.importorskip("cleanlab", reason="requirements-audit.txt is not installed")
    output = tmp_path / "audit [1]"  # which is no pattern
    code, printed = run_audit(*flags_of(checkpoint, mislabelled, output))
    assert code == 0, printed.err
    found = json.loads(printed.out.splitlines()[-1])
    rows = listed(output)
    assert {int(row["id"]) for row in rows[:8]} >= {0, 30, 60, 90}
    assert found["judged_rows"] == found["rows"] == found["labels"]["toxic"]["rows"] == ROWS
    assert found["labels"]["toxic"]["listed"] == len(rows)
    assert found["file"] == str(output / "label_errors.csv")
    assert {row["id"]: row for row in rows}["30"]["text"].startswith("'=SUM(1) ")
    copy = {row["id"]: row for row in rows}["7"]
    assert (copy["label"], copy["neighbours"]) == ("0", "1")
    assert copy["neighbour_ids"].endswith(" 4")
    assert sum(line.startswith("| ") for line in printed.out.splitlines()) == 1 + len(rows[:10])
    assert run_audit.trained == ["fold 1 of 2", "fold 2 of 2"]
    assert run_audit(*flags_of(checkpoint, mislabelled, output))[0] == 0
    assert run_audit.trained == ["fold 1 of 2", "fold 2 of 2"]


def test_the_validation_rows_of_one_run(run_audit, run_main, checkpoint, mislabelled, tmp_path, capsys):
    pytest.importorskip("cleanlab", reason="requirements-audit.txt is not installed")
    run = tmp_path / "run"
    run_main(*training_flags(checkpoint, mislabelled, output_dir=run, learning_rate=3e-3, num_train_epochs=2))
    capsys.readouterr()
    data = ["--train_file", mislabelled, "--output", tmp_path / "audit", "--run", run]
    # Copies of training rows have no labels of their own to audit, and are not made: these comments name no group.
    code, printed = run_audit(*data, "--counterfactuals", 1, "--identity_rows", 0.1)
    assert code == 0, printed.err
    scores = {row["id"]: row for row in pa.parquet.read_table(run / "report" / "predictions.parquet").to_pylist()}
    rows = listed(tmp_path / "audit")
    assert {row["split"] for row in rows} == {"validation"}
    for row in rows:
        assert float(row["score"]) == scores[int(row["id"])]["score"]
    assert json.loads(printed.out.splitlines()[-1])["judged_rows"] == ROWS // 3
    code, printed = run_audit(*data, "--max_eval_samples", 50)
    assert code == 2
    assert "was validated on other rows than these 50" in printed.err


def test_several_labels(run_audit, checkpoint, tmp_path):
    pytest.importorskip("cleanlab", reason="requirements-audit.txt is not installed")
    labels = ["toxic", "obscene", "threat"]
    file = write_table(tmp_path / "train.parquet", jigsaw2018(ROWS, missing=0.2))
    code, printed = run_audit(
        *flags_of(checkpoint, file, tmp_path / "audit"), "--label_column_names", *labels, "--on_bad_rows", "drop"
    )
    assert code == 0, printed.err
    found = json.loads(printed.out.splitlines()[-1])
    # Ten comments have the last label, of which some are missing.
    assert [name for name in labels if name in found["labels"]] == ["toxic", "obscene"]
    rows = listed(tmp_path / "audit")
    assert {row["label_name"] for row in rows} == {"toxic", "obscene"}
    qualities = [float(row["label_quality"]) for row in rows]
    assert qualities == sorted(qualities)
    assert 100 < found["labels"]["toxic"]["rows"] < ROWS


REFUSED = {
    "no way of scoring": ([], "one of the arguments --folds --run is required"),
    "two ways": (["--folds", 2, "--run", "runs/mine"], "not allowed with argument"),
    "one fold": (["--folds", 1], "--folds is 1; it works from 2 to 10"),
    "no number": (["--folds", "many"], "invalid int value"),
    "a flag that nobody knows": (["--folds", 2, "--learning_rat", 1], "the nearest known one is `--learning_rate`"),
    "a folder of its own": (["--folds", 2, "--output_dir", "runs/x"], "--output_dir means nothing for an audit"),
    "a push": (["--folds", 2, "--push_to_hub"], "--push_to_hub means nothing for an audit"),
    "other rows": (["--folds", 2, "--identity_rows", 0.1], "--identity_rows means nothing for an audit"),
    "training a run again": (["--run", "runs/mine", "--seed", 3], "--seed means nothing with --run"),
    "no run": (["--run", "runs/none"], "runs/none/report/predictions.parquet: name the folder of a finished run"),
    "no label": (["--folds", 2, "--label_column_name", "bad"], "has no column bad; it has id, comment_text, target"),
    "no file": (["--folds", 2, "--train_file", "none.csv"], "there is no file none.csv"),
}


@pytest.fixture
def cleanlab_or_not(monkeypatch):
    """Refusals that come before anything is looked for in the labels need no cleanlab."""
    from toxicity.evaluation import label_errors

    monkeypatch.setattr(label_errors, "require_cleanlab", lambda: None)


@pytest.mark.usefixtures("cleanlab_or_not")
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused_in_a_sentence(run_audit, mislabelled, tmp_path, name):
    flags, message = REFUSED[name]
    code, printed = run_audit("--train_file", mislabelled, "--output", tmp_path / "audit", *flags)
    assert code == 2
    assert message in printed.err
    assert printed.err.splitlines()[-1].startswith("error: ")
    assert printed.out == ""
    assert not (tmp_path / "audit").exists()


@pytest.mark.usefixtures("cleanlab_or_not")
@pytest.mark.parametrize(
    ("toxic", "message"),
    [
        (range(0), "training needs both"),
        (range(0, ROWS, 20), "8 different ones are toxic and 152 civil by the label `toxic`"),
    ],
)
def test_too_few_comments_of_a_class_are_refused(run_audit, checkpoint, tmp_path, toxic, message):
    rows = [[number, text, int(number in toxic)] for number, (text, _) in enumerate(make_comments(ROWS))]
    file = write_csv(tmp_path / "comments.csv", ["id", "comment_text", "target"], rows)
    code, printed = run_audit(*flags_of(checkpoint, file, tmp_path / "audit"))
    assert code == 2
    assert message in printed.err
    assert run_audit.trained == []


@pytest.mark.usefixtures("cleanlab_or_not")
def test_several_processes_and_an_output_that_is_a_file_are_refused(run_audit, mislabelled, tmp_path, monkeypatch):
    flags = ["--train_file", mislabelled, "--folds", 2, "--output"]
    code, printed = run_audit(*flags, mislabelled)
    assert (code, "is a file: name a folder" in printed.err) == (2, True)
    code, printed = run_audit(*flags, mislabelled / "audit")
    assert (code, "audit: Not a directory. Make room there, or name another folder" in printed.err) == (2, True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, printed = run_audit(*flags, tmp_path / "audit")
    assert (code, "an audit is one process" in printed.err) == (2, True)
