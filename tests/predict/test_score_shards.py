import dataclasses
import threading

from builders import make_comments, write_texts

from toxicity.predict.progress import Progress
from toxicity.predict.score_shards import _prefetched, score_shards
from toxicity.predict.shards import list_shards


def test_a_shard_is_tried_once_in_a_job_whatever_became_of_it(job, tmp_path, caplog):
    write_texts(tmp_path / "bad.csv", ["", "x"])
    # Of unknown size, as files on some web servers.
    shards = [
        dataclasses.replace(shard, bytes=None)
        for shard in list_shards([str(tmp_path / "bad.csv"), str(write_texts(tmp_path / "good.csv", ["a", "b"]))])
    ]
    first = score_shards(shards, *job, Progress(0))
    assert [outcome is None for outcome in first.values()] == [False, True]
    assert score_shards(shards, *job, Progress(0)) == {}, "another process of the job finds nothing to do"
    assert [record.levelname for record in caplog.records if "Failed" in record.message] == ["ERROR"]


def test_the_rest_of_a_shard_that_failed_is_not_read(job, tmp_path, monkeypatch):
    scorer, ledger, options = job
    tokenised = []
    tokenize = scorer.tokenize
    monkeypatch.setattr(scorer, "tokenize", lambda texts: tokenised.append(len(texts)) or tokenize(texts))
    monkeypatch.setattr(scorer, "probabilities", lambda tokens: 1 / 0)
    shards = list_shards([str(write_texts(tmp_path / "long.csv", [text for text, _ in make_comments(500)]))])
    progress = Progress(shards[0].bytes)
    score_shards(shards, scorer, ledger, options, progress)
    assert len(tokenised) <= 3, "of 32 windows"
    assert progress.input_bytes == shards[0].bytes


def test_the_next_window_is_made_while_one_is_in_use():
    begun = [threading.Event() for _ in range(3)]

    def windows():
        for number, event in enumerate(begun):
            event.set()
            yield number

    for number in _prefetched(windows()):
        assert all(event.wait(timeout=10) for event in begun[: number + 2])
        assert not any(event.is_set() for event in begun[number + 2 :]), "one alone: more would fill the memory"
