import errno
import json
import os

import pytest

from toxicity.core.errors import RequestError
from toxicity.predict.ledger import Ledger, difference
from toxicity.predict.output_folder import is_local, names_below, put, remove
from toxicity.predict.shards import Shard

JOB = {"model": "m", "weights_xxh3": "00", "threshold": 0.5, "output_format": "csv"}
SHARD = Shard("/in/a.csv", "a", 10, "1")


@pytest.fixture
def ledger(folder):
    return started(folder)


def started(folder):
    ledger = Ledger(folder, JOB)
    ledger.start()
    return ledger


def do(ledger, shard=SHARD, scores="scores"):
    with ledger.outputs.unfinished(shard) as path:
        path.write_text(scores)
        ledger.outputs.keep(shard, path, 3, 1)
    return ledger.outputs.of(shard)


def manifest_of(folder):
    return json.loads((folder / "manifest.json").read_text())


def is_done(ledger, shard=SHARD):
    ledger.read()
    return ledger.is_done(shard)


def test_a_shard_is_done_when_it_is_recorded_and_whole(ledger):
    output = ledger.folder / "a.csv"
    output.write_text("scores")
    assert not is_done(ledger), "killed before the record"
    do(ledger)
    assert is_done(ledger)
    assert not ledger.is_done(Shard("/in/a.csv", "a", 11, "1")), "another input"
    assert not ledger.is_done(Shard("/in/a.csv", "a", 10, "2")), "a newer input"
    output.write_text("sco")
    assert not is_done(ledger), "cut"
    output.unlink()
    assert not is_done(ledger), "removed"


def test_what_is_in_the_manifest_stays_done(ledger, folder):
    do(ledger)
    assert ledger.finish({"/in/b.csv": "broken"}) == (1, {"/in/b.csv": "broken"})
    first = manifest_of(folder)
    assert first["rows"] == 3
    assert first["failed"] == [{"input": "/in/b.csv", "reason": "broken"}]
    again = started(folder)
    assert again.is_done(SHARD)
    do(again, Shard("/in/b.csv", "deep/b", 1, "1"))
    assert again.finish({}) == (2, {})
    assert [shard["output"] for shard in manifest_of(folder)["shards"]] == ["a.csv", "deep/b.csv"]
    assert sorted(names_below(folder, "")) == ["a.csv", "deep/b.csv", "manifest.json"]
    assert not (folder / ".progress").exists()


def test_the_manifest_is_one_of_json_whatever_is_in_it(ledger, folder):
    odd = 'caf\udce9 [1] é \\ "shards": [].csv' if is_local(folder) else "é [1]*? #%.csv"
    shards = [Shard(f"/in/{odd}", odd.removesuffix(".csv"), 10, "1"), SHARD]
    for shard in shards:
        do(ledger, shard)
    assert all(is_done(ledger, shard) for shard in shards)
    failed = {f"/in/failed {odd}": "a reason"}
    assert ledger.finish(failed, shards) == (2, failed)
    text = (folder / "manifest.json").read_bytes()
    manifest = json.loads(text)
    assert {record["input"] for record in manifest["shards"]} == {shard.address for shard in shards}
    assert text == (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode(errors="backslashreplace")
    ledger = started(folder)
    assert all(ledger.is_done(shard) for shard in shards)
    remove(folder, [ledger.outputs.name_of(shard) for shard in shards])
    ledger.finish({})
    text = (folder / "manifest.json").read_text()
    assert text == json.dumps(json.loads(text), indent=1, ensure_ascii=False) + "\n"
    assert json.loads(text)["shards"] == []


def test_another_job_is_kept_out(ledger, folder):
    if is_local(folder):
        with pytest.raises(RequestError, match="another job writes to"):
            Ledger(folder, JOB).start()
    do(ledger)
    with pytest.raises(RequestError, match="with threshold 0.5 instead of 0.7"):
        Ledger(folder, JOB | {"threshold": 0.7})
    Ledger(folder, JOB | {"model": "the same by another name"})
    ledger.finish({})
    with pytest.raises(RequestError, match="with weights_xxh3 00 instead of 11"):
        Ledger(folder, JOB | {"weights_xxh3": "11"})


def test_what_killed_processes_left_takes_no_room(tmp_path):
    left = tmp_path / ".progress" / "unfinished" / "0" / "a.csv"
    left.parent.mkdir(parents=True)
    left.write_text("sco")
    started(tmp_path)
    assert not left.exists()


@pytest.fixture
def no_locks(monkeypatch):
    """A file system as NFS without its lock daemon."""

    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)


def test_without_locks_two_jobs_at_once_lose_nothing(folder, no_locks, caplog):
    caplog.set_level("INFO")
    one, other = started(folder), started(folder)
    assert ("without locks (No locks available)" in caplog.text) == is_local(folder)
    shards = [Shard(f"/in/{name}.csv", name, 10, "1") for name in "abcd"]
    for ledger, shard in ((one, shards[0]), (one, shards[1]), (other, shards[1]), (other, shards[2])):
        do(ledger, shard)
    assert one.finish({}, shards[:2]) == (3, {})
    do(other, shards[3])
    assert other.finish({}, shards[1:]) == (4, {})
    assert [record["output"] for record in manifest_of(folder)["shards"]] == ["a.csv", "b.csv", "c.csv", "d.csv"]
    assert sorted(names_below(folder, "")) == ["a.csv", "b.csv", "c.csv", "d.csv", "manifest.json"]


def test_without_locks_what_fails_in_one_of_two_jobs_stays_from_the_other(folder, no_locks):
    one, other = started(folder), started(folder)
    do(one)
    one.finish({}, [SHARD])
    assert other.finish({SHARD.address: "its worker was killed"}, [SHARD])[0] == 1
    assert is_done(started(folder))


def test_without_locks_a_job_with_other_scores_is_refused(folder, no_locks):
    ledger, other = started(folder), Ledger(folder, JOB | {"threshold": 0.7})
    with pytest.raises(RequestError, match="another job, with threshold 0.5 instead of 0.7, was started in .* remove"):
        other.start()
    # As if both had started at the same moment.
    (folder / ".progress" / "job.json").write_text(json.dumps({"schema_version": 2, "job": JOB | {"threshold": 0.7}}))
    do(ledger)
    with pytest.raises(RequestError, match="holds scores of another job, with threshold 0.7 instead of 0.5"):
        ledger.finish({}, [SHARD])


def test_what_is_put_while_a_job_ends_is_in_the_manifest_of_the_other(folder, no_locks):
    one, other = started(folder), started(folder)
    do(one)
    late = Shard("/in/b.csv", "b", 1, "1")
    # The record is there, and its output not yet.
    do(other, late).unlink()
    one.finish({}, [SHARD])
    do(other, late)
    assert other.finish({}, [late]) == (2, {})


def test_an_output_that_is_not_there_in_the_end_is_told(ledger, folder, monkeypatch):
    monkeypatch.setattr("toxicity.predict.ledger.SECONDS_UNTIL_SEEN", 0)
    do(ledger)
    lost = Shard("/in/b.csv", "b", 1, "1")
    count, failed = ledger.finish({"/in/c.csv": "broken"}, [SHARD, lost])
    assert (count, sorted(failed)) == (1, ["/in/b.csv", "/in/c.csv"])
    assert "it was removed, or the machines do not share that folder" in failed["/in/b.csv"]
    assert [record["input"] for record in manifest_of(folder)["failed"]] == sorted(failed)


def test_an_output_that_a_file_system_shows_late_is_waited_for(ledger, folder, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: do(ledger))
    assert ledger.finish({}, [SHARD]) == (1, {})


@pytest.mark.parametrize("content", ["{", "[]", "3", "{}", '{"schema_version": 1, "job": 1, "shards": []}'])
def test_a_damaged_manifest(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(RequestError, match="manifest.json is damaged, or another program's: move it away"):
        Ledger(tmp_path, JOB)


def test_a_damaged_record(ledger, folder):
    do(ledger)
    ledger.finish({})
    manifest = manifest_of(folder)
    for shards in ({}, ["a.csv"], [{"output": "a.csv"}]):
        (folder / "manifest.json").write_text(json.dumps(manifest | {"shards": shards}))
        with pytest.raises(RequestError, match="manifest.json is damaged"):
            Ledger(folder, JOB)


def test_where_nothing_was_scored_any_job_may_start(ledger, folder):
    ledger.finish({"/in/a.csv": "it has no column text"})
    other = Ledger(folder, JOB | {"threshold": 0.7})
    other.start()
    do(other).unlink()
    assert other.finish({})[0] == 0, "its scores are gone"
    Ledger(folder, JOB)


def test_what_was_not_refused_has_the_same_scores_with_bad_rows_left_out(ledger, folder):
    do(ledger)
    ledger.finish({})
    refusing, lenient = JOB | {"on_bad_rows": "refuse"}, JOB | {"on_bad_rows": "score_null"}
    for job, refused in ((refusing, "on_bad_rows None instead of refuse"), (lenient, "instead of score_null")):
        with pytest.raises(RequestError, match=refused):
            Ledger(folder, job)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"job": refusing}))
    Ledger(folder, lenient)
    (folder / "manifest.json").write_text(json.dumps(manifest | {"job": lenient}))
    with pytest.raises(RequestError, match="on_bad_rows score_null instead of refuse"):
        Ledger(folder, refusing)


def test_jobs_are_compared_by_what_either_knows_of(ledger, folder):
    do(ledger)
    ledger.finish({})
    manifest = manifest_of(folder)
    with pytest.raises(RequestError, match="with labels None instead of 1"):
        Ledger(folder, JOB | {"labels": 1})
    (folder / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 1}))
    with pytest.raises(RequestError, match="with schema_version 1 instead of 2"):
        Ledger(folder, JOB)


def test_of_versions_the_one_that_differs_is_named():
    one, other = ({"model": name, "versions": {"numpy": "1", "torch": torch}} for name, torch in ("a2", "b3"))
    assert difference(one, other) == "versions.torch 2 instead of 3"
    assert difference(one, one | {"model": "b"}) is None


def test_it_knows_its_own_files(ledger, folder):
    do(ledger, Shard("/in/b.csv", "b", 1, "1"))
    ledger.read()
    assert [ledger.wrote(name) for name in ("a.csv", "b.csv", None)] == [False, True, False]
    ledger.finish({})
    assert [Ledger(folder, JOB).wrote(name) for name in ("a.csv", "b.csv", "manifest.json")] == [False, True, True]


def test_nothing_is_left_of_an_earlier_version(ledger, folder):
    new = Shard("/in/b.csv", "b", 10, "2")
    outputs = [do(ledger), do(ledger, Shard("/in/b.csv", "b", 10, "1"))]
    ledger.finish({})
    outputs[0].write_text("sco")
    again = started(folder)
    assert again.finish({SHARD.address: "cut off", new.address: "broken"}, [SHARD, new])[0] == 0
    assert not any(output.exists() for output in outputs)


def test_an_output_that_could_not_be_put_leaves_no_record_beside_an_older_one(ledger, folder, monkeypatch):
    do(ledger)
    ledger.finish({})
    again, new = started(folder), Shard("/in/a.csv", "a", 10, "2")

    def put_records_alone(file, target):
        if target.suffix != ".json":
            raise RequestError("the disk is full")
        put(file, target)

    monkeypatch.setattr("toxicity.predict.outputs.put", put_records_alone)
    with pytest.raises(RequestError, match="the disk is full"):
        do(again, new, "other scores")
    assert again.finish({new.address: "the disk is full"}, [new])[0] == 0
    assert manifest_of(folder)["shards"] == []


def test_what_another_process_scored_of_this_version_stays(ledger):
    output = do(ledger)
    assert ledger.finish({SHARD.address: "its worker was killed"}, [SHARD])[0] == 1
    assert output.exists()


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(
        RequestError, match="cannot write to .*deep: Not a directory. .*name another folder as --output"
    ):
        Ledger(tmp_path / "file" / "deep", JOB).start()
