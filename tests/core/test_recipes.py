"""The recipes of several labels, with files as the competitions have them."""

import pytest
from labelled import LABELS_2018, LABELS_2019, jigsaw2018, jigsaw2018_test, jigsaw2019, write_table

from toxicity.core.arguments import SAMPLE_RECIPE, parse_arguments

FOLDER = SAMPLE_RECIPE.parent


@pytest.mark.parametrize(
    ("name", "labels", "reached"),
    [("jigsaw2018", LABELS_2018, ["0.98856", "0.98636"]), ("subtypes", LABELS_2019, ["0.9374"])],
)
def test_the_recipe_names_the_labels_and_what_others_reached(name, labels, reached):
    path = FOLDER / f"{name}.yaml"
    arguments = parse_arguments([str(path), "--train_file", "train.csv"])
    assert tuple(arguments.data.label_column_names) == labels
    assert arguments.model.model_name_or_path == "google-bert/bert-base-uncased"
    assert arguments.training.max_tokens_per_batch == "auto"
    (line,) = [line for line in path.read_text().splitlines() if line.startswith("# Others reached")]
    assert all(figure in line for figure in reached)


def dry_run(run_main, capsys, checkpoint, folder, recipe, **files):
    flags = [part for name, path in files.items() for part in (f"--{name}", path)]
    run_main(
        *(FOLDER / f"{recipe}.yaml", *flags, "--model_name_or_path", checkpoint, "--max_seq_length", 32),
        *("--output_dir", folder / "run", "--dry_run"),
    )
    return capsys.readouterr().out


def test_the_files_of_2018(checkpoint, tmp_path, run_main, capsys):
    comments, labels = jigsaw2018_test(30)
    files = {"train_file": jigsaw2018(60), "validation_file": comments, "validation_labels_file": labels}
    files = {name: write_table(tmp_path / f"{name}.csv", table) for name, table in files.items()}
    out = dry_run(run_main, capsys, checkpoint, tmp_path, "jigsaw2018", **files)
    assert "Train: 60 rows" in out
    assert "Validation: 20 rows" in out
    assert "Left out: 10 rows: nobody scored it (its target is -1)" in out
    assert all(out.count(f"  label {name}:") == 2 for name in LABELS_2018)


def test_the_file_of_2019(checkpoint, tmp_path, run_main, capsys):
    train = write_table(tmp_path / "train.csv", jigsaw2019(60))
    out = dry_run(run_main, capsys, checkpoint, tmp_path, "subtypes", train_file=train)
    # Of a file with fewer rows than the protocol has, both parts shrink alike.
    assert "Train: 40 rows" in out
    assert all(out.count(f"  label {name}:") == 2 for name in LABELS_2019)
