import datasets
import numpy as np
import pandas as pd
import pytest
from builders import make_comments, write_comments
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from toxicity.core.arguments import DataArguments
from toxicity.core.errors import RequestError
from toxicity.data.sources import load_splits, read_file

pytestmark = pytest.mark.usefixtures("cache_dir")

TEXTS, LABELS = map(list, zip(*make_comments(60), strict=True))  # one in four is toxic


def dataset(feature, values):
    return Dataset.from_dict(
        {"text": TEXTS, "label": values}, features=Features({"text": Value("string"), "label": feature})
    )


def write(folder, **splits):
    """A folder as it is on the Hub, with a parquet file for each split; returns its name."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for name, rows in splits.items():
        rows.to_parquet(folder / "data" / f"{name}-00000-of-00001.parquet")
    return str(folder)


def toxic_rows(splits):
    rows = [*zip(splits.train["text"], splits.train["target"], strict=True)]
    return sorted(
        {
            text
            for text, target in [*rows, *zip(splits.validation["text"], splits.validation["target"], strict=True)]
            if target >= 0.5
        }
    )


TOXIC = sorted({text for text, label in zip(TEXTS, LABELS, strict=True) if label})
# Before, the number of a class was taken for its toxicity, whatever its name.
LAYOUTS = {
    "numbers": (Value("int64"), LABELS),
    "floats": (Value("float32"), [0.9 * label for label in LABELS]),
    "booleans": (Value("bool"), [bool(label) for label in LABELS]),
    "the first class is civil": (ClassLabel(names=["non-toxic", "toxic"]), LABELS),
    "the first class is toxic": (ClassLabel(names=["toxic", "non-toxic"]), [1 - label for label in LABELS]),
    "other words": (ClassLabel(names=["hate", "nothate"]), [1 - label for label in LABELS]),
    "classes named 0 and 1": (ClassLabel(names=["0", "1"]), LABELS),
    "classes named 1 and 0": (ClassLabel(names=["1", "0"]), [1 - label for label in LABELS]),
    "a list of one": (List(Value("int64")), [[label] for label in LABELS]),
    "a list of one class": (List(ClassLabel(names=["toxic", "non-toxic"])), [[1 - label] for label in LABELS]),
    "a list of a fixed length": (List(Value("float64"), length=1), [[label] for label in LABELS]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("saved", [False, True])
def test_the_right_rows_are_toxic(tmp_path, layout, saved):
    rows = dataset(*LAYOUTS[layout])
    folder = tmp_path / "data"
    if saved:
        rows.save_to_disk(folder)
        # Whether it is called a dataset or a file.
        assert toxic_rows(load_splits(DataArguments(train_file=str(folder)))) == TOXIC
    else:
        write(folder, train=rows)
    splits = load_splits(DataArguments(dataset_name=str(folder)))
    assert len(splits.train) + len(splits.validation) == 60
    assert toxic_rows(splits) == TOXIC


@pytest.mark.parametrize(
    ("feature", "values", "message"),
    [
        (ClassLabel(names=["red", "blue"]), LABELS, "red"),
        (ClassLabel(names=["LABEL_0", "LABEL_1"]), LABELS, "LABEL_0"),
        (List(Value("int64")), [[label, 0] for label in LABELS], "holds no toxicity but list<"),
        (List(Value("int64")), [[label] * (1 + label) for label in LABELS], "holds no toxicity but list<"),
        ({"toxic": Value("int64")}, [{"toxic": label} for label in LABELS], "holds no toxicity but struct<toxic"),
    ],
)
def test_what_does_not_say_which_rows_are_toxic(tmp_path, feature, values, message):
    with pytest.raises(RequestError, match=message):
        load_splits(DataArguments(dataset_name=write(tmp_path / "data", train=dataset(feature, values))))


def test_the_flag_says_which_classes_are_toxic(tmp_path):
    rows = dataset(ClassLabel(names=["red", "blue"]), [1 - label for label in LABELS])
    name = write(tmp_path / "data", train=rows)
    assert toxic_rows(load_splits(DataArguments(dataset_name=name, positive_labels=["red"]))) == TOXIC


def test_a_row_without_a_class_has_no_target(tmp_path):
    rows = dataset(ClassLabel(names=["civil", "toxic"]), [-1, *LABELS[1:]])
    with pytest.raises(RequestError, match="row 1: the target is missing"):
        load_splits(DataArguments(dataset_name=write(tmp_path / "data", train=rows)))


@pytest.fixture
def parts(tmp_path):
    """A dataset of several splits: 40 comments to train on, 12 called `dev` and 8 called `test`."""
    rows = dataset(Value("int64"), LABELS)
    return write(
        tmp_path / "mine", train=rows.select(range(40)), dev=rows.select(range(40, 52)), test=rows.select(range(52, 60))
    )


@pytest.mark.parametrize(
    ("flags", "train", "validation"),
    [
        ({"validation_split_name": "test"}, range(40), range(52, 60)),
        ({"validation_split_name": "dev"}, range(40), range(40, 52)),
        ({"train_split_name": "dev", "validation_split_name": "train"}, range(40, 52), range(40)),
        ({"train_split_name": "train[:50%]", "validation_split_name": "train[50%:]"}, range(20), range(20, 40)),
        (
            {"train_split_name": "train+test", "validation_split_name": "dev"},
            [*range(40), *range(52, 60)],
            range(40, 52),
        ),
        ({"validation_split_name": "test[-4:]", "max_train_samples": 9}, range(9), range(56, 60)),
    ],
)
def test_splits_by_name(parts, flags, train, validation):
    splits = load_splits(DataArguments(dataset_name=parts, **flags))
    assert splits.train["text"][:] == [TEXTS[row] for row in train]
    assert splits.validation["text"][:] == [TEXTS[row] for row in validation]
    names = [value for name, value in flags.items() if name.endswith("split_name")]
    assert splits.source == f"mine ({', '.join(names)})"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"train_split_name": "training"}, "has no split `training`; it has train, .*--train_split_name"),
        ({"validation_split_name": "valid"}, "has no split `valid`; it has .*--validation_split_name"),
        ({"validation_split_name": "test[:10%"}, r"has no split `test\[:10%`"),
        ({"validation_split_name": "test[:200%]"}, r"has no split `test\[:200%\]`"),
        ({"validation_split_name": "train"}, "train and train share rows"),
        ({"validation_split_name": "train[:5]"}, r"train and train\[:5\] share rows"),
        ({"dataset_config_name": "english"}, "has no configuration `english` .*; it has default"),
    ],
)
def test_splits_and_configurations_that_are_not_there(parts, flags, message):
    with pytest.raises(RequestError, match=message):
        load_splits(DataArguments(dataset_name=parts, **flags))


def test_splits_that_are_not_used_are_told(parts, tmp_path, caplog):
    with caplog.at_level("INFO", logger="toxicity"):
        splits = load_splits(DataArguments(dataset_name=parts))
    assert len(splits.train) + len(splits.validation) == 40
    assert "not used: the splits dev, test. A part of train is drawn for validation" in caplog.text
    name = write(tmp_path / "other", test=dataset(Value("int64"), LABELS))
    with pytest.raises(RequestError, match="has no split `train`; it has test. Name one as --train_split_name"):
        load_splits(DataArguments(dataset_name=name))


@pytest.mark.parametrize(("train", "rows"), [("validation", 20), ("train+validation", 60), ("train[:10]", 10)])
def test_the_default_validation_split_is_not_trained_on_too(tmp_path, train, rows):
    whole = dataset(Value("int64"), LABELS)
    name = write(tmp_path / "data", train=whole.select(range(40)), validation=whole.select(range(40, 60)))
    splits = load_splits(DataArguments(dataset_name=name, train_split_name=train))
    own = splits.validation["text"][:] == TEXTS[40:]
    assert own == (train == "train[:10]")
    assert len(splits.train) + len(splits.validation) * (not own) == rows


def test_configurations_by_name(tmp_path):
    rows = dataset(Value("int64"), LABELS)
    for name, first in (("english", 0), ("german", 30)):
        write(tmp_path / name, train=rows.select(range(first, first + 30)))
    card = "".join(f"- config_name: {name}\n  data_files: {name}/data/*.parquet\n" for name in ("english", "german"))
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{card}---\n")
    splits = load_splits(DataArguments(dataset_name=str(tmp_path), dataset_config_name="german"))
    assert {*splits.train["text"], *splits.validation["text"]} == set(TEXTS[30:])
    assert splits.source == f"{tmp_path.name} (german)"
    with pytest.raises(RequestError, match="has several configurations: english, german. Choose one"):
        load_splits(DataArguments(dataset_name=str(tmp_path)))
    with pytest.raises(RequestError, match="has no configuration `french` .*; it has english, german"):
        load_splits(DataArguments(dataset_name=str(tmp_path), dataset_config_name="french"))


def test_what_save_to_disk_wrote(tmp_path):
    rows = dataset(ClassLabel(names=["toxic", "non-toxic"]), [1 - label for label in LABELS])
    folder = tmp_path / "saved"
    DatasetDict({"train": rows.select(range(40)), "validation": rows.select(range(40, 60))}).save_to_disk(folder)
    # What `map` left there is no data.
    Dataset.from_dict({"text": ["x"], "label": [0]}).save_to_disk(tmp_path / "other")
    (tmp_path / "other" / "data-00000-of-00001.arrow").rename(folder / "train" / "cache-0a1b.arrow")
    for arguments in (
        DataArguments(dataset_name=str(folder)),
        DataArguments(train_file=str(folder / "train"), validation_file=str(folder / "validation")),
    ):
        splits = load_splits(arguments)
        assert (splits.train["text"][:], splits.validation["text"][:]) == (TEXTS[:40], TEXTS[40:])
        assert toxic_rows(splits) == TOXIC
    with pytest.raises(
        RequestError, match="holds the splits train, validation of a dataset: give it as --dataset_name"
    ):
        read_file(str(folder), DataArguments(train_file=str(folder)))
    with pytest.raises(RequestError, match="leave out --dataset_config_name x"):
        load_splits(DataArguments(dataset_name=str(folder), dataset_config_name="x"))
    (folder / "train" / "data-00000-of-00001.arrow").write_bytes(b"cut off")
    with pytest.raises(RequestError, match="cannot read .*, which save_to_disk wrote: .* Save it again"):
        load_splits(DataArguments(dataset_name=str(folder)))


def test_a_dataset_with_its_own_splits(tmp_path):
    frame = pd.DataFrame({"text": TEXTS, "toxicity": np.float32(LABELS) * 0.6, "obscene": np.float32(0.1)})
    folder = tmp_path / "civil"
    folder.mkdir()
    frame[:40].to_parquet(folder / "train-00000-of-00001.parquet")
    frame[40:].to_parquet(folder / "validation-00000-of-00001.parquet")
    splits = load_splits(DataArguments(dataset_name=str(folder), max_train_samples=20))
    assert splits.train["text"][:] == TEXTS[:20]
    assert splits.validation["text"][:] == TEXTS[40:]
    assert splits.validation["target"][:] == pytest.approx([0.6 * label for label in LABELS[40:]])
    assert splits.train["obscene"][0] == pytest.approx(0.1)


def test_a_dataset_that_cannot_be_had(tmp_path):
    name = str(write_comments(tmp_path / "c.csv"))
    with pytest.raises(RequestError, match="is a file: give it as --train_file"):
        load_splits(DataArguments(dataset_name=name))
    with pytest.raises(
        RequestError, match="cannot load the dataset nobody/nothing.*--dataset_revision and the network"
    ):
        load_splits(DataArguments(dataset_name="nobody/nothing", dataset_revision="v1"))


def test_a_cache_of_somebody_else(tmp_path, monkeypatch, parts):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied", "/somebody/mine.lock")

    monkeypatch.setattr(datasets.builder, "FileLock", refused)
    with pytest.raises(RequestError, match="Permission denied: /somebody/mine.lock. .*HF_DATASETS_CACHE"):
        load_splits(DataArguments(dataset_name=parts))
