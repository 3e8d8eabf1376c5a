import json
from pathlib import Path

import pytest

from toxicity.core.errors import RequestError
from toxicity.predict.ledger import Ledger, difference
from toxicity.predict.shards import Shard

JOB = {"model": "m", "weights_xxh3": "00", "threshold": 0.5, "output_format": "csv"}
SHARD = Shard("/in/a.csv", "a", 10, "1")


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path, JOB)
    ledger.start()
    return ledger


def do(ledger, shard=SHARD):
    with ledger.outputs.unfinished(shard) as path:
        path.write_text("scores")
        ledger.outputs.keep(shard, path, 3, 1)
    return ledger.outputs.of(shard)


def test_a_shard_is_done_when_it_is_recorded_and_whole(ledger):
    output = ledger.folder / "a.csv"
    output.write_text("scores")
    assert not ledger.is_done(SHARD), "killed before the record"
    do(ledger)
    assert ledger.is_done(SHARD)
    assert not ledger.is_done(Shard("/in/a.csv", "a", 11, "1")), "another input"
    assert not ledger.is_done(Shard("/in/a.csv", "a", 10, "2")), "a newer input"
    output.write_text("sco")
    assert not ledger.is_done(SHARD), "cut"
    output.unlink()
    assert not ledger.is_done(SHARD), "removed"


def test_what_is_in_the_manifest_stays_done(ledger, tmp_path):
    do(ledger)
    first = ledger.finish({"/in/b.csv": "broken"})
    assert first["rows"] == 3
    assert first["failed"] == [{"input": "/in/b.csv", "reason": "broken"}]
    again = Ledger(tmp_path, JOB)
    again.start()
    assert again.is_done(SHARD)
    do(again, Shard("/in/b.csv", "deep/b", 1, "1"))
    manifest = again.finish({})
    assert [shard["output"] for shard in manifest["shards"]] == ["a.csv", "deep/b.csv"]
    assert manifest == json.loads((tmp_path / "manifest.json").read_text())
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_another_job_is_kept_out(ledger, tmp_path):
    with pytest.raises(RequestError, match="another job writes to"):
        Ledger(tmp_path, JOB).start()
    do(ledger)
    with pytest.raises(RequestError, match="with threshold 0.5 instead of 0.7"):
        Ledger(tmp_path, JOB | {"threshold": 0.7})
    Ledger(tmp_path, JOB | {"model": "the same by another name"})
    ledger.finish({})
    with pytest.raises(RequestError, match="with weights_xxh3 00 instead of 11"):
        Ledger(tmp_path, JOB | {"weights_xxh3": "11"})


@pytest.mark.parametrize("content", ["{", "[]", "3", "{}", '{"schema_version": 1, "job": 1, "shards": []}'])
def test_a_damaged_manifest(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(RequestError, match="manifest.json is damaged, or another program's: move it away"):
        Ledger(tmp_path, JOB)


def test_a_damaged_record(ledger, tmp_path):
    do(ledger)
    manifest = ledger.finish({})
    for shards in ({}, ["a.csv"], [{"output": "a.csv"}]):
        (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"shards": shards}))
        with pytest.raises(RequestError, match="manifest.json is damaged"):
            Ledger(tmp_path, JOB)


def test_where_nothing_was_scored_any_job_may_start(ledger, tmp_path):
    ledger.finish({"/in/a.csv": "it has no column text"})
    other = Ledger(tmp_path, JOB | {"threshold": 0.7})
    other.start()
    do(other).unlink()
    assert other.finish({})["shards"] == [], "its scores are gone"
    Ledger(tmp_path, JOB)


def test_what_was_not_refused_has_the_same_scores_with_bad_rows_left_out(ledger, tmp_path):
    do(ledger)
    ledger.finish({})
    refusing, lenient = JOB | {"on_bad_rows": "refuse"}, JOB | {"on_bad_rows": "score_null"}
    for job, refused in ((refusing, "on_bad_rows None instead of refuse"), (lenient, "instead of score_null")):
        with pytest.raises(RequestError, match=refused):
            Ledger(tmp_path, job)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"job": refusing}))
    Ledger(tmp_path, lenient)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"job": lenient}))
    with pytest.raises(RequestError, match="on_bad_rows score_null instead of refuse"):
        Ledger(tmp_path, refusing)


def test_jobs_are_compared_by_what_either_knows_of(ledger, tmp_path):
    do(ledger)
    manifest = ledger.finish({})
    with pytest.raises(RequestError, match="with labels None instead of 1"):
        Ledger(tmp_path, JOB | {"labels": 1})
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 1}))
    with pytest.raises(RequestError, match="with schema_version 1 instead of 2"):
        Ledger(tmp_path, JOB)


def test_of_versions_the_one_that_differs_is_named():
    one, other = ({"model": name, "versions": {"numpy": "1", "torch": torch}} for name, torch in ("a2", "b3"))
    assert difference(one, other) == "versions.torch 2 instead of 3"
    assert difference(one, one | {"model": "b"}) is None


def test_it_knows_its_own_files(ledger, tmp_path, monkeypatch):
    assert not ledger.wrote(tmp_path / "a.csv")
    assert not ledger.wrote(tmp_path.parent / "a.csv")
    do(ledger, Shard("/in/b.csv", "b", 1, "1"))
    assert ledger.wrote(tmp_path / "b.csv")
    ledger.finish({})
    assert [Ledger(tmp_path, JOB).wrote(tmp_path / name) for name in ("a.csv", "b.csv")] == [False, True]
    monkeypatch.chdir(tmp_path)
    assert Ledger(tmp_path, JOB).wrote(Path("b.csv"))
    assert Ledger(tmp_path, JOB).wrote(Path("manifest.json"))


def test_nothing_is_left_of_an_earlier_version(ledger, tmp_path):
    output = do(ledger)
    ledger.finish({})
    again = Ledger(tmp_path, JOB)
    again.start()
    again.outputs.forget(SHARD)
    assert not output.exists()
    assert again.finish({"/in/a.csv": "broken"})["shards"] == []


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(
        RequestError, match="cannot write to .*deep: Not a directory. .*name another folder as --output"
    ):
        Ledger(tmp_path / "file" / "deep", JOB).start()
