"""How good a trained model is: scores of the validation rows, metrics, calibration, identity swap probe and more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import Dataset

from toxicity.core.arguments import DataArguments
from toxicity.core.schema import TEXT
from toxicity.core.wanted import Wanted
from toxicity.data.encoding import token_ids, truncating_backend
from toxicity.data.sources import Splits, identities_of, label_targets_of
from toxicity.data.token_dataset import TokenRows
from toxicity.data.tokenization import tokenize
from toxicity.evaluation.calibration import Calibration
from toxicity.evaluation.identity_probe import probe_labels
from toxicity.evaluation.label_metrics import judge_labels
from toxicity.evaluation.other_comments import judge_others
from toxicity.evaluation.robustness import draw_rows, measure_robustness
from toxicity.models.labels import LABELS, TOXIC_LABEL
from toxicity.training.trainer import ToxicityTrainer


@dataclass(frozen=True)
class Evaluation:
    """What was measured on the validation rows."""

    logits: np.ndarray  # float32 `(rows, labels)`, in the order of the rows
    metrics: dict[str, Any]  # of `label_metrics.judge_labels`
    calibrations: dict[str, Calibration]  # by label: how its scores become probabilities, and its thresholds
    probe: dict[str, Any] | None  # of `identity_probe.probe_labels`, None where a score is not a finite number
    # Of `robustness.measure_robustness`, for the main label; None where a score is not finite, or nobody asked.
    robustness: dict[str, Any] | None = None
    eval_files: dict[str, dict[str, Any]] = field(default_factory=dict)  # of `other_comments.judge_others`, by name

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
    splits: Splits,
    names: Sequence[str],
    arguments: DataArguments,
    wanted: Sequence[Wanted] = (),
    priors: Sequence[float | None] = (),
) -> Evaluation:
    """Score the validation rows and judge the scores, and what else the model is judged on, each in its phase.

    The phases are `inference`, `metrics`, `probe`, `robustness` and `eval_files`. Every process calls it after
    training. The trainer's `eval_dataset` holds the tokens of `splits.validation`, `names` are what its labels are
    called, `arguments` say how comments are truncated; `wanted` and `priors` are those of `judge_labels`.
    """
    validation = splits.validation
    logits = trainer.score(trainer.eval_dataset)
    with trainer.clock.phase("metrics"):
        targets, identities = label_targets_of(validation, names), identities_of(validation)
        metrics, calibrations = judge_labels(logits, targets, names, identities, trainer.args.seed, wanted, priors)
    with trainer.clock.phase("probe"):
        found = probe_labels(
            lambda texts: _probabilities(trainer.score_texts(texts), calibrations.values()),
            {name: calibration.thresholds for name, calibration in calibrations.items()},
        )
    with trainer.clock.phase("robustness"):
        robustness = _robustness(trainer, splits, logits[:, :1], targets[:, 0], calibrations[names[0]], arguments)
    with trainer.clock.phase("eval_files"):
        others = {
            name: judge_others(
                _logits_of(comments, trainer, arguments), label_targets_of(comments, names), calibrations
            )
            for name, comments in splits.eval_files.items()
        }
    return Evaluation(logits, metrics, calibrations, found, robustness, others)


def _robustness(
    trainer: ToxicityTrainer,
    splits: Splits,
    logits: np.ndarray,
    targets: np.ndarray,
    calibration: Calibration,
    arguments: DataArguments,
) -> dict[str, Any] | None:
    """How the main label's scores hold; `logits` are its own, float `(rows, 1)`."""
    rows = draw_rows(targets, arguments.robustness_rows, trainer.args.seed)
    if not len(rows):
        return None
    backend = truncating_backend(trainer.processing_class, arguments.max_seq_length)

    def score(texts: list[str]) -> np.ndarray:
        # Truncated as the comments were.
        input_ids, _ = token_ids(texts, backend, arguments.head_tail_truncation)
        return _probabilities(trainer.score_more(TokenRows.from_lists(input_ids))[:, :1], [calibration])[:, 0]

    texts = splits.validation.select_columns(TEXT)[rows][TEXT]
    before = _probabilities(logits[rows], [calibration])[:, 0]
    return measure_robustness(score, texts, before, targets[rows], calibration.threshold, trainer.args.seed)


def _logits_of(comments: Dataset, trainer: ToxicityTrainer, arguments: DataArguments) -> np.ndarray:
    """Logits of comments in any number, float32 `(rows, labels)`; their tokens go through the cache."""
    tokens = tokenize(
        comments,
        trainer.processing_class,
        arguments.max_seq_length,
        threads=arguments.preprocessing_num_workers,
        head_tail=arguments.head_tail_truncation,
    )
    return trainer.score_more(TokenRows(tokens.dataset))


def _probabilities(logits: np.ndarray, calibrations: Iterable[Calibration]) -> np.ndarray:
    """Calibrated probabilities, `(texts, labels)`; NaN for an infinite logit, which would become 0 or 1."""
    columns = [calibration.probability(logits[:, place]) for place, calibration in enumerate(calibrations)]
    return np.where(np.isfinite(logits), np.stack(columns, axis=1), np.nan)
