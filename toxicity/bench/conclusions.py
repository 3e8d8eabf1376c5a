"""Sentences about a table of runs: how machines differ, what more epochs bring, how fast each machine is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import sqrt

from toxicity.bench.results import Result, counted
from toxicity.bench.runs import PHASES, REFERENCE

# As many as the published AUCs have.
AUC_DECIMALS = 5


def conclude(results: Sequence[Result]) -> list[str]:
    """Draw conclusions from the results of one protocol.

    Returns:
        Sentences: one or two for each pair of machines with the same number of epochs, one for each pair of epochs on
        the same machine, and one for each result.
    """
    sentences = []
    for pair in combinations(results, 2):
        if pair[0].epochs == pair[1].epochs:
            fast, slow = sorted(pair, key=lambda result: result.seconds["training"])
            sentences += _compare_machines(fast, slow)
    for pair in combinations(results, 2):
        if pair[0].label == pair[1].label:
            few, many = sorted(pair, key=lambda result: result.epochs)
            sentences.append(_compare_epochs(few, many))
    return sentences + [_describe(result) for result in results]


def percent_change(value: float, base: float) -> float:
    """Change from `base` to `value` in per cent."""
    return 100.0 * (value / base - 1.0)


def agreeing_decimals(a: float, b: float) -> int:
    """Number of decimals, at most `AUC_DECIMALS`, up to which two numbers agree at every rounding."""
    decimals = 0
    while decimals < AUC_DECIMALS and f"{a:.{decimals + 1}f}" == f"{b:.{decimals + 1}f}":
        decimals += 1
    return decimals


def flops_text(flops_per_second: float) -> str:
    """Format with three digits and a unit, such as `6.73 TFLOP/s`."""
    size, unit = (1e12, "T") if flops_per_second >= 1e12 else (1e9, "G")
    return f"{flops_per_second / size:.3g} {unit}FLOP/s"


def _compare_machines(fast: Result, slow: Result) -> list[str]:
    both = [phase for phase in PHASES if phase in fast.seconds and phase in slow.seconds]
    changes = ", ".join(
        f"{phase} {_signed(percent_change(fast.seconds[phase], slow.seconds[phase]), 1)} %" for phase in both
    )
    sentences = [f"{fast.name}, against {slow.name}: {changes}{_auc_agreement(fast, slow)}."]
    for claim in REFERENCE["claims"]:
        labels = [f"{claim[side]} (published)" for side in ("faster", "slower")]
        phase, said = claim["phase"], claim["percent"]
        if labels == [fast.label, slow.label] and claim["epochs"] == fast.epochs and phase in both:
            change = percent_change(fast.seconds[phase], slow.seconds[phase])
            sentences.append(
                f"The published analysis has a slip here: it calls the {phase} {abs(said):g} % faster, "
                f"and its own times give {abs(change):.1f} %."
            )
    return sentences


def _auc_agreement(one: Result, other: Result) -> str:
    if one.auc is None or other.auc is None:
        return ""
    decimals = agreeing_decimals(one.auc, other.auc)
    agreement = f"agree to {counted(decimals, 'decimal')} when rounded" if decimals else "agree to no decimal"
    return f"; their AUCs, {one.auc:.5f} and {other.auc:.5f}, {agreement}"


def _compare_epochs(few: Result, many: Result) -> str:
    times = many.seconds["training"] / few.seconds["training"]
    sentence = f"{many.name}, against {counted(few.epochs, 'epoch')}: training takes {times:.3f} times as long"
    if few.auc is None or many.auc is None:
        return f"{sentence}."
    change = many.auc - few.auc
    sentence += f"; the AUC changes by {_signed(change, AUC_DECIMALS)}"
    if few.auc_error and many.auc_error:
        errors = abs(change) / sqrt(few.auc_error**2 + many.auc_error**2)
        sentence += f", {errors:.1f} standard errors if they had been validated on rows of their own"
    return f"{sentence}."


def _describe(result: Result) -> str:
    rates = result.rates
    verbs = {"tokenizer": "tokenises", "training": "trains", "inference": "scores"}
    speeds = {verb: rates.get(f"{phase}_rows_per_second") for phase, verb in verbs.items()}
    parts = [f"{', '.join(f'{verb} {speed:,.0f}' for verb, speed in speeds.items() if speed)} comments a second"]
    arithmetic = []
    for phase, verb in (("training", "training"), ("inference", "scoring")):
        if flops := rates.get(f"{phase}_flops_per_second"):
            share = f" ({100 * flops / result.peak:.1f} %)" if result.peak else ""
            arithmetic.append(f"{flops_text(flops)}{share} in {verb}")
    if arithmetic:
        peak = f", of the {flops_text(result.peak)} {result.peak_source}" if result.peak else ""
        parts.append(f"on real tokens {' and '.join(arithmetic)}{peak}")
    if result.auc is not None:
        error = f" ± {result.auc_error:.5f} (standard error)" if result.auc_error else ""
        of_main = " of the main label" if result.labels > 1 else ""
        parts.append(f"AUC{of_main} {result.auc:.5f}{error}")
    if result.mean_auc is not None:
        parts.append(f"mean AUC of the {result.labels} labels {result.mean_auc:.5f}")
    return f"{result.name}: {'; '.join(parts)}."


def _signed(value: float, decimals: int) -> str:
    return f"{value:+.{decimals}f}".replace("-", "−")
