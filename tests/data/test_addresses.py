import os
import zipfile

import pytest
from builders import write_comments

from toxicity.core.arguments import DataArguments
from toxicity.core.errors import RequestError
from toxicity.data.addresses import list_data_files
from toxicity.data.copies import local_copy
from toxicity.data.folders import is_skipped
from toxicity.data.sources import read_file
from toxicity.data.storage import without_credentials
from toxicity.predict.shards import list_shards


def names(address):
    return [file.name for file in list_data_files(str(address))]


@pytest.mark.parametrize(
    ("name", "skipped"),
    [
        ("train.csv", False),
        ("2024/01/part-0.parquet", False),
        ("train_1.csv", False),
        ("state.csv", False),
        (".train.csv", True),
        ("_train.csv", True),
        (".ipynb_checkpoints/train-checkpoint.csv", True),
        ("deep/.git/train.csv", True),
        ("_delta_log/0.json", True),
        ("__MACOSX/train.csv", True),
        ("dataset_infos.json", True),
        ("deep/dataset_info.json", True),
        ("state.json", True),
        ("dataset_dict.json", True),
        ("config.json", True),
        ("cache-9f0a.arrow", True),
    ],
)
def test_what_in_a_folder_is_no_data(tmp_path, name, skipped):
    assert is_skipped(name) == skipped
    if name.endswith("parquet") or name.endswith("arrow"):
        return
    # The same at both doors: in training, and in scoring.
    path = tmp_path / "in" / name
    path.parent.mkdir(parents=True)
    lines = [f'{{"text": "comment {i}", "target": {i % 2}}}' for i in range(6)]
    path.write_text("\n".join(lines) if name.endswith("json") else "text,target\n" + "x,0\ny,1\n" * 3)
    write_comments(tmp_path / "in" / "always.csv", 8)
    rows = len(read_file(str(tmp_path / "in"), DataArguments(train_file="x")).table)
    shards = [shard.name for shard in list_shards([str(tmp_path / "in")])]
    assert (rows == 8) == (shards == ["always"]) == skipped
    assert len(read_file(str(path), DataArguments(train_file="x")).table) == 6, "named itself, it is read"
    assert len(list_shards([str(path)])) == 1


def test_what_was_left_out_is_told(tmp_path, caplog):
    (tmp_path / ".ipynb_checkpoints").mkdir()
    for name in ("train.csv", ".ipynb_checkpoints/train-checkpoint.csv"):
        write_comments(tmp_path / name)
    with caplog.at_level("INFO", logger="toxicity"):
        assert names(tmp_path) == ["train.csv"]
    assert "1 files that are hidden or no data: .ipynb_checkpoints/train-checkpoint.csv" in caplog.text
    (tmp_path / "train.csv").unlink()
    with pytest.raises(RequestError, match="holds no data: all its files are hidden or describe data"):
        names(tmp_path)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.csv", ["a.csv", "b[1].csv"]),
        ("?.csv", ["a.csv"]),
        ("[ab].csv", ["a.csv"]),
        ("b[1].csv", ["b[1].csv"]),  # there is a file of that name
        ("**/*.csv", ["a.csv", "b[1].csv", "deep/c.csv"]),
        ("*/c.csv", ["deep/c.csv"]),
        ("_*/*.csv", ["_kept/d.csv"]),
        ("deep", ["c.csv"]),
        ("deep/", ["c.csv"]),
        ("file://{}/a.csv", ["a.csv"]),
        ("file://{}/deep", ["c.csv"]),
    ],
)
def test_patterns_and_folders(tmp_path, monkeypatch, pattern, found):
    for name in ("a.csv", "b[1].csv", "deep/c.csv", "_kept/d.csv", "notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text\nx\n")
    monkeypatch.chdir(tmp_path)
    assert names(pattern.format(tmp_path)) == found


@pytest.mark.parametrize(
    "address",
    ["zip://deep/x.csv::{}/all.zip", "zip://deep/*.csv::{}/all.zip", "zip://deep::{}/all.zip", "zip://::{}/all.zip"],
)
def test_a_file_in_an_archive(tmp_path, address):
    content = write_comments(tmp_path / "x.csv").read_bytes()
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("deep/x.csv", content)
        archive.writestr("README.txt", "no data")
    (file,) = list_data_files(address.format(tmp_path))
    assert file.address == f"zip://deep/x.csv::{tmp_path}/all.zip"
    assert file.version, "a new content is told from the old one"
    with local_copy(file) as path:
        assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://me:pass@host/a.csv", "https://host/a.csv"),
        ("https://token@host/a.csv", "https://host/a.csv"),
        ("https://me:p@ss@host/a.csv", "https://host/a.csv"),
        ("s3://key:sec@ret@bucket/a.csv", "s3://bucket/a.csv"),
        ("https://host/a.csv?X-Amz-Signature=1&b=2", "https://host/a.csv"),
        ("https://host/a.csv?token", "https://host/a.csv"),
        ("https://host/a.csv?name='a(1)'.csv&token=1", "https://host/a.csv"),
        (
            "(url 'https://host/a.csv?token'), 'https://host/b.csv?c'",
            "(url 'https://host/a.csv'), 'https://host/b.csv'",
        ),
        ("https://host/a.csv?what?token=1", "https://host/a.csv"),
        ("zip://a.csv::https://host/b.zip?token=1", "zip://a.csv::https://host/b.zip"),
        ("ftp://me:pass@host/a.csv", "ftp://host/a.csv"),
        ("s3://key:secret@bucket/a.csv", "s3://bucket/a.csv"),
        ("abfs://container@account/a.csv", "abfs://container@account/a.csv"),
        ("hf://datasets/me/x@main/a.csv", "hf://datasets/me/x@main/a.csv"),
        ("az://box/a.csv?sig=1", "az://box/a.csv"),
        ("s3://bucket/what?.csv", "s3://bucket/what?.csv"),
        ("/data/what?.csv", "/data/what?.csv"),
        ("404, message='Not Found', url='https://h/a.csv?t=1'", "404, message='Not Found', url='https://h/a.csv'"),
    ],
)
def test_what_of_an_address_is_shown(address, expected):
    assert without_credentials(address) == expected


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("train.cvs", r"there is no file train.cvs. The nearest there is train.csv."),
        ("Train.csv.gz", r"The nearest there is train.csv."),
        ("deep/tests.csv", r"The nearest there is test.csv."),
        ("nothing/alike.parquet", r"there is no file nothing/alike.parquet.$"),
        ("deep/x.jpg", r"cannot read deep/x.jpg: its name should end in one of"),
        ("empty", r"empty holds no data: no file ends in"),
        ("*.parquet", r"\*.parquet holds no data"),
        ("", r"no file of an empty name: give --validation_file"),
        ("link.csv", r"link.csv is a link to gone.csv, which is not there"),
        ("links", r"links/link.csv is a link to gone.csv, which is not there"),
        ("memory://nothing.csv", r"there is no file memory://nothing.csv"),
        ("zip://x.csv::train.csv", r"cannot reach zip://x.csv::train.csv: BadZipFile"),
    ],
)
def test_what_is_not_there(tmp_path, monkeypatch, address, message):
    monkeypatch.chdir(tmp_path)
    for name in ("train.csv", "deep/test.csv", "deep/x.jpg", "empty/notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    for name in ("link.csv", "links/link.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to("gone.csv")
    with pytest.raises(RequestError, match=message):
        list_data_files(address, "--validation_file")


def test_a_folder_that_may_not_be_read_is_not_passed_over(tmp_path, monkeypatch):
    for name in ("a.csv", "locked/b.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_comments(tmp_path / name)
    scandir = os.scandir

    def locked(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(
        RequestError, match=r"cannot reach .*: PermissionError: .*locked' Check .* your right to read it"
    ):
        list_data_files(str(tmp_path))
    (tmp_path / "locked").rename(tmp_path / ".locked")
    assert names(tmp_path) == ["a.csv"], "what would be left out anyhow need not be read"
