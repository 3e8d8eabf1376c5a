"""What all routes share: the model, the batcher in front of it, and the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from toxicity.predict.scorer import Scorer
from toxicity.serve.batcher import Batcher
from toxicity.serve.keys import Keys
from toxicity.serve.settings import Settings


@dataclass(frozen=True)
class Service:
    """A loaded model and how it is served."""

    settings: Settings
    scorer: Scorer
    batcher: Batcher

    @property
    def name(self) -> str:
        """The model's name, without the path of a folder."""
        folder = Path(self.settings.model)
        return folder.resolve().name if folder.exists() else self.settings.model

    @cached_property
    def keys(self) -> Keys:
        """Who may call."""
        return Keys(self.settings.api_keys)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels, the main one first, in the order of the columns of `Batcher.score`."""
        main, *_ = self.scorer.calibrations
        return (main, *self.scorer.subtypes)

    @cached_property
    def thresholds(self) -> Mapping[str, float]:
        """Label → probability from which on a comment has it; labels without one of their own are left out."""
        target = self.settings.threshold_for
        return {
            label: fitted.thresholds.get(target, fitted.threshold) for label, fitted in self.scorer.calibrations.items()
        }

    def described(self) -> dict[str, Any]:
        """The model as `GET /v1/model` shows it."""
        return {
            "name": self.name,
            "revision": self.scorer.revision,
            "digest": self.scorer.weights_digest,
            "runtime": self.scorer.runtime,
            "mixed_precision": self.scorer.mixed_precision,
            "max_seq_length": self.scorer.max_seq_length,
            "languages": list(self.settings.languages),
            "labels": list(self.labels),
            "thresholds": dict(self.thresholds),
            "calibration": {label: fitted.to_config() for label, fitted in self.scorer.calibrations.items()},
        }
