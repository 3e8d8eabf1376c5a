import zipfile

import fsspec
import pytest

from toxicity.core.errors import RequestError
from toxicity.predict.shards import list_shards


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


def test_one_folder_by_two_names_is_one_folder(memory):
    memory.pipe({"/in/b//x.csv": b"x", "/in/b/y.csv": b"x"})
    assert [shard.name for shard in list_shards(["memory://in"])] == ["b/x", "b/y"]
    memory.pipe("/in/b/x.csv", b"x")
    with pytest.raises(RequestError, match="would be written to one output, b/x"):
        list_shards(["memory://in"])


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
        (["zip://::odd.zip"], r"^zip://../../x.csv::.*odd.zip has .. in its name, and its output would not be in"),
        (["zz9://bucket/x.csv"], "cannot reach zz9://bucket/x.csv: ValueError"),
    ],
)
def test_what_cannot_be_listed(tmp_path, monkeypatch, addresses, message):
    monkeypatch.chdir(tmp_path)
    for name in ("a/x.csv", "b/x.csv", "a/x.doc", "empty/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    with zipfile.ZipFile("odd.zip", "w") as archive:
        archive.writestr("../../x.csv", "x")
    with pytest.raises(RequestError, match=message):
        list_shards(addresses)
