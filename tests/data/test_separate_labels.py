"""Comments whose labels are in another file, as in the competition of 2018."""

import logging

import pyarrow as pa
import pytest
from labelled import LABELS_2018, jigsaw2018, jigsaw2018_test, write_table

from toxicity.core.arguments import DataArguments
from toxicity.core.errors import RequestError
from toxicity.data.sources import label_targets_of, load_splits, targets_of

pytestmark = pytest.mark.usefixtures("cache_dir")

COMMENTS, LABELS = jigsaw2018_test(30)  # every third row was not scored
SCORED = [row for row in range(30) if row % 3]


def load(folder, comments=COMMENTS, labels=LABELS, ending="csv", asked=LABELS_2018, **options):
    tables = {"train": jigsaw2018(60), "test": comments, "test_labels": labels}
    train, test, test_labels = (str(write_table(folder / f"{name}.{ending}", table)) for name, table in tables.items())
    options |= {} if asked is None else {"label_column_names": [*asked]}
    return load_splits(
        DataArguments(train_file=train, validation_file=test, validation_labels_file=test_labels, **options)
    )


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("asked", [LABELS_2018, ["subtypes"]])
def test_the_files_of_2018(tmp_path, ending, asked, caplog):
    order = pa.array(range(29, -1, -1))
    with caplog.at_level(logging.INFO, logger="toxicity"):
        splits = load(tmp_path, labels=LABELS.take(order), ending=ending, asked=asked)
    assert splits.validation["text"][:] == [COMMENTS["comment_text"][row].as_py() for row in SCORED]
    expected = LABELS.select(LABELS_2018).to_pandas().to_numpy()[SCORED]
    assert label_targets_of(splits.validation, splits.labels).tolist() == expected.tolist()
    assert splits.labels == LABELS_2018
    assert splits.dropped_rows == {"nobody scored it (its target is -1)": 10}
    assert f"Left out of test.{ending} with test_labels.{ending}: 10 rows: nobody scored it" in caplog.text
    assert (splits.train_rows, splits.validation_rows) == (60, 20)


def test_one_label(tmp_path):
    splits = load(tmp_path, asked=None)
    assert splits.labels == ("toxic",)
    assert targets_of(splits.validation).tolist() == [LABELS["toxic"][row].as_py() for row in SCORED]
    by_name = load(tmp_path, asked=None, label_column_name="insult")
    assert targets_of(by_name.validation).tolist() == [LABELS["insult"][row].as_py() for row in SCORED]
    assert len(load(tmp_path, max_eval_samples=7).validation) == 7


def test_comments_without_labels_and_labels_without_comments(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="toxicity"):
        splits = load(tmp_path, comments=COMMENTS.slice(0, 25), labels=LABELS.slice(5))
    assert len(splits.validation) == len([row for row in SCORED if 5 <= row < 25])
    assert splits.dropped_rows == {
        "nobody scored it (its target is -1)": len([row for row in range(5, 25) if row % 3 == 0]),
        "nobody scored it (its id has no labels)": 5,
    }
    assert "test_labels.csv: 5 rows of labels have no comment in test.csv" in caplog.text
    assert "5 rows: nobody scored it (its id has no labels)" in caplog.text


@pytest.mark.parametrize(
    ("ids", "label_ids"),
    [
        (pa.array(range(30)), pa.array(range(30))),
        (pa.array(range(30)), pa.array(map(str, range(30)))),
        (pa.array(map(float, range(30))), pa.array(range(30))),
        (pa.array([f"{row}" if row else "x" for row in range(30)]), pa.array(range(30))),
    ],
)
def test_ids_of_any_type(tmp_path, ids, label_ids):
    comments, labels = COMMENTS.set_column(0, "id", ids), LABELS.set_column(0, "id", label_ids)
    splits = load(tmp_path, comments, labels, ending="parquet")
    assert len(splits.validation) == 20
    assert label_targets_of(splits.validation, LABELS_2018)[:, 0].tolist() == [
        LABELS["toxic"][row].as_py() for row in SCORED
    ]


def test_a_comment_that_is_bad_is_named_by_its_own_file(tmp_path):
    texts = COMMENTS["comment_text"].to_pylist()
    texts[3], texts[4] = "", " "  # the first of these was not scored
    comments = COMMENTS.set_column(1, "comment_text", pa.array(texts))
    with pytest.raises(RequestError, match=r"test.csv, row 5: the text is blank. Bad rows in all: 1"):
        load(tmp_path, comments)


@pytest.mark.parametrize(
    ("comments", "labels", "message"),
    [
        (COMMENTS.drop_columns(["id"]), LABELS, "test.csv has no column id, by which --validation_labels_file"),
        (COMMENTS, LABELS.drop_columns(["id"]), "test_labels.csv has no column id, .* it has toxic, severe_toxic"),
        (COMMENTS, LABELS.drop_columns(["threat"]), "no column threat; it has id, toxic, severe_toxic"),
        (COMMENTS, pa.concat_tables([LABELS, LABELS[:2]]), "test_labels.csv: 2 ids stand in several rows, such as `f0"),
        (COMMENTS, LABELS.set_column(0, "id", pa.array(range(30))), "share no id: their first ones are `f00.*and `0`"),
        (COMMENTS.drop_columns(["comment_text"]), LABELS, "test.csv has no column text"),
        (COMMENTS, LABELS[:0], "share no id"),
    ],
)
def test_files_that_do_not_belong_together(tmp_path, comments, labels, message):
    with pytest.raises(RequestError, match=message):
        load(tmp_path, comments, labels)


def test_a_row_of_labels_that_cannot_be_read(tmp_path):
    files = {name: tmp_path / f"{name}.csv" for name in ("train", "test", "test_labels")}
    for name, table in (("train", jigsaw2018(60)), ("test", COMMENTS), ("test_labels", LABELS)):
        write_table(files[name], table)
    lines = files["test_labels"].read_text().splitlines()
    lines[2] += ",1,1,1"
    files["test_labels"].write_text("\n".join(lines))
    flags = {"train_file": "train", "validation_file": "test", "validation_labels_file": "test_labels"}
    flags = {flag: str(files[name]) for flag, name in flags.items()}
    with pytest.raises(RequestError, match=r"test_labels.csv, row 2: 10 columns instead of 7.*--on_bad_rows drop"):
        load_splits(DataArguments(**flags))
    splits = load_splits(DataArguments(**flags, on_bad_rows="drop"))
    assert splits.dropped_rows["nobody scored it (its id has no labels)"] == 1
