"""How good a trained model is: scores of the validation rows, metrics, calibration and the identity swap probe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset

from toxicity.core.wanted import Wanted
from toxicity.data.sources import identities_of, label_targets_of
from toxicity.evaluation.calibration import Calibration
from toxicity.evaluation.identity_probe import probe_labels
from toxicity.evaluation.label_metrics import judge_labels
from toxicity.models.labels import LABELS, TOXIC_LABEL
from toxicity.training.trainer import ToxicityTrainer


@dataclass(frozen=True)
class Evaluation:
    """What was measured on the validation rows."""

    logits: np.ndarray  # float32 `(rows, labels)`, in the order of the rows
    metrics: dict[str, Any]  # of `label_metrics.judge_labels`
    calibrations: dict[str, Calibration]  # by label: how its scores become probabilities, and its thresholds
    probe: dict[str, Any] | None  # of `identity_probe.probe_labels`, None where a score is not a finite number

    @property
    def calibration(self) -> Calibration:
        """That of the main label."""
        return next(iter(self.calibrations.values()))

    def settings(self) -> dict[str, Any]:
        """What scoring needs to know of the labels, for the section `toxicity` of the model's `config.json`."""
        settings = self.calibration.to_config()
        if len(self.calibrations) > 1:
            of_labels = {name: calibration.to_config() for name, calibration in self.calibrations.items()}
            settings |= {TOXIC_LABEL: next(iter(of_labels)), LABELS: of_labels}
        return settings


def evaluate(
    trainer: ToxicityTrainer,
    validation: Dataset,
    names: Sequence[str],
    wanted: Sequence[Wanted] = (),
    priors: Sequence[float | None] = (),
) -> Evaluation:
    """Score the validation rows and judge the scores, in the phases `inference`, `metrics` and `probe`.

    Every process calls it after training. The trainer's `eval_dataset` holds the tokens of `validation`, and `names`
    are what its labels are called. `wanted` and `priors` are those of `judge_labels`.
    """
    logits = trainer.score(trainer.eval_dataset)
    with trainer.clock.phase("metrics"):
        targets, identities = label_targets_of(validation, names), identities_of(validation)
        metrics, calibrations = judge_labels(logits, targets, names, identities, trainer.args.seed, wanted, priors)
    with trainer.clock.phase("probe"):
        found = probe_labels(
            lambda texts: _probabilities(trainer.score_texts(texts), calibrations.values()),
            {name: calibration.thresholds for name, calibration in calibrations.items()},
        )
    return Evaluation(logits, metrics, calibrations, found)


def _probabilities(logits: np.ndarray, calibrations: Iterable[Calibration]) -> np.ndarray:
    """Calibrated probabilities, `(texts, labels)`; NaN for an infinite logit, which would become 0 or 1."""
    columns = [calibration.probability(logits[:, place]) for place, calibration in enumerate(calibrations)]
    return np.where(np.isfinite(logits), np.stack(columns, axis=1), np.nan)
