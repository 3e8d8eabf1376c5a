import pyarrow as pa
import pytest
from builders import training_flags
from datasets import Dataset

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
