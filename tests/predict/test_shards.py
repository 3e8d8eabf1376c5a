import functools
import os
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from toxicity.core.errors import RequestError
from toxicity.predict.shards import list_shards, local_copy


@pytest.fixture
def memory():
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()


def names(*addresses):
    return [shard.name for shard in list_shards(list(map(str, addresses)))]


def test_files_are_named_after_what_they_are(tmp_path):
    for name in ("b.csv", "a.csv.gz", "c.csv.zip", "d.jsonl", "e.PARQUET", "x.y.csv"):
        (tmp_path / name).write_text("x")
    assert names(tmp_path) == ["a", "b", "c", "d", "e", "x.y"]
    assert names(tmp_path / "d.jsonl", tmp_path / "a.csv.gz") == ["d", "a"], "in the order asked for"


def test_a_pattern_keeps_the_folders_that_it_opens(memory):
    for name in ("/data/2024/01/a.csv", "/data/2024/02/a.csv", "/data/2024/02/_SUCCESS"):
        memory.pipe(name, b"x")
    assert names("memory://data/2024/*/a.csv") == ["01/a", "02/a"]
    assert names("memory://data") == ["2024/01/a", "2024/02/a"]


def test_what_describes_a_dataset_is_no_data(memory):
    for name in ("/data/a.json", "/data/dataset_infos.json", "/data/deep/dataset_info.json", "/data/config.json"):
        memory.pipe(name, b"x")
    assert names("memory://data") == ["a"]
    assert names("memory://data/config.json") == ["config"], "asked for by its name"


def test_outputs_are_no_input_the_next_time(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("x")
    for output in (tmp_path / "in", tmp_path / "in" / "deep" / "out"):
        with pytest.raises(RequestError, match=f"--output {output} is in the folder .*in, .*: name one outside"):
            list_shards([str(tmp_path / "in")], output)
        assert list_shards([str(tmp_path / "in" / "a.csv")], output)
    assert list_shards([str(tmp_path / "in")], tmp_path / "in2")


def test_a_new_content_is_a_new_version(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("one")
    (before,) = list_shards([str(path)])
    assert list_shards([str(path)]) == [before]
    path.write_text("two")
    assert list_shards([str(path)]) != [before]


@pytest.mark.parametrize(
    ("addresses", "message"),
    [
        (["a/x.csv", "b/x.csv"], "would be written to one output, x: score them into two folders"),
        (["a/x.csv", "a/x.csv"], "names .*x.csv twice"),
        (["a/x.csv", "a"], "twice"),
        (["c/*.csv"], "holds no data"),
        (["empty"], "holds no data: no file ends in .csv"),
        (["none.csv"], "there is no file"),
        (["a/x.doc"], "should end in one of .csv"),
        (["zz9://bucket/x.csv"], "cannot reach zz9://bucket/x.csv: ValueError"),
    ],
)
def test_what_cannot_be_listed(tmp_path, monkeypatch, addresses, message):
    monkeypatch.chdir(tmp_path)
    for name in ("a/x.csv", "b/x.csv", "a/x.doc", "empty/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    with pytest.raises(RequestError, match=message):
        list_shards(addresses)


def test_a_shard_is_here_for_a_while(memory, tmp_path):
    memory.pipe("/a.csv", b"content")
    (shard,) = list_shards(["memory://a.csv"])
    with local_copy(shard) as path:
        assert (path.name, path.read_bytes()) == ("a.csv", b"content")
    assert not path.exists()

    (tmp_path / "b.csv").write_text("x")
    (local,) = list_shards([str(tmp_path / "b.csv")])
    with local_copy(local) as path:
        assert path == tmp_path / "b.csv"


def test_a_shard_that_does_not_come_whole(memory, monkeypatch):
    memory.pipe("/a.csv", b"content")
    (shard,) = list_shards(["memory://a.csv"])
    memory.pipe("/a.csv", b"cont")
    with pytest.raises(RequestError, match="was cut off: 4 of 7 bytes came"), local_copy(shard):
        pass

    def fail(*_):
        raise ConnectionError("the line\nis dead")

    monkeypatch.setattr(MemoryFileSystem, "get_file", fail)
    with pytest.raises(RequestError, match="cannot reach memory:///a.csv: ConnectionError: the line is dead"):
        with local_copy(shard):
            pass


def test_a_file_on_a_web_server(tmp_path):
    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    (tmp_path / "a.csv").write_text('text\n<a href="elsewhere">spam</a>\n')
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/a.csv"
        (shard,) = list_shards([address])
        assert (shard.address, shard.name, shard.bytes) == (address, "a", (tmp_path / "a.csv").stat().st_size)
        # Such a server reports only the time of the last change, in whole seconds.
        os.utime(tmp_path / "a.csv", (1e9, 1e9))
        fsspec.filesystem("http").clear_instance_cache()
        (newer,) = list_shards([address])
        assert newer.version not in (None, shard.version)
        with local_copy(shard) as path:
            assert path.read_bytes() == (tmp_path / "a.csv").read_bytes()
        with pytest.raises(RequestError, match="there is no file http://127"):
            list_shards([address.replace("a.csv", "b.csv")])
        server.shutdown()
