import dataclasses
import os
import signal
import threading
import time

from builders import make_comments, write_texts
from file_server import file_server
from processes import PredictRun

from toxicity.predict.progress import Progress
from toxicity.predict.score_shards import _prefetched, score_shards
from toxicity.predict.shards import list_shards


def test_a_shard_that_fails_is_told_once_and_the_others_are_scored(job, tmp_path, caplog):
    write_texts(tmp_path / "bad.csv", ["", "x"])
    # Of unknown size, as files on some web servers.
    shards = [
        dataclasses.replace(shard, bytes=None)
        for shard in list_shards([str(tmp_path / "bad.csv"), str(write_texts(tmp_path / "good.csv", ["a", "b"]))])
    ]
    scorer, outputs, options = job
    failed = score_shards(shards, scorer, outputs, options, Progress(0))
    assert [(address, failure.refused) for address, failure in failed.items()] == [(shards[0].address, True)]
    assert [outputs.of(shard).exists() for shard in shards] == [False, True]
    assert [record.levelname for record in caplog.records if "Failed" in record.message] == ["ERROR"]


def test_a_shard_is_taken_when_the_one_before_it_is_read(job, tmp_path):
    shards = list_shards([str(write_texts(tmp_path / f"{name}.csv", ["a"])) for name in "abcd"])
    scorer, outputs, options = job
    there = []

    def taken():
        for shard in shards:
            there.append(sum(outputs.of(other).exists() for other in shards))
            yield shard

    assert score_shards(taken(), scorer, outputs, options, Progress(0)) == {}
    assert all(number - 2 <= outputs_before <= number for number, outputs_before in enumerate(there))


def test_a_shard_does_not_wait_for_the_next_one_to_be_finished(job, tmp_path):
    _, outputs, _ = job
    shards = list_shards([str(write_texts(tmp_path / f"{name}.csv", ["a"])) for name in "ab"])

    def taken():
        yield shards[0]
        until = time.monotonic() + 30
        while not outputs.of(shards[0]).exists():
            assert time.monotonic() < until
            time.sleep(0.01)
        yield shards[1]

    assert score_shards(taken(), *job, Progress(0)) == {}


def test_ctrl_c_does_not_wait_for_a_shard_that_is_fetched(model_dir, tmp_path):
    with file_server() as server:
        server.files["/a.csv"] = b"text\n" + b"x\n" * 1_000_000
        server.fail("bytes=", seconds=0.1)
        flags = ["--model", model_dir, "--runtime", "torch", "--output", tmp_path / "scores"]
        run = PredictRun(tmp_path, *flags, "--input", f"{server.url}/a.csv", fault=("small_parts", 10_000))
        while run.process.is_alive() and not server.count("bytes="):
            time.sleep(0.01)
        os.kill(run.process.pid, signal.SIGINT)
        assert run.ended() == 130, run.errors
        assert "Traceback" not in run.errors
        assert 0 < server.count("bytes=") < 50, "of 200"


def test_the_rest_of_a_shard_that_failed_is_not_read(job, tmp_path, monkeypatch):
    scorer, outputs, options = job
    tokenised = []
    tokenize = scorer.tokenize
    monkeypatch.setattr(scorer, "tokenize", lambda texts: tokenised.append(len(texts)) or tokenize(texts))
    monkeypatch.setattr(scorer, "probabilities", lambda tokens: 1 / 0)
    shards = list_shards([str(write_texts(tmp_path / "long.csv", [text for text, _ in make_comments(500)]))])
    progress = Progress(shards[0].bytes)
    score_shards(shards, scorer, outputs, options, progress)
    assert len(tokenised) <= 3, "of 32 windows"
    assert progress.input_bytes == shards[0].bytes


def test_the_next_window_is_made_while_one_is_in_use():
    begun = [threading.Event() for _ in range(4)]

    def windows():
        for number, event in enumerate(begun):
            event.set()
            yield number

    for number in _prefetched(windows(), is_free=lambda number: number == 1):
        ahead = number + (3 if number == 0 else 2)
        assert all(event.wait(timeout=10) for event in begun[:ahead])
        assert not any(event.is_set() for event in begun[ahead:]), "one alone: more would fill the memory"
