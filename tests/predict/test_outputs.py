"""Outputs and their records: whole or not there, whoever writes them, and however often."""

import json
import pickle
import threading

import pytest

from toxicity.core.errors import RequestError
from toxicity.predict.output_folder import names_below, put
from toxicity.predict.outputs import RECORD_KEYS, Outputs, read_json
from toxicity.predict.shards import Shard

SHARD = Shard("/in/deep/a.csv", "deep/a", 10, "1")


def write(outputs, shard=SHARD, scores="scores", rows=3):
    with outputs.unfinished(shard) as path:
        path.write_text(scores)
        outputs.keep(shard, path, rows, 1)


def test_an_output_has_a_record(folder):
    outputs = pickle.loads(pickle.dumps(Outputs(folder, "csv")))
    write(outputs)
    assert sorted(names_below(folder, "csv")) == ["deep/a.csv"]
    assert outputs.of(SHARD).read_text() == "scores"
    record = read_json(outputs.record_of(SHARD), RECORD_KEYS)
    assert list(record) == list(RECORD_KEYS)
    assert list(record.values())[:7] == ["/in/deep/a.csv", 10, "1", "deep/a.csv", 3, 1, 6]
    assert sorted(names_below(folder / ".progress", "")) == ["shards/deep/a.csv.json"]


def test_nothing_is_left_of_one_that_is_not_kept(folder):
    paths = []

    def fail():
        with Outputs(folder, "csv").unfinished(SHARD) as path:
            path.write_text("sco")
            paths.append(path)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert names_below(folder, "") == []
    assert not paths[0].parent.exists()


def test_the_record_comes_first(folder, monkeypatch):
    outputs, there = Outputs(folder, "csv"), []

    def spy(file, target):
        there.append((target.name, outputs.of(SHARD).exists()))
        put(file, target)

    monkeypatch.setattr("toxicity.predict.outputs.put", spy)
    write(outputs)
    assert there == [("a.csv.json", False), ("a.csv", False)]
    # The same once more, by a worker that was thought to be dead: what is there stays there.
    write(outputs)
    assert there[2:] == [("a.csv.json", True), ("a.csv", True)]
    # Of another version nothing may be left, as its record is gone.
    for scores in ("SCORES", "other scores"):
        write(outputs, scores=scores)
        assert there[-2:] == [("a.csv.json", False), ("a.csv", False)]


def test_many_workers_write_one_output_at_the_same_time(tmp_path):
    outputs, seen = Outputs(tmp_path, "csv"), set()
    write(outputs)
    threads = [threading.Thread(target=lambda: [write(outputs) for _ in range(20)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen.add((outputs.of(SHARD).read_text(), json.loads(outputs.record_of(SHARD).read_text())["bytes"]))
    assert seen == {("scores", 6)}
    assert names_below(tmp_path / ".progress" / "unfinished", "") == []


@pytest.mark.parametrize(
    ("shard", "stays"),
    [
        (SHARD, True),
        (Shard("/in/deep/a.csv", "deep/a", 10, "2"), False),
        (Shard("/in/deep/a.csv", "deep/a", 11, "1"), False),
        (Shard("/in/deep/a.csv", "deep/a", None, None), False),
    ],
)
def test_only_scores_of_another_version_are_forgotten(folder, shard, stays):
    outputs = Outputs(folder, "csv")
    outputs.forget(shard)
    write(outputs)
    outputs.forget(shard)
    assert outputs.of(shard).exists() == outputs.record_of(shard).exists() == stays


def test_a_folder_that_takes_nothing(tmp_path):
    (tmp_path / "deep").write_text("a file in the way")
    with pytest.raises(RequestError, match="cannot write to .*: .* name another folder as --output"):
        write(Outputs(tmp_path, "csv"))


def test_a_record_that_cannot_be_read(tmp_path):
    outputs = Outputs(tmp_path, "csv")
    outputs.record_of(SHARD).mkdir(parents=True)
    with pytest.raises(RequestError, match="cannot read .*a.csv.json: Is a directory"):
        outputs.forget(SHARD)
