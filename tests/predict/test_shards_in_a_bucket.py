"""Inputs in an object store are scored as those on the disk, and nobody is told the keys to it."""

import os

import pytest
from builders import make_comments, write_texts
from file_server import file_server

from toxicity.data import fetching


@pytest.fixture
def secrets(monkeypatch):
    """What must not be told: the keys of the bucket, however they are given."""
    monkeypatch.setattr(fetching, "WAITS", (0.0,) * 3)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    return lambda: (os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])


def test_scores_are_those_of_local_files(s3, secrets, score, tmp_path, capfd, monkeypatch):
    (tmp_path / "in").mkdir()
    for number in range(3):
        texts = [text for text, _ in make_comments(40 + number)]
        write_texts(tmp_path / "in" / f"{number}.csv", texts)
    s3.put(str(tmp_path / "in"), "bucket/", recursive=True)
    assert score("--input", tmp_path / "in", output=tmp_path / "local") == 0
    with file_server(upstream=os.environ["AWS_ENDPOINT_URL"]) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        type(s3).clear_instance_cache()
        server.fail("GET /bucket/in/1.csv", times=1, after_bytes=100)
        server.fail("GET /bucket/in/2.csv", status=403)
        assert score("--input", "s3://bucket/in") == 1
        assert sorted(path.name for path in (tmp_path / "out").glob("?.*")) == ["0.parquet", "1.parquet"]
        server.faults.clear()
        server.requests.clear()
        assert score("--input", "s3://bucket/in") == 0
        assert server.count("GET /bucket/in/[01].csv") == 0, "they were done before"
    for number in range(3):
        name = f"{number}.parquet"
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()
    told = "".join(capfd.readouterr()) + (tmp_path / "out" / "manifest.json").read_text()
    assert "cannot reach s3://bucket/in/2.csv: PermissionError" in told
    assert not [secret for secret in secrets() if secret in told]
    assert "Traceback" not in told
