"""Outputs at addresses of object stores: what is refused, reached and put, and that the bytes are those of a folder."""

import errno
import os
import re
import sys
from pathlib import Path

import pytest
from builders import COMMENTS, files_in, write_texts
from object_store import CREDENTIALS

from toxicity.core.errors import RequestError
from toxicity.data import fetching
from toxicity.predict import output_folder as module
from toxicity.predict.ledger import Ledger
from toxicity.predict.output_folder import contents_of, name_within, output_folder, put, remove, scratch_folder
from toxicity.predict.shards import Shard

SECRET = CREDENTIALS["AWS_SECRET_ACCESS_KEY"]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ftp://user:never-to-be-shown@host/scores", "--output ftp://host/scores: name a folder, or an address that"),
        ("hf://datasets/a/b", "name a folder, or an address that begins with s3:// or gs://"),
        (f"s3://key:{SECRET}@bucket/scores", "credentials belong in the environment"),
        (f"s3://bucket/scores?AWSSecretKey={SECRET}", "credentials belong in the environment"),
        ("s3://", "--output s3:// names no bucket, .*: give s3://BUCKET/FOLDER"),
        ("gs:///scores", "names no bucket"),
        ("s3://bucket//scores", "--output s3://bucket//scores names no bucket, or an empty folder"),
        (
            "s3://bucket/scores.csv",
            "it is a folder, .*: --output s3://bucket/scores --output_format csv",
        ),
        ("s3://bucket/file", "--output s3://bucket/file is a file"),
        ("s3://nobucket/scores", "cannot reach s3://nobucket/scores.*The specified bucket does not exist"),
    ],
)
def test_an_address_that_cannot_be(score, s3, tmp_path, capsys, address, message):
    s3.pipe_file("bucket/file", b"x")
    assert score("--input", write_texts(tmp_path / "a.csv"), output=address) == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert SECRET not in error
    assert "Traceback" not in error


def test_a_path_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for address in ("scores", "/a/b", "c:scores", "s3:/bucket"):
        assert output_folder(address) == Path(address)
    assert output_folder("file:///a/b") == Path("/a/b")


@pytest.mark.parametrize("missing", ["upath", "s3fs"])
def test_without_the_packages(monkeypatch, missing):
    pytest.importorskip("upath", reason="the extra `cloud` is not installed")
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(RequestError, match="--output s3://bucket/scores needs .*pip install -r requirements-cloud.txt"):
        output_folder("s3://bucket/scores")


def test_no_export_goes_there(score, s3, capsys):
    assert score("--export", "onnx", output="s3://bucket/exported") == 2
    assert "an export is written to a folder of this machine" in capsys.readouterr().err


def test_a_job_leaves_the_bytes_that_a_folder_has(score, in_bucket, tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in ("a", "deep/b", "odd [1]*?#%"):
        write_texts(tmp_path / "in" / f"{name}.csv")
    write_texts(tmp_path / "in" / "bad.csv", ["", "x"])
    inputs = ["--input", tmp_path / "in", "--output_format", "csv"]
    for output in ("s3://bucket/scores/", tmp_path / "out", "s3://bucket"):
        assert score(*inputs, output=output) == 1
    local = files_in(tmp_path / "out")
    assert in_bucket("s3://bucket/scores") == local
    assert len(local) == 4
    assert {name: content for name, content in in_bucket("s3://bucket").items() if "scores/" not in name} == local


def test_what_is_done_is_not_done_again(score, s3, in_bucket, tmp_path, capsys):
    paths = [write_texts(tmp_path / f"{name}.csv", COMMENTS[:5]) for name in "abc"]
    assert score("--input", *paths, output="s3://bucket/scores") == 0
    before, times = in_bucket("s3://bucket/scores"), s3.modified("bucket/scores/a.parquet")
    s3.pipe_file("bucket/scores/b.parquet", b"cut")
    s3.rm_file("bucket/scores/c.parquet")
    assert score("--input", *paths, output="s3://bucket/scores") == 0
    assert "skipped: 1 of 3" in capsys.readouterr().err
    assert in_bucket("s3://bucket/scores") == before
    assert s3.modified("bucket/scores/a.parquet") == times
    assert score("--input", *paths, "--text_column_name", "text", output="s3://bucket/scores") == 2
    assert "s3://bucket/scores holds scores of another job, with text_column_name" in capsys.readouterr().err


def test_nothing_of_others_is_written_over_and_no_output_is_input(score, s3, tmp_path, capsys):
    path = write_texts(tmp_path / "a.csv")
    s3.pipe_file("bucket/out/a.parquet", b"a year of work")
    s3.put_file(str(path), "bucket/in/a.csv")
    for inputs, output, flags, message in (
        (path, "out", (), "s3://bucket/out/a.parquet is there, and no manifest.json says that it holds scores"),
        ("s3://bucket/in", "in/scores", (), "--output s3://bucket/in/scores is in the folder s3://bucket/in, of which"),
        ("s3://bucket/in/", "in", (), "is in the folder s3://bucket/in/, of which all files are input"),
        ("s3://bucket/in/a.csv", "in", ("--output_format", "csv"), "would be written over the input s3://bucket/in/a"),
    ):
        assert score("--input", inputs, *flags, output=f"s3://bucket/{output}") == 2
        assert message in capsys.readouterr().err
    assert s3.cat_file("bucket/out/a.parquet") == b"a year of work"
    assert score("--input", "s3://bucket/in/*.csv", output="s3://bucket/in-scores") == 0
    for name in ("a.parquet", "manifest.json"):
        assert score("--input", f"s3a://bucket/in-scores/{name}", output="s3://bucket/in-scores") == 2
    said = capsys.readouterr().err
    assert "would be written over the input s3://bucket/in-scores/a.parquet" in said
    assert "s3://bucket/in-scores/manifest.json was written by this command" in said


def test_a_name_that_is_no_text(score, s3, tmp_path, capsys):
    try:
        path = write_texts(tmp_path / os.fsdecode(b"caf\xe9.csv"))
    except OSError:
        pytest.skip("this file system has names in UTF-8 alone")
    assert score("--input", path, output="s3://bucket/scores") == 2
    assert r"caf\udce9.csv is not in UTF-8, as names in an object store are: rename it" in capsys.readouterr().err


@pytest.fixture
def flaky(s3, monkeypatch):
    """A folder in a store that refuses some puts: call it with their errors, get it and a list of what was put."""
    folder, puts = output_folder("s3://bucket/scores"), []
    monkeypatch.setattr(fetching, "WAITS", (0.0,) * 3)
    put_file = type(folder.fs).put_file

    def fail_with(*errors):
        remaining = list(errors)

        def fail(files, *arguments, **options):
            puts.append(arguments)
            if remaining:
                raise remaining.pop(0)
            return put_file(files, *arguments, **options)

        monkeypatch.setattr(folder.fs, "put_file", fail.__get__(folder.fs))
        return folder, puts

    return fail_with


def test_a_put_is_tried_again(flaky, tmp_path, caplog):
    url = f"http://key:{SECRET}@proxy/"
    # A message that is cut to its first 200 characters would show half of the address, without the @ that tells it.
    folder, puts = flaky(ConnectionError(f"{'no ' * 56}route to {url}"), OSError(5, "Internal Server Error"))
    (tmp_path / "file").write_text("scores")
    put(tmp_path / "file", folder / "a.csv")
    assert list(contents_of(folder, ["a.csv", "b.csv"])) == [b"scores", None]
    assert len(puts) == 3
    assert re.search(r"s3://bucket/scores/a.csv: ConnectionError: .* route to http://proxy/ Trying again", caplog.text)
    assert SECRET[:4] not in caplog.text


@pytest.mark.parametrize(
    ("errors", "tries"), [([PermissionError("Access Denied")], 1), ([ConnectionError("no route")] * 4, 4)]
)
def test_a_put_that_is_in_vain(flaky, tmp_path, errors, tries):
    folder, puts = flaky(*errors)
    (tmp_path / "file").write_text("scores")
    with pytest.raises(RequestError, match=f"cannot reach s3://bucket/scores/a.csv: .*{errors[0]}.*right to read and"):
        put(tmp_path / "file", folder / "a.csv")
    assert len(puts) == tries


def test_a_shard_that_cannot_be_put_fails_and_leaves_the_others(score, s3, in_bucket, flaky, tmp_path, capsys):
    flaky(PermissionError("Access Denied"))
    paths = [write_texts(tmp_path / f"{name}.csv") for name in "ab"]
    assert score("--input", *paths, output="s3://bucket/scores") == 2, "the job's own description"
    assert "cannot reach s3://bucket/scores" in capsys.readouterr().err
    assert in_bucket("s3://bucket/scores") == {}


def test_many_files_are_listed_once_and_read_at_the_same_time(s3, monkeypatch):
    folder = output_folder("s3://bucket/scores")
    names = [f"{number:04d}.csv" for number in range(250)]
    monkeypatch.setattr(module, "NAMES_AT_ONCE", 100)
    s3.pipe({f"bucket/scores/{name}": name.encode() for name in names})
    asked = []
    call = type(folder.fs)._call_s3

    async def count(files, method, *arguments, **options):
        asked.append(method)
        return await call(files, method, *arguments, **options)

    monkeypatch.setattr(type(folder.fs), "_call_s3", count)
    assert module.sizes_of(folder, names[1:]) == dict.fromkeys(names[1:], 8)
    assert module.sizes_of(folder, []) == {}
    assert asked == ["list_objects_v2"]
    assert list(contents_of(folder, [*names, "none"])) == [*(name.encode() for name in names), None]
    remove(folder, [*names, "none"])
    assert module.names_below(folder, "") == []


def test_outputs_in_google_cloud_storage(gs, monkeypatch):
    monkeypatch.setattr(fetching, "WAITS", (0.0,))
    folder, shard = output_folder("gs://bucket/scores"), Shard("/in/é a.csv", "é a", 10, "1")
    ledger = Ledger(folder, {"output_format": "csv"})
    ledger.start()
    with ledger.outputs.unfinished(shard) as path:
        path.write_text("scores")
        ledger.outputs.keep(shard, path, 3, 1)
    gs.fail("POST", times=1, status=503)
    assert ledger.finish({}, [shard]) == (1, {})
    assert sorted(gs.files) == ["/bucket/scores/manifest.json", "/bucket/scores/é a.csv"]
    assert Ledger(folder, {"output_format": "csv"}).is_done(shard)
    assert list(contents_of(folder, ["none", "é a.csv"])) == [None, b"scores"]


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("s3://bucket/scores/a.csv", "a.csv"),
        ("s3://bucket/scores/deep/a.csv", "deep/a.csv"),
        ("s3://bucket/scores", None),
        ("s3://bucket/scores2/a.csv", None),
        ("gs://bucket/scores/a.csv", None),
        ("/bucket/scores/a.csv", None),
    ],
)
def test_the_name_of_what_is_within(s3, address, name):
    assert name_within(output_folder("s3a://bucket/scores/"), address) == name


def test_the_name_of_what_is_within_a_folder_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scores" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "scores")
    for address in ("scores/deep/a.csv", "link/deep/a.csv", "scores/../scores/deep/a.csv"):
        assert name_within(Path("link"), address) == name_within(tmp_path / "scores", address) == "deep/a.csv"
    assert name_within(Path("scores"), "a.csv") is None


def test_what_is_left_in_a_scratch_folder_is_removed(folder):
    with scratch_folder(folder) as scratch:
        (scratch / "left").write_text("x")
    assert not scratch.exists()
    assert module.names_below(folder, "") == []


def test_a_disk_that_is_full(folder):
    flag = "as --output" if module.is_local(folder) else "in TMPDIR"
    with pytest.raises(RequestError, match=f"cannot write to .*No space left on device. Make room there, .* {flag}"):
        with scratch_folder(folder / "unfinished"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
