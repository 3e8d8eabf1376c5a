"""What the training and the validation rows must have of each label."""

import logging

import pyarrow as pa
import pytest
from labelled import LABELS_2018, jigsaw2018, jigsaw2018_test, write_table

from toxicity.core.arguments import DataArguments
from toxicity.core.errors import RequestError
from toxicity.data.sources import load_splits

pytestmark = pytest.mark.usefixtures("cache_dir")

WITHOUT, CIVIL = pa.nulls(30, pa.int64()), pa.array([0] * 30)


def load(folder, validation, asked=LABELS_2018, train=None, **arguments):
    files = {"train_file": jigsaw2018(60) if train is None else train, "validation_file": validation}
    paths = {flag: str(write_table(folder / f"{flag}.csv", table)) for flag, table in files.items()}
    return load_splits(DataArguments(**paths, **arguments, label_column_names=None if asked is None else [*asked]))


def replaced(name, values):
    table = jigsaw2018(30, seed=1)
    return table.set_column(table.column_names.index(name), name, values)


def test_the_main_label_needs_a_value_in_the_validation_rows(tmp_path):
    with pytest.raises(
        RequestError, match=r"validation_file.csv: none of the 30 validation rows has a value of the label `toxic`"
    ):
        load(tmp_path, replaced("toxic", WITHOUT))


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        ("insult", WITHOUT, "none of the 30 validation rows has a value of the label `insult`: its metrics are null"),
        ("insult", CIVIL, "all 30 validation rows with a value of `insult` are civil"),
        ("toxic", CIVIL, "all 30 validation rows with a value of `toxic` are civil"),
        ("insult", jigsaw2018(30)["insult"], None),
    ],
)
def test_what_no_metric_can_be_measured_on_is_told(tmp_path, caplog, name, values, told):
    with caplog.at_level(logging.WARNING, logger="toxicity"):
        load(tmp_path, replaced(name, values), ["toxic", "insult"])
    assert len(caplog.messages) == (told is not None)
    assert told is None or told in caplog.text


def test_with_one_label_nothing_is_told(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="toxicity"):
        load(tmp_path, replaced("toxic", CIVIL), None)
    assert caplog.messages == []


@pytest.mark.parametrize("asked", [None, ["toxic"], ["subtypes"], LABELS_2018])
def test_labels_that_nobody_gave(tmp_path, asked):
    comments, labels = jigsaw2018_test(30, unscored=1)
    for name in LABELS_2018:
        comments = comments.append_column(name, labels[name])
    with pytest.raises(RequestError, match=r"validation_file.csv: nobody scored any of its 30 rows.*validation split"):
        load(tmp_path, comments, asked)


@pytest.mark.parametrize("asked", [None, ["toxic"], ["subtypes"], LABELS_2018])
def test_comments_without_labels_point_to_the_file_of_labels(tmp_path, asked):
    comments, _ = jigsaw2018_test(30)
    with pytest.raises(
        RequestError, match=r"has no column .*toxic.*; it has id, comment_text\. .*--validation_labels_f"
    ):
        load(tmp_path, comments, asked)
    for other in (comments.drop_columns(["id"]), comments.append_column("hate", CIVIL).drop_columns(["comment_text"])):
        with pytest.raises(RequestError, match="has no column") as refused:
            load(tmp_path, other, asked)
        assert "--validation_labels_file" not in str(refused.value)


@pytest.mark.parametrize("asked", [None, ["toxic"], ["toxic", "insult"]])
def test_a_refusal_names_the_flag_that_names_the_labels(tmp_path, asked):
    flag = r"--label_column_names" if asked else r"--label_column_name"
    table = jigsaw2018(60)
    civil = table.set_column(2, "toxic", pa.array([0] * 60))
    with pytest.raises(RequestError, match=rf"are civil; training needs both\. Check {flag}, and"):
        load(tmp_path, jigsaw2018(30, seed=1), asked, civil)
    bad = table.set_column(2, "toxic", pa.array([1.5] + [0, 1, 0] * 19 + [1, 1]))
    with pytest.raises(RequestError, match=rf"is not from 0 to 1.*\(--text_column_name, {flag}\)"):
        load(tmp_path, jigsaw2018(30, seed=1), asked, bad)
