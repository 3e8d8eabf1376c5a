"""Estimates how long the published protocol takes on a kind of machine, from FLOPs and measured or published FLOP/s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from toxicity.bench.conclusions import flops_text
from toxicity.bench.runs import REFERENCE, published_rows
from toxicity.core.errors import RequestError
from toxicity.hardware.kinds import KINDS
from toxicity.models.flops import BERT_BASE

# Factor between the estimate and its bounds, for other cores, clocks and comments than those that were measured.
MARGIN = 1.25
# The same where nothing was measured on this kind of machine with this model.
UNMEASURED_MARGIN = 2.0


@dataclass(frozen=True)
class Estimate:
    """Estimated seconds, and what they assume."""

    padded: dict[str, float] | None  # by phase if padding is computed too; None if only rates on real tokens are known
    real: dict[str, float]  # by phase if only real tokens are computed
    low: float  # lower bound of all phases together
    high: float  # upper bound of all phases together
    assumptions: list[str]  # sentences for people


def estimate(kind: str, train_rows: int, epochs: float, runs: Sequence[Mapping[str, Any]]) -> Estimate:
    """Estimate a run from its FLOPs and the FLOP/s that finished runs reached on the same kind of machine.

    Without such runs, the published ones tell which share of its peak a card reaches when padding is counted as work;
    for cards that were not published it is the share of the V100.

    Args:
        kind: a key of `KINDS`.
        train_rows: comments to train on; half as many are scored.
        epochs: passes over the training rows.
        runs: rows of `read_rows`.

    Raises:
        RequestError: if nothing tells how fast this kind is.
    """
    scored_rows, tokens = train_rows // 2, REFERENCE["assumed"]["tokens_per_row"]
    rates = ("training_flops_per_second", "inference_flops_per_second")
    measured = [
        row for row in runs if row["machine"]["label"] == kind and all(row["throughput"].get(rate) for rate in rates)
    ]
    # Other models reach other shares of the peak: their runs are used only if there is none of the reference model.
    of_reference = [row for row in measured if row["protocol"]["model"].endswith("bert-base-uncased")]
    margin = MARGIN if of_reference or not measured else UNMEASURED_MARGIN
    measured = of_reference or measured
    efficiency, peak = REFERENCE["padded_efficiency"].get(kind), KINDS[kind].peak_flops
    if not measured and not peak:
        raise RequestError(f"no run tells how fast a {kind} is; make one first, in minutes: make bench GPU={kind}")

    tokenizer_rate, source = _tokenizer_rate(kind, runs)
    trained_rows = train_rows * epochs

    def seconds_by_phase(tokens_per_row: float, training_rate: float, inference_rate: float) -> dict[str, float]:
        return {
            "tokenizer": (train_rows + scored_rows) / tokenizer_rate,
            "training": BERT_BASE.training_flops(trained_rows, trained_rows * tokens_per_row) / training_rate,
            "inference": BERT_BASE.forward_flops(scored_rows, scored_rows * tokens_per_row) / inference_rate,
        }

    assumptions = [
        f"a comment has {tokens} tokens on average; half as many comments are scored as trained on",
        f"the tokenizer does {tokenizer_rate:,.0f} comments a second, as in {source}",
    ]
    padded = None
    if peak:
        assumptions.append(f"the peak of a {kind} is {flops_text(peak)} ({KINDS[kind].peak_format}, data sheet)")
        if efficiency is not None:
            assumptions.append(
                f"with padding counted as work it reaches {100 * efficiency:.1f} % of that, as published"
            )
        elif not measured:
            margin, efficiency = UNMEASURED_MARGIN, REFERENCE["padded_efficiency"]["v100"]
            assumptions.append(
                f"no run tells its efficiency: that of the published V100 is taken, {100 * efficiency:.1f} %"
            )
        if efficiency is not None:
            padded = seconds_by_phase(REFERENCE["protocol"]["max_seq_length"], efficiency * peak, efficiency * peak)
    if not measured:
        assumptions.append("what padding costs a run lies between the two lines: nothing, or all of it")
        real = seconds_by_phase(tokens, efficiency * peak, efficiency * peak)
        return Estimate(padded, real, sum(real.values()) / margin, sum(padded.values()) * margin, assumptions)

    training, inference = (sorted(row["throughput"][rate] for row in measured) for rate in rates)
    models = ", ".join(sorted({row["protocol"]["model"] for row in measured}))
    assumptions.append(
        f"on real tokens it reaches {flops_text(median(training))} in training and {flops_text(median(inference))} in "
        f"scoring, measured in {len(measured)} of the runs on {models}"
    )
    real = seconds_by_phase(tokens, median(training), median(inference))
    fastest = seconds_by_phase(tokens, training[-1], inference[-1])
    slowest = seconds_by_phase(tokens, training[0], inference[0])
    return Estimate(padded, real, sum(fastest.values()) / margin, sum(slowest.values()) * margin, assumptions)


def _tokenizer_rate(kind: str, runs: Sequence[Mapping[str, Any]]) -> tuple[float, str]:
    """Median of comments per second and its source: runs of this package before published ones, this kind first."""
    key = "tokenizer_rows_per_second"
    own = [row for row in runs if not row["timing"]["tokenizer_cache_hit"] and row["throughput"].get(key)]
    rows, source = (own, "this package's runs") if own else (published_rows(), "the published runs")
    same = [row for row in rows if row["machine"]["label"].split()[0].lower() == kind]
    rate = median(row["throughput"][key] for row in same or rows)
    return rate, f"{source} {f'of a {kind} machine' if same else 'of other machines'}"
