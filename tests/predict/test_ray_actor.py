"""An actor as the driver calls it, in this process: nothing here needs Ray."""

import dataclasses
import logging
import logging.handlers
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from builders import files_in, make_comments, write_texts

from toxicity.predict import ray_actor
from toxicity.predict.progress import Progress
from toxicity.predict.ray_actor import ScoringActor, digest_of_sources
from toxicity.predict.score_shards import score_shards
from toxicity.predict.shards import list_shards
from toxicity.predict.worker import Worker


@pytest.fixture
def actor(job):
    """An actor that has its model, and where it writes to."""
    scorer, outputs, options = job
    actor = ScoringActor(None, None, 1, on_gpu=False)
    actor._worker = Worker(scorer, options, {})
    return actor, outputs


@pytest.fixture
def shards(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(4):
        write_texts(tmp_path / "in" / f"{number}.csv", [text for text, _ in make_comments(40, seed=number)])
    return list_shards([str(tmp_path / "in")])


def test_two_calls_at_a_time_leave_the_bytes_of_a_process(actor, job, shards, tmp_path):
    actor, outputs = actor
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(actor.score, shards[:1], outputs), pool.submit(actor.score, shards[1:], outputs)]
    sizes = [shard.bytes for shard in shards]
    assert [call.result()[:2] for call in calls] == [({}, 40), ({}, 120)]
    assert [call.result()[2] for call in calls] == pytest.approx([sizes[0], sum(sizes[1:])])
    assert actor.report() == (160, pytest.approx(sum(sizes)), [])

    scorer, _, options = job
    alone = dataclasses.replace(outputs, folder=tmp_path / "alone")
    assert score_shards(shards, scorer, alone, options, Progress(0)) == {}
    made, wanted = files_in(outputs.folder), files_in(alone.folder)
    assert {name: made[name] for name in wanted} == wanted


def test_one_call_reads_and_tells_its_progress_while_another_computes(actor, shards, monkeypatch):
    actor, outputs = actor
    scorer = actor._worker.scorer
    computing, read, computed = threading.Event(), threading.Event(), []
    tokenize, probabilities = scorer.tokenize, scorer.probabilities

    def slow(tokens):
        computed.append(threading.get_ident())
        if not computing.is_set():
            computing.set()
            assert read.wait(60), "nothing was read while this computed"
            assert computed == [threading.get_ident()], "nothing else computed"
        return probabilities(tokens)

    def noted(texts):
        if computing.is_set() and len(computed) == 1:
            read.set()
        return tokenize(texts)

    monkeypatch.setattr(scorer, "probabilities", slow)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(actor.score, shards[:1], outputs)
        assert computing.wait(60)
        assert actor.report()[0] == 0
        monkeypatch.setattr(scorer, "tokenize", noted)
        second = pool.submit(actor.score, shards[1:2], outputs)
        assert first.result(60)[1] == second.result(60)[1] == 40
    assert actor.report()[0] == 80


def test_rows_of_an_unfinished_shard_are_told(actor, shards, monkeypatch):
    actor, outputs = actor
    told, tokenize = [], actor._worker.scorer.tokenize

    def noted(texts):
        told.append(actor.report()[0])
        return tokenize(texts)

    monkeypatch.setattr(actor._worker.scorer, "tokenize", noted)
    assert actor.score(shards[:1], outputs)[1] == 40
    assert 0 < told[-1] < 40


def test_a_shard_that_fails_is_reported_with_its_reason(actor, shards, tmp_path):
    actor, outputs = actor
    [bad] = list_shards([str(write_texts(tmp_path / "bad.csv", ["", "x"]))])
    failed, rows, input_bytes = actor.score([bad, shards[0]], outputs)
    assert (rows, input_bytes) == (40, pytest.approx(bad.bytes + shards[0].bytes))
    [(address, failure)] = failed.items()
    assert (address, failure.refused) == (bad.address, True)
    assert "the text is missing" in failure.reason


def test_what_it_logs_is_told_once(actor):
    actor, _ = actor
    log = logging.getLogger("of_an_actor")
    log.propagate = False
    log.addHandler(logging.handlers.QueueHandler(actor._logged))
    log.warning("%s comes again", "it")
    assert [(record.levelno, record.getMessage()) for record in actor.report()[2]] == [(30, "it comes again")]
    assert actor.report()[2] == []


def test_the_digest_of_the_sources_changes_with_them(tmp_path, monkeypatch):
    package = tmp_path / "toxicity"
    package.mkdir()
    monkeypatch.setattr(ray_actor, "PACKAGE", package)
    digests = [digest_of_sources()]
    (package / "a.py").write_text("1")
    digests.append(digest_of_sources())
    (package / "a.py").rename(package / "b.py")
    digests.append(digest_of_sources())
    (package / "b.pyc").write_text("compiled")
    assert digest_of_sources() == digests[-1]
    assert len(set(digests)) == 3
