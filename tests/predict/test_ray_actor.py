"""An actor as the driver calls it, in this process: nothing here needs Ray."""

import dataclasses
import logging
import logging.handlers
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from builders import files_in, make_comments, write_texts

from toxicity.core.errors import RequestError
from toxicity.predict import ray_actor
from toxicity.predict.progress import Progress
from toxicity.predict.ray_actor import ScoringActor, digest_of_sources, probe_in
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


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sources": "another"}, "there is another version of this package: install the same everywhere"),
        ({"paths": ["/", "/only/here"]}, "/only/here is not there: put it in a folder that all nodes share"),
        ({"probe": Path("/only/here/driver")}, "--output is not the same folder here as on the machine of the command"),
    ],
)
def test_a_node_that_lacks_something_is_refused(tmp_path, monkeypatch, changed, message):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    monkeypatch.chdir("/")
    monkeypatch.setattr(ray_actor, "SECONDS_TO_APPEAR", 0.1)
    with probe_in(tmp_path / "out") as probe:
        here = {"folder": tmp_path, "sources": digest_of_sources(), "paths": ["/"], "probe": probe}
        with pytest.raises(RequestError) as refused:
            ScoringActor(None, None, 1, on_gpu=False).place(**here | changed)
    assert message in str(refused.value)
    assert Path.cwd() == tmp_path, "relative paths mean the same as for the driver"


def test_an_output_in_which_a_node_may_not_write_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    with probe_in(tmp_path / "out") as probe, monkeypatch.context() as context:
        context.setattr(Path, "write_text", refuse)
        with pytest.raises(RequestError, match="Permission denied. Make room there, or name another"):
            ScoringActor(None, None, 1, on_gpu=False).place(Path("/gone"), digest_of_sources(), [], probe)


@pytest.mark.parametrize("before", [(), ("out",), ("out/kept.txt",)])
def test_the_probe_leaves_nothing(tmp_path, before):
    for name in before:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("") if name.endswith(".txt") else (tmp_path / name).mkdir()
    with probe_in(tmp_path / "out") as probe:
        assert probe.is_file()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [
        Path(name).name for name in before if "." in name
    ]
    assert not (tmp_path / "out" / ".progress").exists()


def test_a_probe_in_an_object_store_leaves_nothing(s3):
    output = pytest.importorskip("upath", reason="the extra `cloud` is not installed").UPath("s3://bucket/scores")
    output.joinpath("kept.txt").write_text("")
    with probe_in(output.absolute()) as probe:
        assert probe.exists()
        s3.pipe_file(probe.with_name("of an actor").path, b"")
    s3.invalidate_cache()
    assert s3.find("bucket") == ["bucket/scores/kept.txt"]


def test_no_bucket_is_made_for_a_probe(s3):
    output = pytest.importorskip("upath", reason="the extra `cloud` is not installed").UPath("s3://mistyped/out")
    with pytest.raises(RequestError, match="bucket does not exist"), probe_in(output):
        pytest.fail("it was written")
    assert not s3.exists("mistyped")


def test_a_probe_that_cannot_be_written_is_explained(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(RequestError, match="cannot write to"), probe_in(tmp_path / "out"):
        pass
