"""Which texts are scored together, in which order, and what is refused; with a scorer that waits to be let on."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from builders import make_comments

from toxicity.predict.scorer import Scorer
from toxicity.serve import batcher as module
from toxicity.serve.batcher import Batcher
from toxicity.serve.errors import ApiError

TEXTS = [text for text, _ in make_comments(60)]


class StoppedScorer:
    """Scores a text by its length, once it is let on; a text that begins with `bad` fails whatever it is part of.

    Attributes:
        batches: texts of each call, in order.
        error: what it fails with.
    """

    device, max_seq_length, subtypes, tokens_per_batch = torch.device("cpu"), 512, (), 8_192

    def __init__(self, streams: int = 1) -> None:
        self.streams, self.batches, self.error = streams, [], ValueError
        self.may_score, self.calls = threading.Event(), threading.Semaphore(0)

    def rows(self, texts):
        self.batches.append(list(texts))
        self.calls.release()
        assert self.may_score.wait(30)
        return SimpleNamespace(texts=texts, lengths=np.array([len(text) for text in texts]))

    def probabilities(self, rows):
        if any(text.startswith("bad") for text in rows.texts):
            raise self.error("cannot be scored")
        return rows.lengths[:, None] / 1000

    def wait_for_call(self):
        assert self.calls.acquire(timeout=30)


@pytest.fixture
def clock(monkeypatch):
    """The time of the batcher, which stands still unless it is set."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(module, "monotonic", lambda: clock.now)
    return clock


def expected(texts):
    return [[len(text) / 1000] for text in texts]


def run(scenario):
    """Run a coroutine function that is given a scorer and its batcher, and let the scorer on at the end."""

    async def with_batcher():
        scorer = StoppedScorer()
        try:
            return await asyncio.wait_for(scenario(scorer, Batcher(scorer)), 60)
        finally:
            scorer.may_score.set()

    return asyncio.run(with_batcher())


async def started(batcher, *requests):
    """Tasks of requests that arrive one after the other."""
    tasks = []
    for texts in requests:
        tasks.append(asyncio.ensure_future(batcher.score(texts)))
        await asyncio.sleep(0)
    return tasks


def test_what_arrives_while_a_batch_is_computed_is_the_next_one():
    async def scenario(scorer, batcher):
        first = await started(batcher, ["one"])
        scorer.wait_for_call()
        later = await started(batcher, ["four"], ["three", "of it"], [])
        assert batcher.waiting == 3
        scorer.may_score.set()
        found = [scores.tolist() for scores in await asyncio.gather(*first, *later)]
        assert found == [expected(texts) for texts in (["one"], ["four"], ["three", "of it"], [])]
        assert scorer.batches == [["one"], ["four", "three", "of it"]]
        assert batcher.waiting == 0

    run(scenario)


def test_a_batch_has_a_budget_of_tokens():
    long = "x" * 10_000  # counts as 512 tokens

    async def scenario(scorer, batcher):
        tasks = await started(batcher, ["first"])
        scorer.wait_for_call()
        tasks += await started(batcher, *[[long + str(number)] for number in range(5)])
        scorer.may_score.set()
        await asyncio.gather(*tasks)

    scorers = []
    run(lambda scorer, batcher: scorers.append(scorer) or scenario(scorer, batcher))
    assert [len(batch) for batch in scorers[0].batches] == [1, 2, 2, 1]


def test_a_few_texts_do_not_wait_for_a_thousand(clock):
    many = [f"many {number:04}" for number in range(1000)]

    async def scenario(scorer, batcher):
        tasks = await started(batcher, ["first"])
        scorer.wait_for_call()
        tasks += await started(batcher, many, ["small"], ["another"])
        scorer.may_score.set()
        await asyncio.gather(*tasks)
        assert scorer.batches[1][:3] == ["many 0000", "small", "another"]
        assert [text for batch in scorer.batches for text in batch if text.startswith("many")] == many

    run(scenario)


def test_a_thousand_texts_are_not_starved_by_a_stream_of_others(clock):
    async def scenario(scorer, batcher):
        tasks = await started(batcher, ["first"])
        scorer.wait_for_call()
        tasks += await started(batcher, ["x" * 400] * 20)
        clock.now += 60
        tasks += await started(batcher, *[[f"later {number}"] for number in range(20)])
        scorer.may_score.set()
        await asyncio.gather(*tasks)
        texts = [text for batch in scorer.batches for text in batch]
        assert texts.index("later 0") == 21

    run(scenario)


def test_requests_that_are_cancelled_while_they_wait_are_not_scored():
    async def scenario(scorer, batcher):
        first, cancelled, kept = await started(batcher, ["first"], ["gone", "with it"], ["kept"])
        scorer.wait_for_call()
        cancelled.cancel()
        await asyncio.sleep(0)
        scorer.may_score.set()
        assert (await kept).tolist() == expected(["kept"])
        await first
        assert cancelled.cancelled()
        assert scorer.batches == [["first"], ["kept"]]
        # The one that is scored already may be cancelled, too.
        scorer.may_score.clear()
        (running,) = await started(batcher, ["running"])
        scorer.wait_for_call()
        scorer.wait_for_call()
        running.cancel()
        scorer.may_score.set()
        assert (await batcher.score(["after it"])).tolist() == expected(["after it"])

    run(scenario)


@pytest.mark.parametrize("error", [ValueError, BaseException])  # the latter as a panic of code in Rust
def test_a_text_that_fails_fails_its_own_request_alone(error):
    async def scenario(scorer, batcher):
        scorer.error = error
        tasks = await started(batcher, ["first"])
        scorer.wait_for_call()
        tasks += await started(batcher, ["good"], ["fine", "bad one", "bad two"], ["good too"])
        scorer.may_score.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(found[2], error)
        for place, texts in {0: ["first"], 1: ["good"], 3: ["good too"]}.items():
            assert found[place].tolist() == expected(texts)
        assert (await batcher.score(["alive"])).tolist() == expected(["alive"])

    run(scenario)


def refusal(batcher, texts=("one more",)):
    with pytest.raises(ApiError) as refused:
        batcher.score_in_thread(texts)
    assert refused.value.code == 429
    return int(refused.value.headers["Retry-After"])


@pytest.mark.parametrize("texts", [1, 10])
def test_what_could_not_be_scored_in_two_seconds_is_refused_and_told_when_to_come_back(clock, texts):
    text = "x" * 4 * 98  # 100 tokens

    async def scenario(scorer, batcher):
        first = await started(batcher, ["first"])
        scorer.wait_for_call()
        requests = int(2 * module.FIRST_RATE) // (100 * texts) + 1
        waiting = await started(batcher, *[[text] * texts] * requests)
        assert refusal(batcher) == 3
        assert refusal(batcher, [text] * 10) == 3
        scorer.may_score.set()
        scores = await asyncio.gather(*first, *waiting)
        assert len(scores) == 1 + requests
        assert (await batcher.score(["one more"])).shape == (1, 1)

    run(scenario)


def test_a_large_request_keeps_nobody_out_but_others_like_it(clock):
    large = ["x" * 4 * 98] * 1000  # ten seconds

    async def scenario(scorer, batcher):
        tasks = await started(batcher, ["first"])
        scorer.wait_for_call()
        tasks += await started(batcher, large, large[:500], ["small"])
        assert batcher.waiting == 1501
        assert refusal(batcher, large) == 6
        clock.now += 1.5  # now that is due of each, too
        assert refusal(batcher) > 1
        for task in tasks:
            task.cancel()

    run(scenario)


def test_how_long_a_queue_takes_is_measured(monkeypatch):
    ticks = iter(range(1000))
    monkeypatch.setattr(module, "perf_counter", lambda: float(next(ticks)))

    async def scenario(scorer, batcher):
        scorer.may_score.set()
        for _ in range(200):
            await batcher.score(["x" * 392])
        scorer.may_score.clear()
        tasks = await started(batcher, ["first"])
        while batcher.waiting:
            await asyncio.sleep(0.001)
        tasks += await started(batcher, ["x" * 592], ["x" * 592])  # of 150 tokens, at 100 a second
        assert refusal(batcher) in (3, 4)
        scorer.may_score.set()
        await asyncio.gather(*tasks)

    run(scenario)


def test_numbers_of_batches_are_told_and_their_keeper_may_fail():
    told = []

    def on_batch(*numbers):
        told.append(numbers)
        raise OSError("the disk is full")

    scorer = StoppedScorer()
    scorer.may_score.set()
    batcher = Batcher(scorer, on_batch=on_batch)
    for texts in (["one"], ["three", "four"]):
        assert batcher.score_in_thread(texts).tolist() == expected(texts)
    assert batcher.score_in_thread(["last"]).shape == (1, 1)
    assert [numbers[:2] for numbers in told[:2]] == [(1, 3), (2, 9)]
    assert told[0][2] > 0


def test_two_streams_share_a_request():
    scorer = StoppedScorer(streams=2)
    batcher = Batcher(scorer)
    texts = [str(number) * 2000 for number in range(4)]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(batcher.score_in_thread, texts)
        scorer.wait_for_call()
        scorer.wait_for_call()
        scorer.may_score.set()
        assert waiting.result(30).tolist() == expected(texts)
    assert sorted(map(len, scorer.batches)) == [2, 2]


@pytest.fixture
def scorer(model_dir, monkeypatch):
    monkeypatch.setattr("toxicity.predict.runtimes.find_spec", lambda name: None)
    return Scorer(str(model_dir), device="cpu", mixed_precision="no")


def test_scores_are_those_of_the_scorer_whoever_asks(scorer):
    batcher, whole = Batcher(scorer), scorer.probabilities(scorer.tokenize(TEXTS))
    requests = [slice(start, start + count) for count in (1, 3, 20) for start in range(0, 60, count)]

    async def from_a_loop():
        return await asyncio.gather(*[batcher.score(TEXTS[part]) for part in requests])

    with ThreadPoolExecutor(8) as pool:
        from_threads = list(pool.map(lambda part: batcher.score_in_thread(TEXTS[part]), requests))
    for found in (asyncio.run(from_a_loop()), from_threads):
        for part, scores in zip(requests, found, strict=True):
            assert scores == pytest.approx(whole[part], abs=1e-5)
            assert scores.dtype == np.float64
