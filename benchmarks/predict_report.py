"""Table and ratios of `benchmarks.predict`; its docstring says what the ratios are of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.scoring_task import SHORT_TOKENS, ScoringTask
from toxicity.core.markdown import markdown_table


def summarise(
    task: ScoringTask, results: dict[str, list[dict[str, Any]]], labels: np.ndarray, tokens: dict[str, int]
) -> dict[str, dict[str, Any]]:
    """Medians over the rounds, by contender.

    Returns:
        For each contender what applies of `loop_rows_per_second`, `short_rows_per_second`, `file_rows_per_second`,
        `tokens_per_second`, `short_tokens_per_second`, `p50_ms`, `p99_ms`, `auc`, `largest_score_difference`,
        `mean_score_difference`, `scored_rows` and what it ran with.
    """
    expected = np.load(task.path("reference.npy")) if task.path("reference.npy").exists() else None
    table: dict[str, dict[str, Any]] = {}
    if expected is not None:
        table["reference"] = {"auc": auc(labels, expected)}
    for name, runs in results.items():
        seconds = {
            key: median(run[key] for run in runs)
            for key in ("loop", "short", "file", "p50_ms", "p99_ms")
            if key in runs[0]
        }
        row = {key: runs[0][key] for key in ("runtime", "precision", "settings") if key in runs[0]}
        row["scored_rows"] = runs[0]["rows"]
        row |= {
            f"{key}_rows_per_second": row["scored_rows"] / seconds[key] for key in ("loop", "file") if key in seconds
        }
        if "short" in seconds:
            row["short_rows_per_second"] = tokens["short"] / SHORT_TOKENS / seconds["short"]
            row["tokens_per_second"] = tokens["all"] / seconds["loop"]
            row["short_tokens_per_second"] = tokens["short"] / seconds["short"]
        row |= {key: seconds[key] for key in ("p50_ms", "p99_ms") if key in seconds}
        scores = np.load(task.path(f"{name}.npy"))
        scored = ~np.isnan(scores)
        if scored.all():
            row["auc"] = auc(labels, scores)
        if expected is not None:
            difference = np.abs(scores - expected)[scored]
            row |= {
                "largest_score_difference": float(difference.max()),
                "mean_score_difference": float(difference.mean()),
            }
        table[name] = row
    return table


def auc(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """ROC AUC; None if all labels are the same."""
    return float(roc_auc_score(labels, scores)) if len(np.unique(labels)) == 2 else None


def ratios(table: dict[str, dict[str, Any]]) -> dict[str, float | None]:
    """The first keys of the JSON line, of a table of `summarise`; None where a contender was left out."""

    def value(name: str, key: str) -> float | None:
        return table.get(name, {}).get(key)

    def of(one: float | None, other: float | None, combine: Callable[[float, float], float]) -> float | None:
        return None if one is None or other is None else combine(one, other)

    def ratio(ours: str, theirs: str, phase: str = "loop", their_phase: str | None = None) -> float | None:
        rates = (
            value(ours, f"{phase}_rows_per_second"),
            value(theirs, f"{their_phase or phase}_rows_per_second"),
        )
        return of(*rates, lambda one, other: one / other)

    short, usual = (value("ours_int8", f"{length}tokens_per_second") for length in ("short_", ""))
    return {
        "vs_pipeline": ratio("ours", "pipeline", "file"),
        "vs_scoring_loop": ratio("ours_int8", "ours_int8", "file", "loop"),
        "vs_openvino_bf16": ratio("ours", "openvino_bf16"),
        "vs_openvino_int8": ratio("ours_int8", "openvino_int8"),
        "vs_ctranslate2_int8": ratio("ours_int8", "ctranslate2_int8"),
        "vs_onnxruntime_int8": ratio("ours_int8", "onnxruntime_int8"),
        "int8_vs_bf16": ratio("ours_int8", "ours_torch"),
        "int8_auc_loss": of(value("reference", "auc"), value("ours_int8", "auc"), lambda one, other: one - other),
        "int8_largest_score_difference": value("ours_int8", "largest_score_difference"),
        "short_texts_vs_tokens": of(short, usual, lambda one, other: one / other),
        "vs_cross_encoder": ratio("ours", "cross_encoder", "file"),
        "file_to_file_vs_openvino_int8": ratio("ours_int8", "openvino_int8", "file", "loop"),
        "int8_vs_fp32_without_bf16": ratio("ours_int8_without_bf16", "ours_fp32_without_bf16"),
        "int8_mean_score_difference": value("ours_int8", "mean_score_difference"),
        "one_comment_p50_ms": value("ours_int8", "p50_ms"),
    }


COLUMNS = {
    "rows/s, loop": ("loop_rows_per_second", ",.0f"),
    f"rows/s, {SHORT_TOKENS} tokens": ("short_rows_per_second", ",.0f"),
    "rows/s, files": ("file_rows_per_second", ",.0f"),
    "AUC": ("auc", ".5f"),
    "mean difference": ("mean_score_difference", ".4f"),
    "largest": ("largest_score_difference", ".3f"),
    "one comment, p50 ms": ("p50_ms", ".1f"),
    "p99": ("p99_ms", ".1f"),
}


def print_table(table: dict[str, dict[str, Any]], labels: Mapping[str, str]) -> None:
    """Print the table of `summarise` for people; those that score a part of the comments have no AUC."""

    def cell(row: dict[str, Any], key: str, form: str) -> str:
        return "" if row.get(key) is None else format(row[key], form)

    rows = [(labels[name], *(cell(row, *column) for column in COLUMNS.values())) for name, row in table.items()]
    print(markdown_table(("", *COLUMNS), rows))
