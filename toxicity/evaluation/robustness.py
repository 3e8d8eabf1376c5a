"""How scores hold where the same comments are written in another way (`core.rewriting`)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from toxicity.core.rewriting import REWRITINGS, rewrite
from toxicity.core.schema import hard_labels
from toxicity.evaluation.roc import auc_of_counts, count_by_score, score_ranks, why_undefined

logger = logging.getLogger(__name__)


def draw_rows(targets: np.ndarray, rows: int, seed: int) -> np.ndarray:
    """At most so many of the rows whose target, float `(rows,)`, is not NaN: their numbers, int64, ascending.

    They are drawn by the seed; the global generators are neither used nor changed.
    """
    labelled = np.flatnonzero(~np.isnan(targets))
    if len(labelled) > rows:
        labelled = np.sort(np.random.default_rng(seed).choice(labelled, rows, replace=False))
    return labelled


def measure_robustness(
    score: Callable[[list[str]], np.ndarray],
    texts: Sequence[str],
    scores: np.ndarray,
    targets: np.ndarray,
    threshold: float,
    seed: int,
) -> dict[str, Any] | None:
    """Score texts in every one of `REWRITINGS`, and compare with the same texts as they were.

    Args:
        score: returns a calibrated score from 0 to 1 of one label for each text, float `(texts,)`. It is called once.
        texts: as they were written, one or more.
        scores: of these, float `(texts,)`.
        targets: float `(texts,)` from 0 to 1, none of them NaN; a text is toxic at >= 0.5.
        threshold: score from which on a text is flagged.
        seed: of what is drawn in rewriting.

    Returns:
        A dictionary that `json.dumps` takes: `rows`, the number of texts; `threshold`; `auc` and `flagged`, the share
        of texts, as they were; and `rewritings`, by name: `rate` (the share of words), `auc`, `auc_change`, `flagged`
        and `flagged_change`, the changes being those against the texts as they were. AUCs are None where all texts are
        of one class. None, with a line in the log, if a score is not finite.
    """
    rewritten = [rewrite(text, name, seed) for name in REWRITINGS for text in texts]
    found = np.asarray(score(rewritten), dtype=np.float64).reshape(len(REWRITINGS), len(texts))
    every = np.concatenate([np.asarray(scores, dtype=np.float64)[None], found])
    if bad := np.count_nonzero(~np.isfinite(every)):
        logger.warning(f"Robustness is not measured: {bad} of {every.size} scores are not finite.")
        return None
    toxic = hard_labels(targets) > 0
    before, *after = ({"auc": _auc(row, toxic), "flagged": float((row >= threshold).mean())} for row in every)
    rewritings = {
        name: {
            "rate": rewriting.rate,
            "auc": now["auc"],
            "auc_change": None if before["auc"] is None else now["auc"] - before["auc"],
            "flagged": now["flagged"],
            "flagged_change": now["flagged"] - before["flagged"],
        }
        for (name, rewriting), now in zip(REWRITINGS.items(), after, strict=True)
    }
    return {"rows": len(texts), "threshold": float(threshold), **before, "rewritings": rewritings}


def _auc(scores: np.ndarray, toxic: np.ndarray) -> float | None:
    counts = count_by_score(score_ranks(scores), ~toxic)
    return None if why_undefined(*counts) else auc_of_counts(*counts)
