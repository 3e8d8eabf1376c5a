import json
import os
import shutil
import sys

import fsspec
import pandas as pd
import pytest
from builders import make_comments, training_flags, write_comments, write_csv

from toxicity.core.arguments import DataArguments
from toxicity.core.errors import RequestError
from toxicity.data.labelled_files import name_of
from toxicity.data.sources import load_splits, read_file

pytestmark = pytest.mark.usefixtures("cache_dir")

COMMENTS = make_comments(60)


def splits_of(path, **arguments):
    return load_splits(DataArguments(train_file=str(path), **arguments))


def test_files_of_two_years_together(tmp_path):
    names_2018 = ["id", "comment_text", "toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate"]
    rows_2018 = [[f"00{i:x}", text, y, 0, y, 0, y, 1 - y] for i, (text, y) in enumerate(COMMENTS[:20])]
    names_2019 = ["id", "target", "comment_text", "severe_toxicity", "sexual_explicit", "male"]
    rows_2019 = [[59848 + i, y, text, 0.25, 0.5, "" if i % 4 else 1] for i, (text, y) in enumerate(COMMENTS[20:40])]
    write_csv(tmp_path / "2018.csv", names_2018, rows_2018)
    write_csv(tmp_path / "2019.csv", names_2019, rows_2019)
    table = read_file(str(tmp_path / "20*.csv"), DataArguments(train_file="x")).table
    assert table["text"].to_pylist() == [text for text, _ in COMMENTS[:40]]
    assert table["target"].to_pylist() == [label for _, label in COMMENTS[:40]]
    assert table["severe_toxicity"].to_pylist() == [0] * 20 + [0.25] * 20
    assert table["identity_attack"].to_pylist() == [1 - label for _, label in COMMENTS[:20]] + [None] * 20
    assert table["sexual_explicit"].to_pylist() == [None] * 20 + [0.5] * 20
    assert table["male"].to_pylist() == [None] * 20 + [None if i % 4 else 1 for i in range(20)]
    assert table["id"].to_pylist()[::20] == ["000", "59848"]


def test_files_that_share_no_more_than_text_and_label(tmp_path):
    pd.DataFrame(COMMENTS[:20], columns=["text", "label"]).to_parquet(tmp_path / "a.parquet")
    write_csv(tmp_path / "b.csv", ["toxicity", "comment_text"], [[label, text] for text, label in COMMENTS[20:]])
    source = read_file(str(tmp_path), DataArguments(train_file="x"))
    assert source.table["text"].to_pylist() == [text for text, _ in COMMENTS]
    assert source.table["target"].to_pylist() == [label for _, label in COMMENTS]
    assert source.files == [(str(tmp_path / "a.parquet"), 20), (str(tmp_path / "b.csv"), 40)]


@pytest.mark.parametrize(
    ("column", "values", "told"),
    [
        ("split", ["train", "train", "test"], "column `split` is not used.*(train: 40, test: 20).*--validation_file"),
        ("Split", ["train", "val", "test"], "(train: 20, val: 20, test: 20)"),
        ("set", ["training", "dev", ""], "training: 20, dev: 20"),
        ("split", ["train", "public_leaderboard", "private_leaderboard"], "public_leaderboard: 20"),
        ("fold", [0, 1, 2], "column `fold` is not used"),
        ("set", ["red", "green", "blue"], None),
        ("subset", ["reddit", "twitter", "gab"], None),
    ],
)
def test_a_column_that_tells_parts_apart_is_told(tmp_path, caplog, column, values, told):
    frame = pd.DataFrame(COMMENTS, columns=["text", "target"]).assign(**{column: values * 20})
    frame.to_csv(tmp_path / "c.csv", index=False)
    frame.to_json(tmp_path / "c.jsonl", orient="records", lines=True)
    for name in ("c.csv", "c.jsonl"):
        caplog.clear()
        with caplog.at_level("INFO", logger="toxicity"):
            splits = splits_of(tmp_path / name)
        assert len(splits.train) + len(splits.validation) == 60
        lines = [record.getMessage() for record in caplog.records if "is not used" in record.getMessage()]
        assert [told.replace("(", "").partition(".*")[0] in line.replace("(", "") for line in lines] == [True] * bool(
            told
        )


def test_such_a_column_may_be_the_label(tmp_path):
    rows = [[text, label] for text, label in COMMENTS]
    splits = splits_of(write_csv(tmp_path / "c.csv", ["text", "set"], rows), label_column_name="set")
    assert sum(splits.train["target"]) + sum(splits.validation["target"]) == 15


def test_rows_that_nobody_scored_are_no_part_of_the_data(tmp_path, caplog):
    header = ["id", "text", "toxic", "obscene"]
    rows = [[i, text, label, 0] for i, (text, label) in enumerate(COMMENTS)]
    whole = write_csv(tmp_path / "whole.csv", header, rows)
    # Every fourth, as in test_labels.csv of 2018; one of them has no text, which does not matter then.
    for place in range(0, 80, 4):
        rows.insert(place, [1000 + place, "" if place == 8 else "not scored", -1, -1])
    path = write_csv(tmp_path / "2018.csv", header, rows)
    with caplog.at_level("INFO", logger="toxicity"):
        splits = splits_of(path)
    expected = splits_of(whole)
    assert splits.train["id"][:] == expected.train["id"][:], "drawn as if they were not there"
    assert splits.validation["id"][:] == expected.validation["id"][:]
    assert (splits.train_rows, splits.validation_rows) == (40, 20)
    assert splits.dropped_rows == {"nobody scored it (its target is -1)": 20}
    assert "Left out of 2018.csv: 20 rows: nobody scored it" in caplog.text
    together = splits_of(path, keep_identical_texts_together=True)
    assert together.train["id"][:] == splits_of(whole, keep_identical_texts_together=True).train["id"][:]
    as_validation = splits_of(whole, validation_file=str(path), max_eval_samples=10)
    assert as_validation.validation["id"][:] == list(range(10))
    rows[1][2] = 7
    with pytest.raises(RequestError, match=r"2018.csv, row 2: the target is not from 0 to 1"):
        splits_of(write_csv(tmp_path / "2018.csv", header, rows))


@pytest.mark.parametrize(
    ("train_ids", "validation_ids", "expected"),
    [
        (range(40), [f"a{i}" for i in range(20)], (["0", "1"], ["a0", "a1"])),
        ([f"a{i}" for i in range(40)], None, (["a0", "a1"], ["0", "1"])),
        (None, [f"a{i}" for i in range(20)], (["0", "1"], ["a0", "a1"])),
        (None, range(7, 27), ([0, 1], [7, 8])),
        (range(40), range(20), ([0, 1], [0, 1])),
    ],
)
def test_ids_of_one_kind_in_both_files(tmp_path, train_ids, validation_ids, expected):
    for name, comments, ids in (("train", COMMENTS[:40], train_ids), ("val", COMMENTS[40:], validation_ids)):
        frame = pd.DataFrame(comments, columns=["text", "target"])
        (frame if ids is None else frame.assign(id=list(ids))).to_csv(tmp_path / f"{name}.csv", index=False)
    splits = splits_of(tmp_path / "train.csv", validation_file=str(tmp_path / "val.csv"))
    assert (splits.train["id"][:2], splits.validation["id"][:2]) == expected
    assert splits.train.features == splits.validation.features


def test_the_dry_run_of_files_with_ids_of_different_types(checkpoint, tmp_path, run_main, capsys):
    train = write_comments(tmp_path / "train.csv")
    validation = write_csv(tmp_path / "val.csv", ["text", "target"], [list(comment) for comment in COMMENTS])
    run_main(
        *("--model_name_or_path", checkpoint, "--train_file", train, "--validation_file", validation),
        *("--max_seq_length", 32, "--output_dir", tmp_path / "run", "--dry_run"),
    )
    assert "Validation: 60 rows" in capsys.readouterr().out


def test_the_first_bad_row_tells_the_likely_encoding(tmp_path):
    lines = [
        "text,target",
        *(f"{text},{label}" for text, label in COMMENTS),
        "He said \u201cyou\u2019re rotten\u201d,1",
    ]
    (tmp_path / "c.csv").write_text("\n".join(lines), encoding="cp1252")
    with pytest.raises(
        RequestError, match=r"row 61: the text is not UTF-8 but cp125\d, it seems \(--encoding cp125\d\)"
    ):
        splits_of(tmp_path / "c.csv")
    (tmp_path / "c.csv").write_text("\n".join([*lines, "\u00dd,1"]), encoding="utf-8")
    with pytest.raises(RequestError, match=r"the text is not cp1252 but utf-8, it seems \(--encoding utf-8\)"):
        splits_of(tmp_path / "c.csv", encoding="cp1252")


def test_lines_of_json_in_another_encoding(tmp_path):
    line = json.dumps({"text": "He said \u201cyou\u2019re rotten\u201d", "target": 1}, ensure_ascii=False)
    (tmp_path / "c.jsonl").write_text(line, encoding="cp1252")
    told = r"its line is not UTF-8 but cp125\d, it seems \(--encoding cp125\d\)"
    with pytest.raises(RequestError, match=f"c.jsonl holds no JSON lines: {told}"):
        splits_of(tmp_path / "c.jsonl")
    (tmp_path / "c.jsonl").write_text('{"text": "a", "target": 0}\n' + line, encoding="cp1252")
    with pytest.raises(RequestError, match=f"c.jsonl, row 2: {told}"):
        splits_of(tmp_path / "c.jsonl")


@pytest.mark.parametrize("address", ["", "*.csv*"])
def test_a_file_that_is_there_packed_and_unpacked(tmp_path, address):
    for name in ("train.csv", "train.csv.gz"):
        pd.DataFrame(COMMENTS, columns=["text", "target"]).to_csv(tmp_path / name, index=False)
    with pytest.raises(RequestError, match=r"holds train.csv and train.csv.gz, .* twice: name one of them as --train_"):
        splits_of(f"{tmp_path}/{address}")


def test_a_column_that_cannot_be_used_is_handed_on(tmp_path):
    rows = [[text, label, "often" if label else "seldom"] for text, label in COMMENTS]
    splits = splits_of(write_csv(tmp_path / "c.csv", ["text", "target", "insult"], rows))
    assert list(splits.absent) == ["insult"]
    assert splits.train["insult"][0] is None


@pytest.mark.parametrize(
    ("train", "validation"),
    [
        ("train.csv", "train.csv"),
        ("train.csv", "./train.csv"),
        ("train.csv", "link.csv"),
        ("train.csv", "hard.csv"),
        (".", "train.csv"),
        ("*.csv", "other/../train.csv"),
        ("memory://a.csv", "memory://a.csv"),
    ],
)
def test_a_file_that_is_trained_and_validated_on(tmp_path, monkeypatch, train, validation):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    path = write_csv(tmp_path / "train.csv", ["text", "target"], [list(comment) for comment in COMMENTS])
    fsspec.filesystem("memory").pipe("/a.csv", path.read_bytes())
    for name, make in (("link", os.symlink), ("hard", os.link)):
        if validation.startswith(name):
            make("train.csv", tmp_path / f"{name}.csv")
    with pytest.raises(RequestError, match="is both trained and validated on: name files that share none"):
        splits_of(train, validation_file=validation)
    # A copy is another file, whatever is in it.
    shutil.copy(path, tmp_path / "other" / "copy.csv")
    assert splits_of("train.csv", validation_file="other/copy.csv").validation_rows == 60


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("/data/train.csv", "train.csv"),
        ("/gone/train.csv.zip", "train.csv"),
        ("train.csv.zst", "train.csv"),
        ("/data/shards/", "shards"),
        ("/data/*.parquet", "*.parquet"),
        ("https://host/deep/train.csv.gz?token=secret", "train.csv"),
        ("hf://datasets/me/mine/train.csv", "train.csv"),
        ("zip://train.csv::/data/all.zip", "train.csv"),
        ("simplecache::https://host/train.csv", "train.csv"),
        ("zip://::/data/all.zip", "all"),
        ("zip://::hf://datasets/me/x/all.zip", "all"),
    ],
)
def test_what_the_data_are_called(address, name):
    assert name_of(address) == name


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take names in UTF-8 only")
def test_a_training_file_whose_name_is_not_utf8(checkpoint, tmp_path, run_main, capsys):
    path = tmp_path / os.fsdecode(b"caf\xe9.parquet")
    pd.DataFrame(COMMENTS, columns=["text", "target"]).to_parquet(tmp_path / "plain.parquet")
    (tmp_path / "plain.parquet").rename(path)
    run_main(*training_flags(checkpoint, path, output_dir=tmp_path / "run", num_train_epochs=1))
    out = capsys.readouterr().out
    # Strict readers of JSON refuse half of a surrogate pair, as which Python has such a byte.
    assert json.loads(out.splitlines()[-1])["protocol"]["dataset"] == r"caf\udce9.parquet"


def test_a_path_with_two_colons_is_no_chain_of_links(tmp_path):
    (tmp_path / "we::ird.csv").touch()
    assert name_of(str(tmp_path / "we::ird.csv")) == "we::ird.csv"
