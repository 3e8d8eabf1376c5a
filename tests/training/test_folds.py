"""Trainings of which each leaves out one fold; the script itself is a stand-in here."""

import json
import textwrap

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from toxicity.core.arguments import parse_arguments
from toxicity.core.errors import Interrupted, RequestError, RunFailure
from toxicity.data.sources import read_sample
from toxicity.training import folds
from toxicity.training.folds import fold_numbers, train_folds

ROWS = 200

# Notes its flags where the report would be, and ends with the code that a file beside the output says.
SCRIPT = """
import json, pathlib, sys
output = pathlib.Path(sys.argv[sys.argv.index("--output_dir") + 1])
print("what the training prints")
code = output.parent / f"{output.name}.code"
if code.exists():
    sys.exit(int(code.read_text()))
(output / "report").mkdir(parents=True)
(output / "report" / "benchmark.json").write_text(json.dumps(sys.argv[1:]))
"""
FLAGS = ["--train_file", "mine.csv", "--text_column_name", "said", "--learning_rate", "1e-3", "--positive_labels=a"]


@pytest.fixture(autouse=True)
def script(tmp_path, monkeypatch):
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(SCRIPT))
    monkeypatch.setattr(folds, "SCRIPT", path)


@pytest.fixture
def rows():
    """Comments of one label, one in five toxic."""
    source = read_sample().table.slice(0, ROWS)
    return source.set_column(
        source.column_names.index("target"), "target", pa.array(np.arange(ROWS) % 5 == 0, pa.float64())
    )


def train(rows, output, argv=FLAGS, labels=None, count=4, groups=None):
    arguments = parse_arguments(argv)
    groups = np.arange(len(rows)) if groups is None else groups
    return train_folds(rows, labels, groups, count, output, argv, arguments)


def flags_of(run):
    return json.loads(run.benchmark.read_text())


def value(flags, name):
    return flags[flags.index(name) + 1]


def test_every_row_is_scored_once_and_trained_on_by_the_others(rows, tmp_path):
    runs = train(rows, tmp_path / "audit")
    scored = []
    for number, run in enumerate(runs):
        flags = flags_of(run)
        scored.append(pa.parquet.read_table(value(flags, "--validation_file")))
        assert value(flags, "--train_file").endswith(f"/folds/fold-[!{number}].parquet")
        assert value(flags, "--max_train_samples") == "150"
        assert value(flags, "--max_eval_samples") == "50"
        assert scored[-1]["target"].to_numpy().sum() == 10
    together = pa.concat_tables(scored).sort_by("id")
    assert together["id"].to_pylist() == list(range(ROWS))
    assert together["text"].equals(rows["text"])
    assert together["target"].equals(rows["target"])


def test_flags_of_the_data_stay_behind_and_all_others_are_handed_on(rows, tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "train_file: mine.csv\nlabel_column_name: bad\nmax_train_samples: 7\nseed: 5\noutput_dir: runs/mine\n"
    )
    flags = flags_of(train(rows, tmp_path / "audit", [str(recipe), *FLAGS])[0])
    assert value(flags, "--learning_rate") == "1e-3"
    assert not {"--text_column_name", "said", "--positive_labels=a", "mine.csv"} & set(flags)
    assert flags[0] == str(tmp_path / "audit" / "folds" / "mine.yaml")
    assert "max_train_samples" not in (text := (tmp_path / "audit" / "folds" / "mine.yaml").read_text())
    assert "label_column_name" not in text
    assert "seed: 5" in text


def test_of_a_recipe_remains_what_makes_a_model(rows, tmp_path):
    recipe = tmp_path / "mine.yaml"
    drawn = "identity_rows: 0.1\nidentity_terms: mine.yaml\n"
    recipe.write_text(f"{drawn}push_to_hub: true\neval_files: [b=b.csv]\nweight_decay: 0.01\noutput_dir: runs/mine\n")
    flags = flags_of(train(rows, tmp_path / "audit", [str(recipe), *FLAGS])[0])
    left = (tmp_path / "audit" / "folds" / "mine.yaml").read_text()
    assert left == "weight_decay: 0.01\n"
    assert value(flags, "--robustness_rows") == "0"
    assert not {"--counterfactuals", "--identity_terms"} & set(flags)


def test_what_the_default_recipe_does_to_its_own_comments_is_done_to_no_others(rows, tmp_path, monkeypatch):
    recipe = tmp_path / "sample.yaml"
    copies = "counterfactuals: 3\ncounterfactual_pairing: 0.1\nidentity_rows: 0.1\n"
    recipe.write_text(f"dataset_name: sample\n{copies}output_dir: runs/sample\n")
    monkeypatch.setattr("toxicity.core.arguments.SAMPLE_RECIPE", recipe)
    monkeypatch.setattr(folds, "SAMPLE_RECIPE", recipe)
    others = flags_of(train(rows, tmp_path / "others")[0])
    assert "counter" not in (tmp_path / "others" / "folds" / "sample.yaml").read_text()
    assert "--counterfactuals" not in others
    own = flags_of(train(rows, tmp_path / "own", [])[0])
    assert (value(own, "--counterfactuals"), value(own, "--counterfactual_pairing")) == ("3.0", "0.1")


@pytest.mark.parametrize(("argv", "length", "head_bias"), [([], "512", "True"), (FLAGS, "220", "False")])
def test_the_sample_keeps_its_own_values(rows, tmp_path, argv, length, head_bias):
    flags = flags_of(train(rows, tmp_path / "audit", argv)[0])
    assert value(flags, "--max_seq_length") == length
    assert value(flags, "--init_head_bias") == head_bias


def test_several_labels_go_by_their_names(rows, tmp_path):
    rows = rows.append_column("label insult", pa.array([None, 1.0] * (ROWS // 2)))
    argv = [*FLAGS[:2], "--label_column_names", "toxic", "insult"]
    flags = flags_of(train(rows, tmp_path / "audit", argv, labels=("toxic", "insult"))[0])
    assert flags[flags.index("--label_column_names") + 1 :][:2] == ["toxic", "insult"]
    table = pa.parquet.read_table(value(flags, "--validation_file"))
    assert table.column_names == ["id", "text", "toxic", "insult"]
    assert table["insult"].null_count


def test_a_finished_fold_is_not_trained_again(rows, tmp_path):
    output = tmp_path / "audit"
    output.mkdir()
    (output / "run-2.code").write_text("75")
    with pytest.raises(Interrupted) as stop:
        train(rows, output)
    assert "fold 3 of 4 was interrupted. Start the same command again" in stop.value.message
    assert [(output / f"run-{fold}").exists() for fold in range(4)] == [True, True, False, False]
    (output / "run-0" / "report" / "benchmark.json").write_text('"as it was"')
    (output / "run-2.code").unlink()
    runs = train(rows, output)
    assert flags_of(runs[0]) == "as it was"
    assert value(flags_of(runs[2]), "--resume_from_checkpoint") == "auto"


@pytest.mark.parametrize("change", ["rows", "flags", "folds"])
def test_a_folder_of_another_audit_is_refused_and_left_alone(rows, tmp_path, change):
    output = tmp_path / "audit"
    train(rows, output)
    before = (output / "folds" / "fold-0.parquet").read_bytes()
    other = {
        "rows": {"rows": rows.slice(1)},
        "flags": {"argv": [*FLAGS, "--seed", "7"]},
        "folds": {"count": 3},
    }[change]
    with pytest.raises(RequestError, match="holds an audit of other comments or with other flags"):
        train(**({"rows": rows, "output": output} | other))
    assert (output / "folds" / "fold-0.parquet").read_bytes() == before


@pytest.mark.parametrize(
    ("code", "error", "said"),
    [
        (2, RequestError, "fold 1 of 4 cannot be trained; the line above says why"),
        (1, RunFailure, "the training for fold 1 of 4 ended with code 1"),
        (75, Interrupted, "Start the same command again"),
        (130, KeyboardInterrupt, "Interrupted by Ctrl-C in the training for fold 1 of 4"),
    ],
)
def test_how_a_training_ends_is_how_the_audit_ends(rows, tmp_path, capfd, code, error, said):
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "run-0.code").write_text(str(code))
    with pytest.raises(error) as ended:
        train(rows, tmp_path / "audit")
    assert said in (ended.value.message if error is Interrupted else str(ended.value))
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "what the training prints" in printed.err


def test_nearly_same_comments_are_in_one_fold_and_classes_even_out(rows):
    groups = np.arange(ROWS) // 2
    numbers = fold_numbers(rows, groups, 5)
    assert (numbers[::2] == numbers[1::2]).all()
    assert np.bincount(numbers).tolist() == [40] * 5
    np.testing.assert_array_equal(numbers, fold_numbers(rows, groups, 5))


def test_rows_without_the_main_label_are_a_class_of_their_own(rows):
    target = np.where(np.arange(ROWS) % 10 == 1, np.nan, np.arange(ROWS) % 5 == 0)
    rows = rows.set_column(rows.column_names.index("target"), "target", pa.array(target))
    numbers = fold_numbers(rows, np.arange(ROWS), 4)
    assert np.bincount(numbers[np.isnan(target)]).tolist() == [5] * 4


def test_without_the_script_of_a_checkout_folds_are_refused_before_anything_is_written(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(folds, "SCRIPT", tmp_path / "site-packages" / "run_toxicity.py")
    with pytest.raises(RequestError, match=r"start the audit in a checkout, or name a finished run \(--run DIR\)"):
        train(rows, tmp_path / "audit")
    assert not (tmp_path / "audit").exists()
