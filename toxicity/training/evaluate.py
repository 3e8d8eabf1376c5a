"""How good a trained model is: scores of the validation rows, metrics, calibration and the identity swap probe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset

from toxicity.data.sources import identities_of, targets_of
from toxicity.evaluation.calibration import Calibration, calibrate
from toxicity.evaluation.identity_probe import probe
from toxicity.evaluation.metrics import ToxicityMetric
from toxicity.training.trainer import ToxicityTrainer


@dataclass(frozen=True)
class Evaluation:
    """What was measured on the validation rows."""

    logits: np.ndarray  # float32 `(rows,)`, in the order of the rows
    metrics: dict[str, Any]  # of `ToxicityMetric`
    calibration: Calibration  # temperature and thresholds fitted on half of the rows
    probe: dict[str, Any] | None  # of `identity_probe.probe`, None where a score is not a finite number


def evaluate(trainer: ToxicityTrainer, validation: Dataset) -> Evaluation:
    """Score the validation rows and judge the scores, in the phases `inference`, `metrics` and `probe`.

    Every process calls it after training. The trainer's `eval_dataset` holds the tokens of `validation`.
    """
    logits = trainer.score(trainer.eval_dataset)
    with trainer.clock.phase("metrics"):
        targets, identities = targets_of(validation), identities_of(validation)
        metrics = ToxicityMetric().compute(predictions=logits, references=targets, identities=identities)
        calibration = calibrate(logits, targets, trainer.args.seed)
    with trainer.clock.phase("probe"):
        found = probe(lambda texts: _probabilities(trainer.score_texts(texts), calibration), calibration.thresholds)
    return Evaluation(logits, metrics, calibration, found)


def _probabilities(logits: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Calibrated probabilities; NaN for an infinite logit, which overflowed and would become 0 or 1."""
    return np.where(np.isfinite(logits), calibration.probability(logits), np.nan)
