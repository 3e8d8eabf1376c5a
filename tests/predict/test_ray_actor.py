"""An actor as the driver calls it, in this process: nothing here needs Ray."""

import dataclasses
import logging
import threading
import time

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
    log = logging.getLogger("toxicity")
    before = log.handlers, log.propagate, log.level
    actor._log.attach()
    yield actor, outputs
    log.handlers, log.propagate, log.level = before


@pytest.fixture
def shards(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(4):
        write_texts(tmp_path / "in" / f"{number}.csv", [text for text, _ in make_comments(40, seed=number)])
    return list_shards([str(tmp_path / "in")])


def until_finished(actor, outputs, count, reports=()):
    reports = list(reports)
    until = time.monotonic() + 60
    while sum(len(report.finished) for report in reports) < count:
        assert time.monotonic() < until
        reports.append(actor.exchange([], outputs, more=False))
    return reports


def test_it_scores_what_it_is_given_to_the_bytes_of_a_process(actor, job, shards, tmp_path):
    actor, outputs = actor
    reports = [actor.exchange(shards[:1], outputs, more=True), actor.exchange(shards[1:3], outputs, more=True)]
    reports = until_finished(actor, outputs, 3, reports)
    # Another round, when it had come to an end.
    reports = until_finished(actor, outputs, 4, [*reports, actor.exchange(shards[3:], outputs, more=True)])
    assert [found for report in reports for found in report.finished] == [(shard.address, None) for shard in shards]
    assert sum(report.rows for report in reports) == 160
    assert sum(report.input_bytes for report in reports) == pytest.approx(sum(shard.bytes for shard in shards))
    assert (reports[-1].open_rows, reports[-1].open_bytes, reports[-1].wants_more) == (0, 0, True)

    scorer, _, options = job
    alone = dataclasses.replace(outputs, folder=tmp_path / "alone")
    assert score_shards(shards, scorer, alone, options, Progress(0)) == {}
    made, wanted = files_in(outputs.folder), files_in(alone.folder)
    assert {name: made[name] for name in wanted} == wanted


def test_while_it_reads_it_reports_every_second_and_gets_no_more(actor, shards, monkeypatch):
    actor, outputs = actor
    monkeypatch.setattr(ray_actor, "SECONDS_BETWEEN_REPORTS", 0.05)
    go_on = threading.Event()
    tokenize = actor._worker.scorer.tokenize
    calls = []

    def slow(texts):
        calls.append(len(texts))
        if len(calls) == 3:
            go_on.wait(60)
        return tokenize(texts)

    monkeypatch.setattr(actor._worker.scorer, "tokenize", slow)
    report = actor.exchange(shards[:1], outputs, more=True)
    until = time.monotonic() + 60
    rows = report.rows
    while rows < 32:
        assert time.monotonic() < until
        report = actor.exchange([], outputs, more=True)
        rows += report.rows
    assert (report.finished, report.open_rows, report.wants_more) == ([], 32, False)
    go_on.set()
    until_finished(actor, outputs, 1)


def test_a_shard_that_fails_is_reported_with_its_reason_and_what_was_logged(actor, shards, tmp_path):
    actor, outputs = actor
    [bad] = list_shards([str(write_texts(tmp_path / "bad.csv", ["", "x"]))])
    reports = until_finished(actor, outputs, 2, [actor.exchange([bad, shards[0]], outputs, more=True)])
    (address, failure), other = [found for report in reports for found in report.finished]
    assert (address, failure.refused, other) == (bad.address, True, (shards[0].address, None))
    assert "the text is missing" in failure.reason
    lines = [line for report in reports for line in report.told]
    assert [(level, "the text is missing" in line) for level, line in lines] == [(logging.ERROR, True)]


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: path.write_text("id,text\n1,other\n")])
def test_an_input_that_is_another_on_its_node_is_refused(actor, shards, change, tmp_path):
    actor, outputs = actor
    change(tmp_path / "in" / "0.csv")
    reports = until_finished(actor, outputs, 2, [actor.exchange(shards[:2], outputs, more=True)])
    finished = dict(found for report in reports for found in report.finished)
    assert finished.pop(shards[1].address) is None
    [failure] = finished.values()
    assert "is not the same file on node" in failure.reason
    assert failure.refused


def test_what_breaks_its_thread_is_told_to_the_driver(actor, shards, monkeypatch):
    actor, outputs = actor
    monkeypatch.setattr(actor, "_following", lambda outputs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        actor.exchange(shards, outputs, more=True)


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
