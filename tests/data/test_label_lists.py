"""Columns of lists of classes: which are labels, in which order, and what is refused."""

import json
import logging
import random

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from builders import make_comments
from datasets import ClassLabel, Dataset, Features, List, Value

from toxicity.core.arguments import DataArguments
from toxicity.core.errors import RequestError
from toxicity.core.schema import label_column
from toxicity.data.sources import load_splits

pytestmark = pytest.mark.usefixtures("cache_dir")

TEXTS = [text for text, _ in make_comments(60)]
KINDS = [["toxic", "insult"], ["normal"], [], ["insult", "threat"], ["toxic"]]
LISTS = [KINDS[row % 5] for row in range(60)]


def write(folder, name, lists, column="labels"):
    path = folder / name
    if path.suffix == ".jsonl":
        rows = [{"text": text, column: classes} for text, classes in zip(TEXTS, lists, strict=False)]
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        lists = lists if isinstance(lists, pa.Array) else pa.array(lists)
        pa.parquet.write_table(pa.table({"text": TEXTS[: len(lists)], column: lists}), path)
    return str(path)


def load(path, **arguments):
    return load_splits(DataArguments(train_file=str(path), **arguments))


def rows_of(splits):
    """Text → the labels that hold."""
    columns = ["target", *map(label_column, splits.labels[1:])]
    rows = {}
    for split in (splits.train, splits.validation):
        for row in split:
            rows[row["text"]] = {name for name, column in zip(splits.labels, columns, strict=True) if row[column]}
    return rows


@pytest.mark.parametrize("name", ["c.jsonl", "c.parquet"])
@pytest.mark.parametrize(
    ("flags", "labels", "held"),
    [
        (
            {"label_column_names": ["labels"]},
            ("toxic", "insult", "threat"),
            [{"toxic", "insult"}, set(), set(), {"insult", "threat"}, {"toxic"}],
        ),
        ({"label_column_name": "Labels"}, ("toxic",), [{"toxic"}, set(), set(), {"toxic"}, {"toxic"}]),
        (
            {"label_column_names": ["labels"], "positive_labels": ["Insult", "threat"]},
            ("toxic", "insult", "threat"),
            [{"toxic", "insult"}, set(), set(), {"toxic", "insult", "threat"}, set()],
        ),
        (
            {"label_column_names": ["labels"], "positive_labels": ["threat"]},
            ("threat",),
            [set(), set(), set(), {"threat"}, set()],
        ),
        (
            {"label_column_name": "labels", "positive_labels": ["threat", "normal"]},
            ("toxic",),
            [set(), {"toxic"}, set(), {"toxic"}, set()],
        ),
    ],
)
def test_each_toxic_class_is_a_label(tmp_path, name, flags, labels, held):
    splits = load(write(tmp_path, name, LISTS), **flags)
    assert splits.labels == labels
    # Of texts that are there twice only the last one counts.
    expected = {text: held[row % 5] for row, text in enumerate(TEXTS)}
    assert rows_of(splits) == expected


@pytest.mark.parametrize("kind", [pa.list_(pa.string()), pa.large_list(pa.binary()), pa.list_(pa.string_view())])
def test_lists_of_any_type(tmp_path, kind):
    splits = load(write(tmp_path, "c.parquet", pa.array(LISTS, kind)), label_column_names=["labels"])
    assert splits.labels == ("toxic", "insult", "threat")
    assert rows_of(splits)[TEXTS[3]] == {"insult", "threat"}


@pytest.mark.parametrize("layout", ["parquet", "hub", "saved"])
def test_classes_of_datasets_in_lists(tmp_path, layout):
    names = ["normal", "toxic", "insult", "threat"]
    features = Features({"text": Value("string"), "labels": List(ClassLabel(names=names))})
    numbers = [[names.index(name) for name in classes] for classes in LISTS]
    rows = Dataset.from_dict({"text": TEXTS, "labels": numbers}, features=features)
    flags = {"label_column_names": ["labels"]}
    if layout == "saved":
        rows.save_to_disk(tmp_path / "data")
        splits = load(tmp_path / "data", **flags)
    elif layout == "parquet":
        rows.to_parquet(tmp_path / "c.parquet")
        splits = load(tmp_path / "c.parquet", **flags)
    else:
        (tmp_path / "data").mkdir()
        rows.to_parquet(tmp_path / "data" / "train-00000-of-00001.parquet")
        splits = load_splits(DataArguments(dataset_name=str(tmp_path), **flags))
    assert splits.labels == ("toxic", "insult", "threat")
    assert rows_of(splits)[TEXTS[3]] == {"insult", "threat"}


@pytest.mark.parametrize(
    ("kinds", "labels"),
    [
        ([["insult", "hate"], ["none"]], ("toxic", "hate", "insult")),
        ([["Severe Toxic", "identity_hate"], ["clean"]], ("toxic", "Severe Toxic", "identity_hate")),
        ([["insult", "Toxicity"], []], ("Toxicity", "insult")),
        ([["hate"], []], ("hate",)),
        ([["sexual_explicit", "toxic"], ["neither"]], ("toxic", "sexual_explicit")),
        ([["severe toxic", "severe_toxic"], []], ("toxic", "severe toxic", "severe_toxic")),
        ([["Hate", "insult"], ["hate"], ["hate"], ["none"]], ("toxic", "hate", "insult")),
    ],
)
def test_the_labels_do_not_depend_on_the_order_of_rows(tmp_path, kinds, labels):
    lists = [kinds[row % len(kinds)] for row in range(60)]
    for seed in range(3):
        random.Random(seed).shuffle(lists)
        for name in ("c.jsonl", "c.parquet"):
            assert load(write(tmp_path, name, lists), label_column_names=["labels"]).labels == labels


@pytest.mark.parametrize("name", ["c.jsonl", "c.parquet"])
def test_a_row_without_a_list_is_bad_and_an_empty_list_is_not(tmp_path, name):
    lists = [None if row == 7 else LISTS[row] for row in range(60)]
    path = write(tmp_path, name, lists)
    with pytest.raises(RequestError, match=r"row 8: no label has a value. Bad rows in all: 1"):
        load(path, label_column_names=["labels"])
    with pytest.raises(RequestError, match=r"row 8: the target is missing. Bad rows in all: 1"):
        load(path, label_column_name="labels")
    splits = load(path, label_column_names=["labels"], on_bad_rows="drop")
    assert splits.dropped_rows == {"no label has a value": 1}


REFUSED = [
    (
        [["joy"], ["toxic", "anger"]],
        {},
        "holds lists of `anger` .*nobody can tell whether `anger` is toxic.*--positive",
    ),
    ([["toxic", "black"], []], {}, "nobody can tell whether `black` is toxic"),
    (
        [["toxic", "black"], []],
        {"positive_labels": ["black", "toxic"]},
        "label `black` could not be told from the ident.*Rename the class, or name the others .*with --positive_labels",
    ),
    ([["toxic"], ["toxic", "insult"]], {"positive_labels": ["hate"]}, "holds .*and nowhere `hate`"),
    ([["none"], ["normal", "clean"]], {}, "all 40 training rows are civil"),
    ([[], []], {}, "all 40 training rows are civil"),
    ([[0, 1, 0], [1, 0, 0]], {}, "lists of 3 numbers, and nothing says which of them.*--label_column_names"),
    ([[0.5, 0.0], [0.1, 1.0]], {}, "lists of 2 numbers"),
    ([[True, False], [False, False]], {}, "lists of 2 numbers"),
    ([["1", "0"], ["0", "1"]], {}, "lists of 2 numbers"),
    ([[3], [4, 5]], {}, "nobody can tell whether `3` is toxic"),
    ([[["toxic"]], [["a", "b"]]], {}, "neither text nor a number|holds no toxicity but"),
    ([["toxic " * 40], ["insult " * 40, "a"]], {}, "holds no toxicity but long texts"),
]


@pytest.mark.parametrize("name", ["c.jsonl", "c.parquet"])
@pytest.mark.parametrize(("kinds", "flags", "message"), REFUSED)
def test_what_nobody_can_tell_is_refused(tmp_path, name, kinds, flags, message):
    path = write(tmp_path, name, [kinds[row % 2] for row in range(60)])
    with pytest.raises(RequestError, match=message):
        load(path, label_column_names=["labels"], **flags)


@pytest.mark.parametrize("name", ["c.jsonl", "c.parquet"])
def test_numbers_of_classes(tmp_path, name):
    path = write(tmp_path, name, [[[2], [2, 7], [], [7, 9]][row % 4] for row in range(60)])
    splits = load(path, label_column_names=["labels"], positive_labels=["7", "9"])
    assert splits.labels == ("toxic", "7", "9")
    assert rows_of(splits)[TEXTS[3]] == {"toxic", "7", "9"}


@pytest.mark.parametrize("name", ["c.jsonl", "c.parquet"])
@pytest.mark.parametrize(
    ("lists", "flags", "labels"),
    [
        ([[1], [0]], {"label_column_names": ["hate"]}, ("hate",)),
        ([[1], [0]], {"label_column_name": "hate"}, ("toxic",)),
        ([[1], [0]], {}, ("toxic",)),
        ([["hate"], ["nothate"]], {"label_column_name": "hate"}, ("toxic",)),
        ([["hate"], ["nothate"]], {}, ("toxic",)),
        ([["hate"], ["nothate"]], {"label_column_names": ["hate"]}, ("hate",)),
        ([["hate"], []], {"label_column_name": "hate"}, ("toxic",)),
    ],
)
def test_lists_of_one(tmp_path, name, lists, flags, labels):
    splits = load(write(tmp_path, name, [lists[row % 4 > 0] for row in range(60)], "hate"), **flags)
    assert splits.labels == labels
    assert sum(splits.train["target"]) + sum(splits.validation["target"]) == 15


@pytest.mark.parametrize("name", ["c.jsonl", "c.parquet"])
def test_the_training_rows_decide(tmp_path, name, caplog):
    train = write(tmp_path, name, LISTS)
    other = write(tmp_path, f"other.{name}", [["insult"], ["obscene", "toxic"], ["obscene"], ["none"], []])
    with caplog.at_level(logging.WARNING, logger="toxicity"):
        splits = load(train, validation_file=other, label_column_names=["labels"])
    assert splits.labels == ("toxic", "insult", "threat")
    assert [row for row in rows_of(splits).items() if row[0] in TEXTS[:5]]
    assert splits.validation["target"][:] == [0, 1, 0, 0, 0]
    assert splits.validation[label_column("insult")][:] == [1, 0, 0, 0, 0]
    assert splits.validation[label_column("threat")][:] == [0, 0, 0, 0, 0]
    assert f"other.{name}: the column `labels` holds `obscene`, which no training row has" in caplog.text


def test_a_main_label_of_all_classes_is_that_in_the_validation_rows_too(tmp_path):
    kinds = [["hate", "insult"], ["hate"], ["none"]]
    train = write(tmp_path, "a.parquet", [kinds[row % 3] for row in range(60)])
    other = write(tmp_path, "b.parquet", [["none"], ["insult"], ["toxic"], []])
    splits = load(train, validation_file=other, label_column_names=["labels"])
    assert splits.labels == ("toxic", "hate", "insult")
    assert splits.validation["target"][:] == [0, 1, 1, 0]


def test_a_list_must_be_the_only_column(tmp_path):
    frame = pd.DataFrame({"text": TEXTS, "labels": LISTS, "insult": [0, 1] * 30})
    frame.to_parquet(tmp_path / "c.parquet")
    for asked in (["labels", "insult"], ["insult", "labels"]):
        with pytest.raises(RequestError, match="`labels` holds no toxicity but .*names that column alone"):
            load(tmp_path / "c.parquet", label_column_names=asked)


def test_json_in_several_parts(tmp_path, monkeypatch):
    from toxicity.data.readers import json as reader

    monkeypatch.setattr(reader, "LIMIT", reader.Limit(7, 2**20))
    lists = [LISTS[row] if row > 20 else [[], ["toxic"]][row % 2] for row in range(60)]
    splits = load(write(tmp_path, "c.jsonl", lists), label_column_names=["labels"])
    assert splits.labels == ("toxic", "insult", "threat")


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ([["a/b"], ["A`B"], []], [1, 1]),
        ([["a/b"], [], []], [1, 0]),  # no more than exactly these
        ([["a b"], [], []], [1, 1]),  # another way to write both
        ([["c"], [], []], [0, 0]),
    ],
)
def test_classes_of_validation_rows_whose_names_differ_in_what_is_no_letter(tmp_path, kinds, expected):
    lists = {"train": [["toxic", "a/b"], ["a`b"], []], "validation": [["toxic"], *kinds]}
    files = {
        f"{part}_file": str(write(tmp_path, f"{part}.jsonl", [rows[row % len(rows)] for row in range(60)]))
        for part, rows in lists.items()
    }
    toxic = ["toxic", "a/b", "a`b", *kinds[0]]
    splits = load_splits(DataArguments(**files, label_column_names=["labels"], positive_labels=toxic))
    assert splits.labels == ("toxic", "a/b", "a`b")
    found = splits.validation
    assert [max(found[label_column(name)][:]) for name in splits.labels[1:]] == expected
