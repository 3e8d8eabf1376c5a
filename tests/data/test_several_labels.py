"""What the values of several labels mean together: shares, classes, what is missing, and what nobody scored."""

import logging

import numpy as np
import pyarrow as pa
import pytest
from builders import make_comments, write_csv
from labelled import LABELS_2018, jigsaw2018, jigsaw2018_test, write_table

from toxicity.core.arguments import DataArguments
from toxicity.core.errors import RequestError
from toxicity.core.schema import label_column
from toxicity.data.label_columns import Chosen, LabelNames, Request
from toxicity.data.several_labels import read_labels
from toxicity.data.sources import load_splits

pytestmark = pytest.mark.usefixtures("cache_dir")


def read(positive=None, known=None, **columns):
    names = {name: label_column(name) if number else "target" for number, name in enumerate(columns)}
    found = {"c.csv": Chosen([*columns], {column: name for name, column in names.items()})}
    table = pa.table({names[name]: values for name, values in columns.items()})
    return read_labels(table, "c.csv", Request([*columns], positive, known, found))


def values_of(labels):
    return [shares.to_pylist() for shares in labels.shares.values()]


def faults_of(labels):
    return {reason: np.flatnonzero(rows).tolist() for rows, reason in labels.faults}


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"toxic": [0, 1, 0], "insult": [0.25, 1.0, 0.0]}, [[0, 1, 0], [0.25, 1, 0]]),
        ({"toxic": ["0", "1"], "insult": [b"0.5", b"1"]}, [[0, 1], [0.5, 1]]),
        ({"toxic": [True, False], "insult": ["yes", "No"]}, [[1, 0], [1, 0]]),
        ({"toxic": ["OFF", "NOT"], "insult": ["85%", "0 %"]}, [[1, 0], [0.85, 0]]),
        ({"toxic": ["toxic", "clean"], "insult": ["-1", "1"]}, [[1, 0], [0, 1]]),
        # Where all values are 1 and -1, the latter is no row that was not scored.
        ({"toxic": [-1, 1, -1], "insult": [-1, -1, 1]}, [[0, 1, 0], [0, 0, 1]]),
        ({"toxic": [-1, 1, -1], "a": [-1, -1, -1], "b": ["-1", None, "-1"]}, [[0, 1, 0], [0, 0, 0], [0, None, 0]]),
        ({"toxic": [1, 1, 1], "a": [-1, -1, -1], "b": [-1, -1, 1]}, [[1, 1, 1], [0, 0, 0], [0, 0, 1]]),
        # Nobody said.
        ({"toxic": [None, 1, 0], "insult": [1, None, 0]}, [[None, 1, 0], [1, None, 0]]),
        ({"toxic": ["", "1", "0"], "insult": ["1", "NA", "0"]}, [[None, 1, 0], [1, None, 0]]),
        ({"toxic": ["yes", "no", None], "insult": [None, 0.5, 0.5]}, [[1, 0, None], [None, 0.5, 0.5]]),
        ({"toxic": [0.0, float("nan")], "insult": [1.0, 1.0]}, [[0, None], [1, 1]]),
    ],
)
def test_each_label_is_read_as_toxicity_is(columns, expected):
    labels = read(**columns)
    assert values_of(labels) == expected
    assert list(labels.shares) == list(columns)
    assert all(shares.type == pa.float64() for shares in labels.shares.values())
    assert (labels.faults, labels.unscored.any(), labels.unmatched) == ([], False, {})


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"toxic": [None, 1, None], "insult": [None, 0, None]}, {"no label has a value": [0, 2]}),
        ({"toxic": ["", "1"], "insult": ["NA", "0"]}, {"no label has a value": [0]}),
        ({"toxic": [0] * 9 + [1.5], "insult": [0] * 10}, {"the label `toxic` is not from 0 to 1": [9]}),
        (
            {"toxic": [0] * 9 + [2], "insult": [0] * 8 + [-0.5, None]},
            {"the label `toxic` is not from 0 to 1": [9], "the label `insult` is not from 0 to 1": [8]},
        ),
        ({"toxic": [0] * 10, "insult": [0] * 9 + [-1]}, {"the label `insult` is not from 0 to 1": [9]}),
        ({"toxic": ["0", "1", "0"], "insult": ["0.5", "0.1", "what"]}, {"the label `insult` is not a number": [2]}),
        ({"toxic": [1, 1, 0, 1], "a": [b"0", b"\xff", b"x", b"1"]}, {"the label `a` is not UTF-8": [1]}),
    ],
)
def test_rows_that_are_bad_name_the_label(columns, expected):
    found = faults_of(read(**columns))
    assert {reason: rows for reason, rows in found.items() if reason in expected} == expected


@pytest.mark.parametrize(
    ("columns", "unscored", "values"),
    [
        ({"toxic": [0, -1, 1], "a": [0, -1, 1], "b": [1, -1, 0]}, [1], [[0, None, 1], [0, None, 1], [1, None, 0]]),
        ({"toxic": ["0", "-1"], "a": ["1", "-1"]}, [1], [[0, None], [1, None]]),
        ({"toxic": [0, -1, 1], "a": [0, -1, 1], "b": [1, None, 0]}, [1], [[0, None, 1], [0, None, 1], [1, None, 0]]),
        ({"toxic": [0, -1], "a": [None, -1]}, [1], [[0, None], [None, None]]),
        ({"toxic": [-1, -1], "a": [-1, -1]}, [0, 1], [[None, None], [None, None]]),
    ],
)
def test_rows_that_nobody_scored(columns, unscored, values):
    labels = read(**columns)
    assert np.flatnonzero(labels.unscored).tolist() == unscored
    assert values_of(labels) == values
    assert labels.faults == []


@pytest.mark.parametrize(
    "columns",
    [
        {"toxic": [0] * 30 + [-1], "a": [1] * 30 + [0]},
        {"toxic": [0] * 30 + [-1], "a": [1] * 30 + [None]},
        {"toxic": [0.5] * 30 + [None], "a": [0, 1] * 15 + [-1]},
    ],
)
def test_minus_one_in_one_label_alone_is_a_bad_value(columns):
    labels = read(**columns)
    assert not labels.unscored.any()
    assert [rows for reason, rows in faults_of(labels).items() if "is not from 0 to 1" in reason] == [[30]]


@pytest.mark.parametrize(
    ("positive", "columns", "expected", "by_class"),
    [
        (["2"], {"toxic": [0, 0.5, 1], "kind": [0, 1, 2]}, [[0, 0.5, 1], [0, 0, 1]], ("kind",)),
        (["a", "b"], {"x": ["a", "c"], "y": ["c", "B "]}, [[1, 0], [0, 1]], ("x", "y")),
        (["hate"], {"x": ["hate", "other"], "y": ["yes", "no"]}, [[1, 0], [1, 0]], ("x",)),
        (["0"], {"civil": [0, 1], "rude": [1, 0]}, [[1, 0], [1, 0]], ("civil",)),
        (["2"], {"toxic": [True, False, True], "kind": [0, 1, 2]}, [[1, 0, 1], [0, 0, 1]], ("kind",)),
    ],
)
def test_positive_labels_are_for_labels_of_classes(positive, columns, expected, by_class):
    labels = read(positive, **columns)
    assert values_of(labels) == expected
    assert labels.names.by_class == by_class
    assert labels.unmatched == {}


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"x": [0, 1, 1], "y": [0.5, 0.0, 1.0]}, [[0, 0, 0], [0.5, 0, 1]]),
        ({"x": [None, 1, 2], "y": [0, 0, 1]}, [[None, 0, 1], [0, 0, 1]]),
    ],
)
def test_positive_labels_are_for_the_same_labels_in_the_validation_rows(columns, expected):
    known = LabelNames(("x", "y"), by_class=("x",))
    assert values_of(read(["2"], known, **columns)) == expected


def test_positive_labels_that_no_label_has(caplog):
    labels = read(["2", "3"], toxic=[0.1, 0.2, 1.0], kind=[0, 1, 2])
    assert list(labels.unmatched) == ["3"]
    assert "the labels hold `0` (1 row), `1` (1 row), `2` (1 row), and nowhere `3`" in labels.unmatched["3"]
    with pytest.raises(RequestError, match="all labels are numbers from 0 to 1, .* leave --positive_labels out"):
        read(["1"], toxic=[0, 1], insult=[1, 0])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"toxic": [0, 1, 0], "kind": ["a", "b", "a"]}, "`kind` holds `a` .2 rows., `b` .1 row.*--label_column_names"),
        ({"toxic": [0, 1, 2] * 9, "kind": [0] * 27}, "`toxic` holds `0` .9 rows., `1` .* of which nobody can tell"),
        ({"toxic": [0, 1], "polite": [0, 1], "civil": [1, 0]}, "`civil` tells by its name which comments are civil"),
        ({"toxic": [0, 1], "x": [["a"], ["b"]]}, "`x` holds no toxicity but list<.*names that column alone"),
        ({"toxic": [0, 1], "x": [{"a": 1}, None]}, "`x` holds no toxicity but struct<"),
        ({"toxic": [0, 1], "x": ["word " * 60] * 2}, "`x` holds no toxicity but long texts"),
    ],
)
def test_what_nobody_can_tell_is_refused_with_the_values(columns, message):
    with pytest.raises(RequestError, match=f"c.csv: the column {message}"):
        read(**columns)


def load(path, *asked, **arguments):
    return load_splits(DataArguments(train_file=str(path), label_column_names=[*asked], **arguments))


def write(path, table):
    return write_table(path, table)


def test_a_label_is_told_from_others_in_bad_rows(tmp_path):
    rows = [[text, label, label, ""] for text, label in make_comments(60)]
    rows[4][2], rows[7][1:] = 7, ["", "", ""]
    path = write_csv(tmp_path / "c.csv", ["text", "toxic", "insult", "threat"], rows)
    with pytest.raises(RequestError, match=r"c.csv, row 5: the label `insult` is not from 0 to 1. Bad rows in all: 2"):
        load(path, "toxic", "insult")
    splits = load(path, "toxic", "insult", on_bad_rows="drop")
    assert splits.dropped_rows == {"the label `insult` is not from 0 to 1": 1, "no label has a value": 1}
    assert (splits.train_rows + splits.validation_rows, len(splits.train) + len(splits.validation)) == (60, 58)


def test_labels_without_a_value_and_of_one_class(tmp_path, caplog):
    table = jigsaw2018(60).append_column("nothing", pa.nulls(60, pa.int64()))
    path = write(tmp_path / "c.csv", table.append_column("never", pa.array([0] * 60)))
    with pytest.raises(RequestError, match=r"none of the 40 training rows has a value of the label `nothing`. Leave"):
        load(path, "toxic", "nothing")
    with pytest.raises(RequestError, match=r"none of the 40 training rows has a value of the label `nothing`"):
        load(path, "nothing", "toxic")
    with pytest.raises(
        RequestError, match=r"all 40 training rows with a value of `never` are civil; training needs both"
    ):
        load(path, "never", "toxic")
    with caplog.at_level(logging.WARNING, logger="toxicity"):
        splits = load(path, "toxic", "never")
    assert splits.labels == ("toxic", "never")
    assert "all 40 training rows with a value of `never` are civil: the model learns nothing else" in caplog.text


def test_the_main_label_may_be_missing_where_another_is_not(tmp_path):
    path = write(tmp_path / "c.parquet", jigsaw2018(200, missing=0.5))
    splits = load(path, *LABELS_2018)
    assert len(splits.train) + len(splits.validation) == 200
    assert None in splits.train["target"][:]
    # Of one label it may not be.
    with pytest.raises(RequestError, match="the target is missing"):
        load(path, "toxic")


@pytest.mark.parametrize("names", [LABELS_2018, ("a", "b", "c", "d", "e", "f")])
def test_rows_that_were_not_scored_in_2018(tmp_path, caplog, names):
    comments, labels = jigsaw2018_test(60)
    table = comments
    for name, other in zip(names, LABELS_2018, strict=True):
        table = table.append_column(name, labels[other])
    with caplog.at_level(logging.INFO, logger="toxicity"):
        splits = load(write(tmp_path / "c.csv", table), *names)
    assert splits.dropped_rows == {"nobody scored it (its target is -1)": 20}
    assert len(splits.train) + len(splits.validation) == 40
    assert "Left out of c.csv: 20 rows" in caplog.text


def test_minus_one_in_one_label_that_is_a_subtype(tmp_path):
    comments = [text for text, _ in make_comments(60)]
    for values, refused in (([-1, 0, 1] * 20, True), ([-1, 1, 1] * 20, False)):
        path = write(tmp_path / "c.csv", pa.table({"text": comments, "insult": values}))
        for flag in ({"label_column_names": ["insult"]}, {"label_column_name": "insult"}):
            arguments = DataArguments(train_file=str(path), **flag)
            if refused:
                with pytest.raises(RequestError, match=rf"`insult` holds `-1` \(20 rows\).*--{next(iter(flag))}\."):
                    load_splits(arguments)
            else:
                splits = load_splits(arguments)
                assert (len(splits.train) + len(splits.validation), splits.dropped_rows) == (60, {})


@pytest.mark.parametrize("asked", [["insult"], ["toxic"], ["toxic", "insult"]])
def test_rows_of_2018_that_were_not_scored_by_any_of_its_labels(tmp_path, asked):
    comments, labels = jigsaw2018_test(60)
    for name in LABELS_2018:
        comments = comments.append_column(name, labels[name])
    splits = load(write(tmp_path / "c.csv", comments), *asked)
    assert splits.dropped_rows == {"nobody scored it (its target is -1)": 20}


@pytest.mark.parametrize("asked", [["toxic", "insult"], ["insult", "toxic"], ["subtypes"], ["insult"]])
def test_the_subtype_of_a_label_is_that_label(tmp_path, caplog, asked):
    kinds = pa.array(["OFF" if row % 4 == 0 else "NOT" for row in range(60)])
    table = jigsaw2018(60).select(["comment_text", "toxic"]).append_column("Insult", kinds)
    with caplog.at_level(logging.WARNING, logger="toxicity"):
        splits = load(write(tmp_path / "c.csv", table), *asked)
    assert (splits.absent, caplog.messages) == ({}, [])
    label = "target" if asked[0] == "insult" else label_column("insult")
    assert splits.train["insult"][:] == splits.train[label][:]
    assert splits.train.features["insult"].dtype == "float32"
    assert sum(splits.train["insult"][:] + splits.validation["insult"][:]) == 15
