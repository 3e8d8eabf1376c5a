"""Requests of several labels that cannot work: exit code 2, a sentence that names the fix, and nothing left behind."""

import pyarrow as pa
import pytest
from builders import training_flags
from labelled import jigsaw2018, write_table

ROWS = 60


def with_column(name, values):
    table = jigsaw2018(ROWS)
    return (
        table.append_column(name, pa.array(values))
        if name not in table.column_names
        else table.set_column(table.column_names.index(name), name, pa.array(values))
    )


# The table, the labels that are asked for, and what is said.
REFUSED = {
    "not there": (jigsaw2018(ROWS), ["toxic", "sarcasm"], "it has id, comment_text, toxic, severe_toxic, obscene"),
    "twice": (jigsaw2018(ROWS), ["toxic", "insult", "insult"], "name each label once"),
    "twice by synonym": (jigsaw2018(ROWS), ["toxic", "toxicity"], "names the column `toxic` twice"),
    "in upper and lower case": (jigsaw2018(ROWS), ["toxic", "insult", "Insult"], "cannot be told apart"),
    "like an identity": (with_column("muslim", [0, 1] * 30), ["toxic", "muslim"], "--auxiliary_targets identities"),
    "like the id": (jigsaw2018(ROWS), ["toxic", "id"], "cannot be called `id`"),
    "the text": (jigsaw2018(ROWS), ["toxic", "comment_text"], "cannot be both the text and a label"),
    "all null": (
        with_column("insult", pa.nulls(ROWS, pa.float64())),
        ["toxic", "insult"],
        "none of the 40 training rows has a value of the label `insult`",
    ),
    "the main one of one class": (
        with_column("toxic", [0] * ROWS),
        ["toxic", "insult"],
        "all 40 training rows with a value of `toxic` are civil; training needs both",
    ),
    "outside 0..1": (
        with_column("insult", [0.5, 1.5, *[0, 1] * 29]),
        ["toxic", "insult"],
        "row 2: the label `insult` is not from 0 to 1",
    ),
    "classes that nobody can tell": (
        with_column("kind", ["a", "b"] * 30),
        ["toxic", "kind"],
        "`kind` holds `a` (30 rows), `b` (30 rows), of which nobody can tell",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_learned_is_refused_and_leaves_nothing(checkpoint, tmp_path, run_main, capsys, name):
    table, labels, message = REFUSED[name]
    flags = training_flags(checkpoint, write_table(tmp_path / "train.parquet", table), output_dir=tmp_path / "run")
    with pytest.raises(SystemExit) as stop:
        run_main(*flags, "--label_column_names", *labels)
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    error = printed.err.split("error: ")[1]
    assert message in " ".join(error.split())
    assert len(error.strip().splitlines()) <= 2
    assert "Traceback" not in printed.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--label_column_name", "toxic"], "both name the labels: keep one of them"),
        (["--metric_for_best_model", "auc_sarcasm"], "has the labels toxic, insult; what it measures is loss, auc"),
        (["--positive_class_weight", 1, 2, 3], "has 3 values, and there are 2 labels"),
        (["--positive_class_weight", "heavy"], "give a number above 0, one for each label, or `balanced`"),
        (["--focal_gamma", -1], "--focal_gamma is -1"),
        (["--validation_labels_file", "labels.csv"], "needs a --validation_file beside it"),
        (["--dataset_name", "sample"], "both name the data: keep one of them"),
    ],
)
def test_flags_that_mean_nothing_together_are_refused(checkpoint, tmp_path, run_main, capsys, more, message):
    path = write_table(tmp_path / "train.csv", jigsaw2018(ROWS))
    flags = training_flags(checkpoint, path, output_dir=tmp_path / "run")
    with pytest.raises(SystemExit) as stop:
        run_main(*flags, "--label_column_names", "toxic", "insult", *more)
    assert stop.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()
