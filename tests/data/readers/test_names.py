import pytest

from toxicity.data.readers.names import ENDINGS, has_types, is_readable, stem_of


@pytest.mark.parametrize(
    ("name", "stem", "named", "in_folder"),
    [
        ("train.csv", "train", True, True),
        ("a/b.c/train.CSV.GZ", "a/b.c/train", True, True),
        ("train.tsv.xz", "train", True, True),
        ("train.tab", "train", True, True),
        ("train.jsonl.zip", "train", True, True),
        ("train.ndjson.zst", "train", True, True),
        ("part-0.snappy.parquet", "part-0.snappy", True, True),
        ("train.pq", "train", True, True),
        ("train.parq", "train", True, True),
        ("data-00000-of-00001.arrow", "data-00000-of-00001", True, True),
        ("train.feather", "train", True, True),
        ("archive.zip", "archive", True, True),
        ("notes.txt", "notes", True, False),
        ("notes.txt.gz", "notes", True, False),
        ("notes.txt.zip", "notes", True, False),
        ("train.gz", "train", False, False),
        ("train.xlsx", "train.xlsx", False, False),
        ("csv", "csv", False, False),
    ],
)
def test_what_a_name_says(name, stem, named, in_folder):
    assert (is_readable(name), is_readable(name, in_folder=True)) == (named, in_folder)
    assert stem_of(name) == stem


@pytest.mark.parametrize(
    ("address", "typed"),
    [
        ("a/train.jsonl", True),
        ("train.PARQUET", True),
        ("train.json.gz", True),
        ("zip://train.json::archive.zip", True),
        ("https://host/train.ndjson?download=true", True),
        ("train.json/part.csv", False),
        ("zip://train.csv::archive.zip", False),
        ("train.txt", False),
    ],
)
def test_formats_that_tell_numbers_from_text(address, typed):
    assert has_types(address) is typed


def test_messages_name_all_endings():
    for ending in (".csv", ".tsv", ".ndjson", ".parq", ".feather", ".zst"):
        assert ending in ENDINGS
