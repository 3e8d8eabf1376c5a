"""Find the logits of toxicity and of its subtypes among the labels of any model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedConfig

from toxicity.core.console import printable
from toxicity.core.errors import RequestError
from toxicity.core.schema import NAMES, SUBTYPES


@dataclass(frozen=True)
class Labels:
    """Indices of the logits to use."""

    toxic: int
    civil: int | None  # the other class, if the model chooses between two exclusive ones
    subtypes: dict[str, int]  # by canonical name, those that the model has an independent label for

    def pick(self, logits: np.ndarray) -> np.ndarray:
        """From all logits `(rows, labels)`, select toxicity and the subtypes, `(rows, 1 + subtypes)`, for a sigmoid."""
        picked = logits[:, [self.toxic, *self.subtypes.values()]].astype(np.float64)
        if self.civil is not None:
            # The sigmoid of the difference of two logits is their softmax.
            picked[:, 0] -= logits[:, self.civil]
        return picked


def labels_in(config: PreTrainedConfig, name: str) -> Labels:
    """Find the labels by their names in a model's config; `name` is the model's, for the error message.

    Raises:
        RequestError: if the model has several labels and none of them is called `toxic` or `toxicity`.
    """
    indices = {label.lower(): int(index) for index, label in config.id2label.items()}

    def index_of(labels: Sequence[str]) -> int | None:
        return next((indices[label] for label in labels if label in indices), None)

    toxic = 0 if config.num_labels == 1 else index_of(("toxic", "toxicity"))
    if toxic is None:
        labels = printable(", ".join(config.id2label.values()))
        raise RequestError(f"{name} has the labels {labels}; none is called `toxic`.")
    if config.num_labels == 2 and config.problem_type != "multi_label_classification":
        return Labels(toxic, 1 - toxic, {})
    found = {subtype: index_of(NAMES[subtype]) for subtype in SUBTYPES}
    return Labels(toxic, None, {subtype: index for subtype, index in found.items() if index is not None})
