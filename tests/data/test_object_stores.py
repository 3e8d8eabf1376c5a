"""Shards in object stores: listed with one listing, read in parts, and what a user is told."""

import os
import random
import subprocess
import sys

import pytest
from builders import ROOT, write_comments
from file_server import file_server

from toxicity.core.arguments import DataArguments
from toxicity.core.errors import RequestError
from toxicity.data import fetching
from toxicity.data.addresses import list_data_files
from toxicity.data.copies import local_copies, local_copy
from toxicity.data.sources import load_splits
from toxicity.predict.shards import list_shards

CONTENT = random.Random(0).randbytes(100_001)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(fetching, "PART_BYTES", 10_000)


@pytest.fixture
def flaky(s3, monkeypatch):
    """A server in front of that of `s3`, which fails as it is told; `s3://` addresses lead there."""
    with file_server(upstream=os.environ["AWS_ENDPOINT_URL"]) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        type(s3).clear_instance_cache()
        yield server


def test_training_on_comments_in_a_bucket(s3, tmp_path, cache_dir):
    for number in range(3):
        content = write_comments(tmp_path / "x.csv", 40, first_id=100 * number).read_bytes()
        s3.pipe(f"bucket/data/part-{number}.csv", content)
    s3.pipe("bucket/data/_SUCCESS", b"")
    splits = load_splits(
        DataArguments(train_file="s3://bucket/data/part-[01].csv", validation_file="s3://bucket/data/part-2.csv")
    )
    assert splits.train["id"][:] == [*range(40), *range(100, 140)]
    assert len(load_splits(DataArguments(train_file="s3://bucket/data")).train) == 80
    shards = list_shards(["s3://bucket/data/"])
    assert [(shard.name, shard.address) for shard in shards] == [
        (f"part-{number}", f"s3://bucket/data/part-{number}.csv") for number in range(3)
    ]
    assert all(shard.bytes and shard.version for shard in shards)


def test_a_bucket_over_a_line_that_breaks(s3, flaky):
    s3.pipe("bucket/a.csv", CONTENT)
    (file,) = list_data_files("s3://bucket/a.csv")
    flaky.fail("bytes=10000-", times=1, after_bytes=300)
    flaky.fail("bytes=20000-", times=1, status=503)
    flaky.fail("bytes=30000-", times=1, missing=1000)
    with local_copy(file) as path:
        assert path.read_bytes() == CONTENT
    assert 13 <= flaky.count("GET /bucket/a.csv") <= 15
    for status, reason in ((403, "PermissionError"), (404, "FileNotFoundError")):
        flaky.requests.clear()
        flaky.fail("bytes=0-", status=status)
        with pytest.raises(RequestError, match=f"^cannot reach s3://bucket/a.csv: {reason}"), local_copy(file):
            pass
        assert flaky.count("bytes=0-") == 1
        flaky.faults.clear()


def test_an_object_that_changes_meanwhile(s3, flaky):
    s3.pipe("bucket/a.csv", CONTENT)
    (file,) = list_data_files("s3://bucket/a.csv")
    for other in (CONTENT[:-1] + b"?", CONTENT[:5000]):
        s3.pipe("bucket/a.csv", other)
        with pytest.raises(RequestError, match="^s3://bucket/a.csv was changed since it was listed: run this again"):
            with local_copy(file):
                pass


@pytest.mark.parametrize(("address", "most_requests"), [("s3://bucket/data", 8), ("s3://bucket/data/*.csv", 8)])
def test_a_large_folder_is_listed_once(s3, flaky, address, most_requests):
    s3.mkdirs("bucket/data")
    s3.pipe({f"bucket/data/{number:04}.csv": b"text\nx\n" for number in range(60)})
    type(s3).clear_instance_cache()
    files = list_data_files(address)
    assert [file.name for file in files] == [f"{number:04}.csv" for number in range(60)]
    assert {file.bytes for file in files} == {7}
    assert len(flaky.requests) <= most_requests, flaky.requests


def test_objects_of_google(gs):
    gs.files |= {f"/bucket/data/{number:04}.csv": b"text\nx\n" for number in range(2500)}
    gs.files["/bucket/a.csv"] = CONTENT
    files = list_data_files("gs://bucket/data")
    assert len(files) == 2500
    assert len(gs.requests) < 10
    with local_copies(files[:20]) as paths:
        assert {path.read_bytes() for path in paths} == {b"text\nx\n"}
    (file,) = list_data_files("gs://bucket/a.csv")
    gs.fail("bytes=10000-", times=1, after_bytes=300)
    gs.fail("bytes=30000-", times=1, missing=1000)
    with local_copy(file) as path:
        assert path.read_bytes() == CONTENT
    gs.files["/bucket/a.csv"] = CONTENT[:-1] + b"?"
    with pytest.raises(RequestError, match="^gs://bucket/a.csv was changed since it was listed"), local_copy(file):
        pass
    with pytest.raises(RequestError, match="there is no file gs://bucket/none.csv"):
        list_data_files("gs://bucket/none.csv")


def test_no_traceback_of_a_client(gs, capfd):
    gs.files["/bucket/a.csv"] = CONTENT
    (file,) = list_data_files("gs://bucket/a.csv")
    for status in (403, 400):
        gs.fail("bytes=0-", status=status)
        with pytest.raises(RequestError, match="^cannot reach gs://bucket/a.csv"), local_copy(file):
            pass
        assert gs.count("bytes=0-") == 1
        gs.requests.clear()
        gs.faults.clear()
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("address", ["s3://bucket/a.csv", "gs://bucket/a.csv", "zip://a.csv::s3://bucket/a.zip"])
def test_the_package_for_it_is_not_installed(monkeypatch, address):
    for protocol, package in (("s3", "s3fs"), ("s3a", "s3fs"), ("gs", "gcsfs"), ("gcs", "gcsfs")):
        monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, protocol, raising=False)
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(RequestError, match=f"^{address} needs a package .*: pip install -r requirements-cloud.txt$"):
        list_data_files(address)


@pytest.mark.parametrize(
    "address", ["s3://me:hush@bucket/a.csv", "gs://me:hush@bucket/a.csv", "zip://*::s3://:hush@bucket/a.zip"]
)
def test_a_key_in_the_address_of_a_bucket(address):
    with pytest.raises(RequestError, match="is to be named without a key: set AWS_ACCESS_KEY_ID") as refused:
        list_data_files(address)
    assert "hush" not in str(refused.value)


def test_a_bucket_without_credentials(s3, monkeypatch, tmp_path):
    s3.mkdir("open", acl="public-read")
    s3.pipe("open/a.csv", CONTENT, ACL="public-read")
    secret = os.environ["AWS_SECRET_ACCESS_KEY"]
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    type(s3).clear_instance_cache()
    with pytest.raises(
        RequestError, match="cannot reach s3://open/a.csv: .*AWS_PROFILE.*FSSPEC_S3_ANON=true"
    ) as refused:
        list_data_files("s3://open/a.csv")
    assert secret not in str(refused.value)
    code = "from toxicity.data.addresses import *; print(len(list_data_files('s3://open/a.csv')))"
    command = [sys.executable, "-c", code]
    found = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"FSSPEC_S3_ANON": "true"}, capture_output=True, text=True, check=True
    )
    assert (found.stdout, found.stderr) == ("1\n", "")
