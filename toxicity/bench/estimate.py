"""How long a run of the published protocol would take on a machine, before it is started."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from toxicity.bench.conclusions import flops_text
from toxicity.bench.runs import PHASES, REFERENCE, published_rows
from toxicity.core.errors import RequestError
from toxicity.hardware.kinds import KINDS
from toxicity.models.flops import BERT_BASE

# Beyond what was measured: other cores, clocks and comments. Twice as much where nothing was measured on the kind.
MARGIN, UNMEASURED_MARGIN = 1.25, 2.0


@dataclass(frozen=True)
class Estimate:
    """Seconds by phase, of the padded and of the real tokens, and what they rest on.

    `padded` is None where only rates on real tokens are known. `low` and `high` bound all phases together.
    """

    padded: dict[str, float] | None
    real: dict[str, float]
    low: float
    high: float
    assumptions: list[str]


def estimate(kind: str, train_rows: int, epochs: float, runs: Sequence[Mapping[str, Any]]) -> Estimate:
    """Estimate a run from its FLOPs and the FLOP/s that earlier rows reached on the same kind of machine.

    Without such rows the published ones say which share of its peak a card reaches, padding counted as work; a card
    that they do not tell of is taken to reach that of the V100.

    Args:
        kind: one of `gpus.KINDS`.
        train_rows: comments to train on; half as many are scored.
        epochs: times the training rows are gone through.
        runs: rows of `runs.read_rows`.

    Raises:
        RequestError: if nothing tells how fast this kind is.
    """
    scored_rows, tokens = train_rows // 2, REFERENCE["assumed"]["tokens_per_row"]
    measured = [
        row
        for row in runs
        if row["machine"]["label"] == kind
        and row["throughput"].get("training_flops_per_second")
        and row["throughput"].get("inference_flops_per_second")
    ]
    # Another model reaches another share of the peak, so its runs tell only where there is nothing better.
    of_reference = [row for row in measured if row["protocol"]["model"].endswith("bert-base-uncased")]
    margin = MARGIN if of_reference or not measured else UNMEASURED_MARGIN
    measured = of_reference or measured
    efficiency, peak = REFERENCE["padded_efficiency"].get(kind), KINDS[kind].peak_flops
    if not measured and not peak:
        raise RequestError(f"no run tells how fast a {kind} is; make one first, in minutes: make bench GPU={kind}")

    tokenizer_rates, assumption = _tokenizer_rates(kind, runs)
    tokenizer = [(train_rows + scored_rows) / rate for rate in tokenizer_rates]

    def phases(tokens_per_row: float, training_rate: float, inference_rate: float) -> dict[str, float]:
        trained, scored = train_rows * epochs, scored_rows
        seconds = (
            median(tokenizer),
            BERT_BASE.training_flops(trained, trained * tokens_per_row) / training_rate,
            BERT_BASE.forward_flops(scored, scored * tokens_per_row) / inference_rate,
        )
        return dict(zip(PHASES, seconds, strict=True))

    assumptions = [
        f"a comment has {tokens} tokens on average; half as many comments are scored as trained on",
        assumption,
    ]
    padded = None
    if peak:
        assumptions.append(f"the peak of a {kind} is {flops_text(peak)} ({KINDS[kind].peak_format}, data sheet)")
        if efficiency is None and not measured:
            margin, efficiency = UNMEASURED_MARGIN, REFERENCE["padded_efficiency"]["v100"]
            assumptions.append(
                f"no run tells its efficiency: that of the published V100 is taken, {100 * efficiency:.1f} %"
            )
        elif efficiency is not None:
            assumptions.append(
                f"with padding counted as work it reaches {100 * efficiency:.1f} % of that, as published"
            )
        if efficiency is not None:
            padded = phases(REFERENCE["protocol"]["max_seq_length"], efficiency * peak, efficiency * peak)
    if not measured:
        assumptions.append("what padding costs a run lies between the two lines: nothing, or all of it")
        real = phases(tokens, efficiency * peak, efficiency * peak)
        return Estimate(padded, real, sum(real.values()) / margin, sum(padded.values()) * margin, assumptions)

    training, inference = (
        sorted(row["throughput"][f"{phase}_flops_per_second"] for row in measured)
        for phase in ("training", "inference")
    )
    real = phases(tokens, median(training), median(inference))
    models = ", ".join(sorted({row["protocol"]["model"] for row in measured}))
    assumptions.append(
        f"on real tokens it reaches {flops_text(median(training))} in training and {flops_text(median(inference))} in "
        f"scoring, measured in {len(measured)} of the runs on {models}"
    )
    fastest, slowest = phases(tokens, training[-1], inference[-1]), phases(tokens, training[0], inference[0])
    return Estimate(padded, real, sum(fastest.values()) / margin, sum(slowest.values()) * margin, assumptions)


def _tokenizer_rates(kind: str, runs: Iterable[Mapping[str, Any]]) -> tuple[list[float], str]:
    """Comments a second of the tokenizer, and where that is from: this package's own runs if there are any."""
    own = [
        row
        for row in runs
        if not row["timing"]["tokenizer_cache_hit"] and row["throughput"].get("tokenizer_rows_per_second")
    ]
    rows, source = (own, "this package's runs") if own else (published_rows(), "the published runs")
    same = [row for row in rows if row["machine"]["label"].split()[0].lower() == kind]
    rates = [row["throughput"]["tokenizer_rows_per_second"] for row in same or rows]
    whose = f"of a {kind} machine" if same else "of other machines"
    return rates, f"the tokenizer does {median(rates):,.0f} comments a second, as in {source} {whose}"
