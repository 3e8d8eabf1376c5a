import errno
import functools
import os
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pytest
from builders import write_comments
from fsspec.implementations.memory import MemoryFileSystem

from toxicity.core.arguments import DataArguments
from toxicity.core.errors import RequestError
from toxicity.data.addresses import is_skipped, list_data_files, local_copy, shown
from toxicity.data.sources import load_splits, read_file
from toxicity.predict.shards import list_shards


@pytest.fixture
def memory():
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()


@pytest.fixture
def web(tmp_path):
    """A web server of the files in `tmp_path`: its address, and the headers of the calls that came."""
    calls = []

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            calls.append(dict(self.headers))
            super().do_GET()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}", calls
        server.shutdown()


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


def test_an_archive_elsewhere(memory, tmp_path):
    with memory.open("/all.zip", "wb") as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.csv", "text\nx\n")
    (file,) = list_data_files("zip://*.csv::memory://all.zip")
    with local_copy(file) as path:
        assert path.read_text() == "text\nx\n"
    (file,) = list_data_files("simplecache::memory://all.zip")
    with local_copy(file) as path:
        assert zipfile.is_zipfile(path)


def test_training_on_what_is_elsewhere(memory, tmp_path, cache_dir):
    for number in range(3):
        content = write_comments(tmp_path / "x.csv", 40, first_id=100 * number).read_bytes()
        memory.pipe(f"/data/part-{number}.csv", content)
    splits = load_splits(
        DataArguments(train_file="memory://data/part-[01].csv", validation_file="memory://data/part-2.csv")
    )
    assert splits.train["id"][:] == [*range(40), *range(100, 140)]
    assert splits.validation["id"][:] == list(range(200, 240))
    assert splits.source == "part-[01].csv"
    assert len(load_splits(DataArguments(train_file="memory://data")).train) == 80
    memory.pipe("/data/part-1.csv", b"id,comment_text,target\n500,a,7\n")
    with pytest.raises(RequestError, match=r"^memory:///data/part-1.csv, row 1: the target is not from 0 to 1"):
        load_splits(DataArguments(train_file="memory://data"))
    memory.pipe("/data/part-1.csv", b"id,colour,target\n500,a,1\n")
    with pytest.raises(RequestError, match=r"^memory:///data/part-1.csv has no column") as refused:
        load_splits(DataArguments(train_file="memory://data"))
    assert "/tmp" not in str(refused.value)


def test_credentials_are_used_and_not_shown(web, tmp_path, cache_dir, caplog, monkeypatch):
    host, calls = web
    write_comments(tmp_path / "train.csv")
    address = f"http://me:secret@{host}/train.csv?token=hidden"
    with caplog.at_level("INFO", logger="toxicity"):
        splits = load_splits(DataArguments(train_file=address))
    assert len(splits.train) == 80
    assert any(call.get("Authorization", "").startswith("Basic") for call in calls)
    (shard,) = list_shards([address])
    assert (shard.address, shard.name) == (f"http://{host}/train.csv", "train")
    told = [caplog.text, splits.source]
    for wrong in ("trein.csv", "train.html"):
        (tmp_path / "train.html").write_text("x")
        with pytest.raises(RequestError) as refused:
            list_shards([address.replace("train.csv", wrong)])
        told.append(str(refused.value))
    assert not [text for text in told if "secret" in text or "hidden" in text], told


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://me:pass@host/a.csv", "https://host/a.csv"),
        ("https://token@host/a.csv", "https://host/a.csv"),
        ("https://host/a.csv?X-Amz-Signature=1&b=2", "https://host/a.csv"),
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
    assert shown(address) == expected


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
        ("memory://nothing.csv", r"there is no file memory://nothing.csv"),
        ("zip://x.csv::train.csv", r"cannot reach zip://x.csv::train.csv: BadZipFile"),
    ],
)
def test_what_is_not_there(tmp_path, monkeypatch, address, message):
    monkeypatch.chdir(tmp_path)
    for name in ("train.csv", "deep/test.csv", "deep/x.jpg", "empty/notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    with pytest.raises(RequestError, match=message):
        list_data_files(address, "--validation_file")


def test_no_place_for_a_copy(memory, tmp_path, monkeypatch):
    memory.pipe("/a.csv", b"content")
    (file,) = list_data_files("memory://a.csv")

    def full(self, path, target, **_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(MemoryFileSystem, "get_file", full)
    with pytest.raises(RequestError, match="No space left.*TMPDIR"), local_copy(file):
        pass

    def refused(**_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryDirectory", refused)
    with pytest.raises(RequestError, match="temporary copy in .*: Permission denied.*TMPDIR"), local_copy(file):
        pass


def test_a_file_is_here_for_a_while(memory, tmp_path):
    memory.pipe("/a.csv", b"content")
    (file,) = list_data_files("memory://a.csv")
    with local_copy(file) as path:
        assert (path.name, path.read_bytes()) == ("a.csv", b"content")
    assert not path.exists()

    (tmp_path / "b.csv").write_text("x")
    (local,) = list_data_files(str(tmp_path / "b.csv"))
    with local_copy(local) as path:
        assert path == tmp_path / "b.csv"


def test_a_file_that_does_not_come_whole(memory, monkeypatch):
    memory.pipe("/a.csv", b"content")
    (file,) = list_data_files("memory://a.csv")
    memory.pipe("/a.csv", b"cont")
    with pytest.raises(RequestError, match="was cut off: 4 of 7 bytes came"), local_copy(file):
        pass

    def fail(*_):
        raise ConnectionError("the line\nis dead")

    monkeypatch.setattr(MemoryFileSystem, "get_file", fail)
    with pytest.raises(RequestError, match="cannot reach memory:///a.csv: ConnectionError: the line is dead"):
        with local_copy(file):
            pass


def test_a_file_on_a_web_server(web, tmp_path):
    host, _ = web
    (tmp_path / "a.csv").write_text('text\n<a href="elsewhere">spam</a>\n')
    address = f"http://{host}/a.csv"
    (file,) = list_data_files(address)
    assert (file.address, file.name, file.bytes) == (address, "a.csv", (tmp_path / "a.csv").stat().st_size)
    # Such a server reports only the time of the last change, in whole seconds.
    os.utime(tmp_path / "a.csv", (1e9, 1e9))
    fsspec.filesystem("http").clear_instance_cache()
    (newer,) = list_data_files(address)
    assert newer.version not in (None, file.version)
    with local_copy(file) as path:
        assert path.read_bytes() == (tmp_path / "a.csv").read_bytes()
    with pytest.raises(RequestError, match="there is no file http://127"):
        list_data_files(address.replace("a.csv", "b.csv"))
