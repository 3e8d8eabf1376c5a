import pyarrow as pa
import pytest
from builders import training_flags
from datasets import Dataset
from labelled import LABELS_2018, jigsaw2018, write_table

from toxicity.data.row_checks import check_rows
from toxicity.data.sources import Splits
from toxicity.data.summary import summarize_data
from toxicity.data.tokenization import tokenize


@pytest.fixture
def splits():
    def rows(**columns):
        return Dataset(check_rows(pa.table(columns), "mine.csv").table)

    texts = ["liar liar", "thank you", "thank you", "kind note"]
    train = rows(text=texts, target=[0.9, 0.5, 0.1, 0.0], black=[0.5, 0.4, None, None])
    return Splits(
        train,
        rows(text=["thank you", "note"], target=[0.0, 0.0]),
        "mine.csv",
        *(4, 2, {"the text is blank": 3}),
        absent={"male": "its values are no shares"},
    )


def test_it_tells_what_was_found(splits, tokenizer, cache_dir):
    train = tokenize(splits.train, tokenizer, 4, cache_dir=cache_dir)
    validation = tokenize(splits.validation, tokenizer, 4, cache_dir=cache_dir)
    lines = summarize_data(splits, train, validation, 4).splitlines()
    assert lines[0] == "Source: mine.csv"
    assert "Train: 4 rows, 2 (50.00%) toxic" in lines
    assert "Validation: 2 rows, 0 (0.00%) toxic" in lines
    assert sum("cut at 4 tokens" in line for line in lines) == 2
    assert f"  cache made: {train.folder}" in "\n".join(lines)
    assert "Texts that were there before: 2 (33.33%)" in lines
    assert "Validation texts that are also trained on: 1 (50.00%)" in lines
    assert "Not used: male: its values are no shares" in lines
    assert "Left out: 3 rows: the text is blank" in lines
    assert "Subtypes (rows with a value, of them at >= 0.5): none" in lines
    assert lines[-1] == "  black: 2, 1"


def test_ids_of_two_files_may_differ_in_type(splits, tokenizer, cache_dir):
    ids = iter((["a", "b", None, "d"], [1, 2]))
    splits.train, splits.validation = (
        Dataset(split.data.table.set_column(0, "id", pa.array(next(ids))))
        for split in (splits.train, splits.validation)
    )
    tokens = [tokenize(split, tokenizer, 4, cache_dir=cache_dir) for split in (splits.train, splits.validation)]
    assert "Texts that were there before: 2 (33.33%)" in summarize_data(splits, *tokens, 4)


def test_the_command_stops_after_it(comments_csv, checkpoint, tmp_path, run_main, capsys):
    run_main(*training_flags(checkpoint, comments_csv, output_dir=tmp_path / "run"), "--dry_run")
    assert "Train: 80 rows, 2" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_several_labels_have_a_line_each(tmp_path, checkpoint, run_main, capsys):
    train = write_table(tmp_path / "train.csv", jigsaw2018(60).slice(0, 40))
    validation = jigsaw2018(60, seed=1).slice(40)
    labels = ["toxic", *LABELS_2018[3:]]
    nothing = pa.nulls(len(validation), pa.int64())
    place = validation.column_names.index("threat")
    validation = write_table(tmp_path / "val.csv", validation.set_column(place, "threat", nothing))
    run_main(
        *training_flags(checkpoint, train, validation_file=validation, output_dir=tmp_path / "run"),
        *("--dry_run", "--label_column_names", *labels),
    )
    lines = capsys.readouterr().out.splitlines()
    train, validation = (next(row for row, line in enumerate(lines) if line.startswith(name)) for name in ("Tr", "Val"))
    assert lines[train : train + 2] == [
        "Train: 40 rows, 10 (25.00%) toxic",
        "  label toxic: 40 rows with a value, 10 (25.00%) of them at >= 0.5",
    ]
    assert "  label threat: 40 rows with a value, 3 (7.50%) of them at >= 0.5" in lines[train:validation]
    assert lines[validation + 1].startswith("  label toxic: 20 rows with a value")
    assert "  label threat: 0 rows with a value, 0 (0.00%) of them at >= 0.5" in lines[validation:]
