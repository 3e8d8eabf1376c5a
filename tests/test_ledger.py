import json

import pytest

from toxicity.errors import RequestError
from toxicity.ledger import Ledger
from toxicity.shards import Shard

JOB = {"model": "m", "weights_xxh3": "00", "threshold": 0.5}
SHARD = Shard("/in/a.csv", "a", 10, "1")


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path, JOB)
    ledger.start()
    return ledger


def do(ledger, shard=SHARD):
    output = ledger.folder / f"{shard.name}.csv"
    output.parent.mkdir(exist_ok=True)
    output.write_text("scores")
    ledger.record(shard, output, 3, 1)
    return output


def test_a_shard_is_done_when_it_is_recorded_and_whole(ledger):
    output = ledger.folder / "a.csv"
    output.write_text("scores")
    assert not ledger.is_done(SHARD, output), "killed before the record"
    do(ledger)
    assert ledger.is_done(SHARD, output)
    assert not ledger.is_done(Shard("/in/a.csv", "a", 11, "1"), output), "another input"
    assert not ledger.is_done(Shard("/in/a.csv", "a", 10, "2"), output), "a newer input"
    output.write_text("sco")
    assert not ledger.is_done(SHARD, output), "cut"
    output.unlink()
    assert not ledger.is_done(SHARD, output), "removed"


def test_what_is_in_the_manifest_stays_done(ledger, tmp_path):
    output = do(ledger)
    first = ledger.finish({"/in/b.csv": "broken"})
    assert first["rows"] == 3
    assert first["failed"] == [{"input": "/in/b.csv", "reason": "broken"}]
    again = Ledger(tmp_path, JOB)
    again.start()
    assert again.is_done(SHARD, output)
    do(again, Shard("/in/b.csv", "deep/b", 1, "1"))
    manifest = again.finish({})
    assert [shard["output"] for shard in manifest["shards"]] == ["a.csv", "deep/b.csv"]
    assert manifest == json.loads((tmp_path / "manifest.json").read_text())
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_another_job_is_kept_out(ledger, tmp_path):
    with pytest.raises(RequestError, match="another job writes to"):
        Ledger(tmp_path, JOB).start()
    with pytest.raises(RequestError, match="with threshold 0.5 instead of 0.7"):
        Ledger(tmp_path, JOB | {"threshold": 0.7})
    Ledger(tmp_path, JOB | {"model": "the same by another name"})
    ledger.finish({})
    with pytest.raises(RequestError, match="with weights_xxh3 00 instead of 11"):
        Ledger(tmp_path, JOB | {"weights_xxh3": "11"})


def test_one_claims_a_shard_at_a_time(ledger, tmp_path):
    claim = ledger.claim(tmp_path / "a.csv")
    assert claim is not None
    assert ledger.claim(tmp_path / "a.csv") is None
    assert ledger.claim(tmp_path / "b.csv") is not None
    claim.release()
    assert ledger.claim(tmp_path / "a.csv") is not None


def test_a_damaged_manifest(tmp_path):
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(RequestError, match="manifest.json is damaged"):
        Ledger(tmp_path, JOB)
