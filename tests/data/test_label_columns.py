"""Which columns are the labels, and what these are called."""

import logging

import pyarrow as pa
import pytest
from labelled import LABELS_2018, LABELS_2019, jigsaw2018, jigsaw2019, write_table

from toxicity.core.arguments import DataArguments
from toxicity.core.console import log_once
from toxicity.core.errors import RequestError
from toxicity.core.schema import label_column
from toxicity.data.label_columns import columns_of_labels
from toxicity.data.sources import label_targets_of, load_splits, targets_of

pytestmark = pytest.mark.usefixtures("cache_dir")

NAMES_2018 = ["id", "comment_text", *LABELS_2018]
NAMES_2019 = ["id", "target", "comment_text", *LABELS_2019[1:], "male"]


@pytest.mark.parametrize(
    ("names", "asked", "found"),
    [
        (NAMES_2018, ["toxic", "insult"], ["toxic", "insult"]),
        (NAMES_2018, ["toxicity", "severe_toxicity", "identity_attack"], ["toxic", "severe_toxic", "identity_hate"]),
        (NAMES_2019, ["toxic", "severe_toxic", "identity_hate"], ["target", "severe_toxicity", "identity_attack"]),
        (NAMES_2019, ["threat", "toxicity"], ["threat", "target"]),
        (["text", "Toxic", "Is Rude"], ["toxic", "is_rude"], ["Toxic", "Is Rude"]),
        # The name that was asked for comes before what means the same.
        (["text", "target", "toxicity", "toxic"], ["toxic", "toxicity"], ["toxic", "toxicity"]),
        (["text", "target", "Toxic", "hate"], ["toxic", "hate"], ["Toxic", "hate"]),
        (["text", "toxicity", "toxic", "a"], ["target", "a"], ["toxicity", "a"]),
        (["review", "body", "post"], ["review", "post"], ["review", "post"]),
    ],
)
def test_labels_are_found_as_people_write_them(names, asked, found):
    columns = columns_of_labels(names, "c.csv", asked)
    assert [columns["target"], *(columns[label_column(name)] for name in asked[1:])] == found


def test_a_label_may_be_a_subtype_too():
    columns = columns_of_labels(NAMES_2018, "c.csv", ["threat", "severe_toxicity"])
    assert (columns["target"], columns["threat"]) == ("threat", "threat")
    assert columns[label_column("severe_toxicity")] == columns["severe_toxicity"] == "severe_toxic"
    assert columns["text"] == "comment_text"


@pytest.mark.parametrize(
    ("names", "asked", "message"),
    [
        (NAMES_2018, ["hate", "insult"], "c.csv has no column hate; it has id, comment_text, toxic, severe_toxic"),
        (NAMES_2018, ["toxik"], "nearest is `toxic`: if that is the label, give --label_column_names toxic"),
        (NAMES_2018, ["toxic", "target"], "names the column `toxic` twice"),
        (NAMES_2018, ["severe_toxic", "severe_toxicity"], "names the column `severe_toxic` twice"),
        (["text", "Rude!", "rude?", "toxic"], ["toxic", "RUDE"], "`Rude!` and `rude.` may both be the label `RUDE`"),
        (["text", "label"], ["text"], "`text` cannot be both the text and a label"),
        (
            NAMES_2018,
            ["toxic", "comment_text"],
            "`comment_text` cannot be both .* Leave it out of --label_column_names",
        ),
        (["id", "text", "a"], ["subtypes"], "no column target, toxicity, .* right one with --label_column_names"),
    ],
)
def test_labels_that_are_not_there_or_there_twice(names, asked, message):
    with pytest.raises(RequestError, match=message):
        columns_of_labels(names, "c.csv", asked)


@pytest.mark.parametrize("names", [("Hate Speech", "hate_speech"), ("a/b", "a`b"), ("की", "का")])
def test_labels_whose_names_differ_in_what_is_no_letter(names):
    first, second = map(label_column, names)
    columns = columns_of_labels(["text", "toxic", *names], "c.csv", ["toxic", *names])
    assert (columns[first], columns[second]) == names
    # In a file without one of them the other is not both.
    columns = columns_of_labels(["text", "toxic", names[1]], "c.csv", ["toxic", *names])
    assert (first in columns, columns[second]) == (False, names[1])


def test_the_text_is_no_label():
    with pytest.raises(RequestError, match="`words` cannot be both the text and a label"):
        columns_of_labels(["words", "toxic"], "c.csv", ["toxic", "words"], text_name="words")


def write(folder, name, table):
    return str(write_table(folder / name, table))


def load(path, *asked, **arguments):
    return load_splits(DataArguments(train_file=str(path), label_column_names=[*asked], **arguments))


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(("make", "labels"), [(jigsaw2018, LABELS_2018), (jigsaw2019, LABELS_2019)])
def test_every_format_gives_the_labels(tmp_path, ending, make, labels):
    table = make(60, missing=0.2)
    whole = load(write(tmp_path, f"c.{ending}", table), *labels, max_train_samples=40)
    assert whole.labels == labels
    expected = table.to_pandas().set_index("comment_text").rename(columns={"target": "toxicity"})[[*labels]]
    for split in (whole.train, whole.validation):
        found = label_targets_of(split, whole.labels)
        assert found == pytest.approx(expected.loc[split["text"][:]].to_numpy(), nan_ok=True)
        assert targets_of(split) == pytest.approx(found[:, 0], nan_ok=True)
        # It still is a subtype, too.
        subtype, label = (split.with_format("numpy")[name] for name in ("insult", label_column("insult")))
        assert subtype == pytest.approx(label, nan_ok=True)


@pytest.mark.parametrize(
    ("table", "asked", "labels"),
    [
        (jigsaw2018(60), ["subtypes"], LABELS_2018),
        (jigsaw2019(60), ["subtypes"], LABELS_2019),
        (jigsaw2019(60).rename_columns({"target": "toxicity"}), ["subtypes"], LABELS_2019),
        (jigsaw2019(60).drop_columns(["insult"]), ["subtypes"], tuple(n for n in LABELS_2019 if n != "insult")),
        (
            jigsaw2019(60).set_column(3, "severe_toxicity", pa.nulls(60, pa.float64())),
            ["subtypes"],
            (LABELS_2019[0], *LABELS_2019[2:]),
        ),
        (jigsaw2018(60), ["toxicity", "subtypes"], ("toxicity", *LABELS_2018[1:])),
        (jigsaw2019(60), ["threat", "subtypes"], ("threat", *(n for n in LABELS_2019[1:] if n != "threat"))),
        (
            jigsaw2018(60).rename_columns({"severe_toxic": "severe_toxicity"}),
            ["subtypes"],
            ("toxic", "severe_toxicity", *LABELS_2018[2:]),
        ),
        (jigsaw2019(60).select(["target", "comment_text"]), ["subtypes"], ("toxicity",)),
        (jigsaw2018(60), ["insult"], ("insult",)),
    ],
)
def test_the_labels_by_name(tmp_path, table, asked, labels):
    splits = load(write(tmp_path, "c.parquet", table), *asked)
    assert splits.labels == labels
    assert label_targets_of(splits.train, labels).shape == (40, len(labels))


def test_without_the_flag_there_is_one_label(tmp_path):
    for table in (jigsaw2018(60), jigsaw2019(60)):
        splits = load_splits(DataArguments(train_file=write(tmp_path, "c.csv", table)))
        assert splits.labels == ("toxic",)
        assert not [name for name in splits.train.column_names if name.startswith(label_column(""))]


def test_a_file_may_lack_a_label_that_another_has(tmp_path, caplog):
    write(tmp_path, "a.csv", jigsaw2018(30))
    write(tmp_path, "b.csv", jigsaw2018(30, seed=1).drop_columns(["threat"]))
    with caplog.at_level(logging.INFO, logger="toxicity"):
        splits = load(tmp_path, "toxic", "threat")
    assert (
        f"The label `threat` is null in the files that have no such column, as in {tmp_path / 'b.csv'}" in caplog.text
    )
    assert (
        splits.train[label_column("threat")][:].count(None) + splits.validation[label_column("threat")][:].count(None)
        == 30
    )
    with pytest.raises(RequestError, match=r"has no column profanity; it has id, comment_text, toxic, .*identity_hate"):
        load(tmp_path, "toxic", "profanity")


def test_validation_rows_have_the_labels_of_the_training_rows(tmp_path):
    train, other = write(tmp_path, "a.csv", jigsaw2018(60)), write(tmp_path, "b.csv", jigsaw2019(30))
    splits = load(train, "subtypes", validation_file=other)
    assert splits.labels == LABELS_2018
    found = splits.validation
    assert found[label_column("identity_hate")][:] == pytest.approx(found["identity_attack"][:])
    lacking = write(tmp_path, "c.csv", jigsaw2018(30).drop_columns(["threat"]))
    for asked in (["subtypes"], LABELS_2018):
        with pytest.raises(RequestError, match=r"c.csv has no column .*threat.*; it has id, comment_text, toxic"):
            load(train, *asked, validation_file=lacking)


def test_labels_of_a_dataset_of_the_hub_and_of_a_folder_that_was_saved(tmp_path):
    from datasets import Dataset

    rows = Dataset(jigsaw2018(60))
    rows.save_to_disk(tmp_path / "saved")
    (tmp_path / "hub" / "data").mkdir(parents=True)
    rows.to_parquet(tmp_path / "hub" / "data" / "train-00000-of-00001.parquet")
    Dataset(jigsaw2018(20, seed=2)).to_parquet(tmp_path / "hub" / "data" / "validation-00000-of-00001.parquet")
    assert load(tmp_path / "saved", "subtypes").labels == LABELS_2018
    splits = load_splits(DataArguments(dataset_name=str(tmp_path / "hub"), label_column_names=["toxic", "insult"]))
    assert (splits.labels, len(splits.validation)) == (("toxic", "insult"), 20)
    with pytest.raises(RequestError, match=r"hub \(train\) has no column irony; it has id, comment_text, toxic"):
        load_splits(DataArguments(dataset_name=str(tmp_path / "hub"), label_column_names=["toxic", "irony"]))


@pytest.mark.parametrize(
    ("table", "asked", "told"),
    [
        (jigsaw2018(60), ["subtypes"], f"the labels to learn are {', '.join(LABELS_2018)}"),
        (jigsaw2018(60).select(["toxic", "comment_text"]), ["subtypes"], "the labels to learn are toxic."),
        (jigsaw2019(60), ["toxic", "insult"], None),  # which `target` cannot but mean
        (jigsaw2018(60), ["toxicity", "insult"], "The label `toxicity` is the column `toxic`."),
        (jigsaw2019(60), ["toxicity", "severe_toxic"], "The label `severe_toxic` is the column `severe_toxicity`."),
        (jigsaw2018(60), ["toxic", "insult"], None),
    ],
)
def test_what_is_decided_without_a_flag_is_told(tmp_path, caplog, table, asked, told):
    log_once.cache_clear()
    with caplog.at_level(logging.INFO, logger="toxicity"):
        load(write(tmp_path, "c.csv", table), *asked)
    lines = [line for line in caplog.messages if not line.startswith("Training on")]
    assert len(lines) == (told is not None)
    assert told is None or told in lines[0]
