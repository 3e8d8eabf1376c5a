import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from toxicity.core.wanted import Wanted
from toxicity.evaluation.thresholds import choose_threshold, least_flagged, precision_and_recall


def choose(logits, toxic, name, shift=0.0):
    return choose_threshold(np.asarray(logits), np.asarray(toxic), Wanted.from_name(name), shift)


def flagged_by(logits, toxic, name, shift=0.0):
    threshold, reason = choose(logits, toxic, name, shift)
    assert reason is None
    return np.asarray(logits) >= threshold


def drawn(rng, rows=2000):
    """Scores, labels, and the true probability of each row to be toxic."""
    logits = rng.normal(-2.0, 3.0, rows)
    probability = 1 / (1 + np.exp(-2 * logits))
    return logits, rng.random(rows) < probability, probability


@pytest.mark.parametrize("target", [0.8, 0.9, 0.95])
def test_a_precision_is_kept_with_the_confidence_that_is_told(target):
    rng, kept = np.random.default_rng(1), []
    for _ in range(150):
        logits, toxic, probability = drawn(rng)
        flagged = flagged_by(logits, toxic, str(target))
        kept.append(probability[flagged].mean() >= target)
    # Of a binomial with 0.9 so few are as good as never below this.
    assert sum(kept) >= binom.ppf(0.001, 150, 0.9)


@pytest.mark.parametrize(("name", "target"), [("recall=0.9", 0.9), ("flagged=0.1", 0.1)])
def test_recalls_and_shares_are_kept_too(name, target):
    rng, kept = np.random.default_rng(1), []
    others, toxic_of_others, _ = drawn(rng, 200_000)
    for _ in range(150):
        logits, toxic, _ = drawn(rng)
        found = precision_and_recall(others, toxic_of_others, choose(logits, toxic, name).threshold)
        kept.append(found["recall"] >= target if name[0] == "r" else found["flagged"] <= target)
    assert binom.ppf(0.001, 150, 0.9) <= sum(kept) < 150, "and no more than that is lost"


def test_a_precision_holds_at_another_share_of_toxic_comments():
    rng, shift = np.random.default_rng(2), np.log(0.05 / 0.95) - np.log(0.3 / 0.7)
    logits, toxic, _ = drawn(rng, 20_000)
    flagged = flagged_by(logits, toxic, "0.9", shift)
    odds = flagged[toxic].mean() / flagged[~toxic].mean() * np.exp(shift) * toxic.mean() / (1 - toxic.mean())
    assert 0.9 < odds / (1 + odds) < 1
    assert flagged.sum() < flagged_by(logits, toxic, "0.9").sum()
    few = flagged_by(logits, toxic, "flagged=0.05", shift)
    prior = 1 / (1 + (1 - toxic.mean()) / toxic.mean() * np.exp(-shift))
    assert prior * few[toxic].mean() + (1 - prior) * few[~toxic].mean() <= 0.05


@pytest.mark.parametrize("target", [0.5, 0.8])
def test_a_precision_at_another_share_is_kept_with_the_confidence_that_is_told(target):
    rng, prior, kept = np.random.default_rng(6), 0.1, []
    others, toxic_of_others, _ = drawn(rng, 200_000)
    for _ in range(150):
        logits, toxic, _ = drawn(rng)
        shift = np.log(prior / (1 - prior)) - np.log(toxic.mean() / (1 - toxic.mean()))
        flagged = others >= choose(logits, toxic, str(target), shift).threshold
        odds = prior * flagged[toxic_of_others].mean() / ((1 - prior) * flagged[~toxic_of_others].mean())
        kept.append(odds / (1 + odds) >= target)
    assert sum(kept) >= binom.ppf(0.001, 150, 0.9)


def test_a_first_comment_that_is_wrong_is_not_the_end():
    logits = -np.arange(1000.0)
    toxic = (np.arange(1000) < 300) & (np.arange(1000) > 0)
    flagged = flagged_by(logits, toxic, "0.9")
    assert flagged.sum() > 280
    assert binomtest(int(toxic[flagged].sum()), int(flagged.sum()), 0.9, "greater").pvalue <= 0.1


@pytest.mark.parametrize(("target", "least"), [(0.5, 5), (0.8, 13), (0.9, 27), (0.95, 55)])
def test_the_fewest_that_will_do(target, least):
    assert least_flagged(target) == least
    for toxic in (least - 1, least):
        rows = np.arange(200.0)
        assert (choose(rows, rows >= 200 - toxic, str(target)).threshold is not None) == (toxic == least)


@pytest.mark.parametrize("target", [0.3, 0.5, 0.7])
def test_many_comments_that_are_wrong_at_the_top_are_not_the_end_either(target):
    rng = np.random.default_rng(0)
    toxic = np.r_[np.zeros(30, bool), rng.random(1000) < 0.85, rng.random(3000) < 0.02]
    flagged = flagged_by(-np.arange(len(toxic)), toxic, str(target))
    assert flagged.sum() > 900
    assert binomtest(int(toxic[flagged].sum()), int(flagged.sum()), target, "greater").pvalue <= 0.1


@pytest.mark.parametrize(("slope", "base"), [(0.4, -1.0), (0.8, -1.0), (1.5, -3.0)])
@pytest.mark.parametrize("target", [0.3, 0.5])
def test_scores_that_tell_little_have_thresholds_that_keep_what_they_promise(slope, base, target):
    rng, kept = np.random.default_rng(3), []
    for _ in range(150):
        logits = rng.normal(size=3000)
        probability = 1 / (1 + np.exp(-base - slope * logits))
        threshold, _ = choose(logits, rng.random(3000) < probability, str(target))
        kept.append(threshold is None or probability[logits >= threshold].mean() >= target)
    assert sum(kept) >= binom.ppf(0.001, 150, 0.9)


@pytest.mark.parametrize("target", [0.2, 0.5, 0.9])
def test_a_precision_that_no_threshold_has_is_seldom_certified(target):
    rng = np.random.default_rng(4)
    certified = [
        choose(np.arange(2000.0), rng.random(2000) < target - 0.001, str(target)).threshold is not None
        for _ in range(300)
    ]
    assert sum(certified) <= binom.ppf(0.999, 300, 0.1)


def test_one_toxic_comment_is_no_evidence_of_a_small_precision():
    # That the highest of a hundred is toxic may be all that there is: one in a hundred, or one in a million.
    assert choose(np.arange(100.0), np.arange(100) == 99, "0.01").threshold is None


@pytest.mark.parametrize(
    ("rows", "target", "told"),
    [
        (20, "0.9", "not enough comments: about"),
        (40, "0.95", "not enough comments: about"),
        (20, "recall=0.95", "not enough comments: about 90 like these would do, and there are 20"),
        (20, "flagged=0.02", "not enough comments: with 20, no threshold can be sure to flag so few"),
    ],
)
def test_too_few_comments_are_told_with_how_many_would_do(rows, target, told):
    logits = np.arange(float(rows))
    assert told in choose(logits, logits >= rows / 2, target).reason


@pytest.mark.parametrize("target", ["0.9", "0.95"])
def test_as_many_as_are_said_to_do_would_do(target):
    logits, toxic, _ = drawn(np.random.default_rng(0), 100)
    reason = choose(logits, toxic, target).reason
    needed = int(reason.split("about ")[1].split()[0].replace(",", ""))
    times = -(-needed // 100)
    more = np.repeat(logits, times) + np.tile(np.arange(times), 100) * 1e-9
    assert choose(more, np.repeat(toxic, times), target).threshold is not None


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_a_precision_next_to_nothing_is_no_fault(shift):
    toxic = np.arange(100) % 2 > 0
    assert choose(np.arange(100.0), toxic, "1e-320", shift=shift).threshold is None


def test_a_share_next_to_nothing_has_no_threshold_and_is_no_fault():
    logits, toxic, _ = drawn(np.random.default_rng(0))
    for name in ("0.5", "0.95"):
        assert "no threshold has this precision" in choose(logits, toxic, name, shift=-100.0).reason
    assert choose(logits, toxic, "flagged=0.02", shift=-100.0).threshold is not None


def test_scores_that_tell_nothing_have_no_threshold():
    rng = np.random.default_rng(0)
    assert "no threshold has this precision" in choose(np.zeros(500), rng.random(500) < 0.3, "0.9").reason


def test_rows_that_tie_are_flagged_together():
    logits, toxic = np.repeat([1.0, 0.0], [100, 300]), np.arange(400) < 97
    assert choose(logits, toxic, "0.9").threshold == 0.5
    assert choose(logits, toxic, "0.98").threshold is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_between_neighbouring_floats(dtype):
    low = dtype(1.0)
    high = np.nextafter(low, dtype(2.0))
    for below, above in ((low, high), (high, np.nextafter(high, dtype(2.0)))):
        logits, toxic = np.repeat(np.array([above, below]), [60, 140]), np.arange(200) < 60
        expected = {"precision": 1.0, "recall": 1.0, "flagged": 0.3}
        assert precision_and_recall(logits, toxic, choose(logits, toxic, "0.9").threshold) == expected


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=20, max_size=200),
    st.sampled_from(["0.5", "0.9", "recall=0.5", "flagged=0.3"]),
)
def test_what_is_chosen_passes_the_test_by_itself(rows, name):
    logits, toxic = map(np.array, zip(*rows, strict=True))
    if toxic.all() or not toxic.any():
        return
    threshold, reason = choose(logits, toxic, name)
    assert (threshold is None) == (reason is not None)
    if threshold is None:
        return
    wanted, flagged = Wanted.from_name(name), logits >= threshold
    number, of, side = {
        "precision": (toxic[flagged].sum(), flagged.sum(), "greater"),
        "recall": (flagged[toxic].sum(), toxic.sum(), "greater"),
        "flagged": (flagged.sum(), len(logits), "less"),
    }[wanted.kind]
    assert binomtest(int(number), int(of), wanted.value, side).pvalue <= 0.1 + 1e-12


def test_precision_and_recall_worked_by_hand():
    logits, toxic = np.array([3.0, 2.0, 1.0, 0.0, -1.0]), np.array([True, False, True, True, False])
    assert precision_and_recall(logits, toxic, 1.0) == {"precision": 2 / 3, "recall": 2 / 3, "flagged": 3 / 5}
    assert precision_and_recall(logits, toxic, 3.5) == {"precision": None, "recall": 0.0, "flagged": 0.0}
