import errno
import functools
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
from builders import ROOT, write_comments
from fsspec.implementations.memory import MemoryFileSystem

from toxicity.core.arguments import DataArguments
from toxicity.core.errors import RequestError
from toxicity.data.addresses import list_data_files
from toxicity.data.copies import _remove_left_folders, local_copy
from toxicity.data.sources import load_splits
from toxicity.predict.shards import list_shards


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

    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10, 5, 5))
    with pytest.raises(RequestError, match="memory:///a.csv takes 0.0 MiB, and 0.0 MiB are free. Make room"):
        with local_copy(file):
            pass
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


def test_copies_of_a_killed_process_are_removed(memory, tmp_path):
    memory.pipe("/a.csv", b"content")
    code = (
        "import os, sys, fsspec; from toxicity.data.addresses import *; from toxicity.data.copies import *; "
        "fsspec.filesystem('memory').pipe('/a.csv', b'content'); "
        "context = local_copy(list_data_files('memory://a.csv')[0]); path = context.__enter__(); "
        "print(path.parent.parent, flush=True); sys.stdin.read() if sys.argv[1] == 'lives' else os.abort()"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    options = {"cwd": ROOT, "env": environment, "text": True, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    processes = [subprocess.Popen([sys.executable, "-c", code, kind], **options) for kind in ("lives", "dies")]
    alive, left = (Path(process.stdout.readline().strip()) for process in processes)
    processes[1].wait()
    assert (alive / "0" / "a.csv").exists()
    assert (left / "0" / "a.csv").exists()
    _remove_left_folders(tmp_path)
    assert left.exists(), "it may be about to be locked"
    _remove_left_folders.cache_clear()
    for folder in (alive, left):
        os.utime(folder / ".lock", (1e9, 1e9))
    _remove_left_folders(tmp_path)
    assert (alive.exists(), left.exists()) == (True, False)
    processes[0].communicate()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_does_not_come_whole(memory, monkeypatch):
    memory.pipe("/a.csv", b"content")
    (file,) = list_data_files("memory://a.csv")
    memory.pipe("/a.csv", b"cont")
    with pytest.raises(RequestError, match="^memory:///a.csv was changed since it was listed: run this"):
        with local_copy(file):
            pass
    memory.pipe("/a.csv", b"content")
    get_file = MemoryFileSystem.get_file

    def get_less(self, path, target, **options):
        get_file(self, path, target, **options)
        os.truncate(target, 4)

    monkeypatch.setattr(MemoryFileSystem, "get_file", get_less)
    with pytest.raises(RequestError, match="it was cut off: 4 of 7 bytes came"), local_copy(file):
        pass

    def fail(*_):
        raise ConnectionError("the line\nis dead")

    monkeypatch.setattr(MemoryFileSystem, "get_file", fail)
    with pytest.raises(RequestError, match="cannot reach memory:///a.csv: ConnectionError: the line is dead"):
        with local_copy(file):
            pass


def test_a_file_that_is_not_on_a_web_server(web):
    with pytest.raises(RequestError, match=r"there is no file http://127.0.0.1:\d+/none.csv\."):
        list_data_files(f"http://{web[0]}/none.csv?token=secret")


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
    with local_copy(newer) as path:
        assert path.read_bytes() == (tmp_path / "a.csv").read_bytes()
    with pytest.raises(RequestError, match="there is no file http://127"):
        list_data_files(address.replace("a.csv", "b.csv"))


def test_files_of_a_repository_on_the_hub(hub, tmp_path, cache_dir):
    for name, rows in (("train.csv", 40), ("val.csv", 20)):
        hub.blobs[name] = write_comments(tmp_path / name, rows).read_bytes()
    repo = hub.make_repo("tester/comments")
    repo.commit("main", {name: ("regular", name) for name in ("train.csv", "val.csv")})
    fsspec.get_filesystem_class("hf").clear_instance_cache()
    splits = load_splits(
        DataArguments(train_file="hf://tester/comments/train.csv", validation_file="hf://tester/comments/v*.csv")
    )
    assert (len(splits.train), len(splits.validation), splits.source) == (40, 20, "train.csv")
    assert [shard.name for shard in list_shards(["hf://tester/comments"])] == ["train", "val"]
    with pytest.raises(
        RequestError, match="there is no file hf://tester/comments/trein.csv. The nearest there is train"
    ):
        load_splits(DataArguments(train_file="hf://tester/comments/trein.csv"))
    fsspec.get_filesystem_class("hf").clear_instance_cache()
