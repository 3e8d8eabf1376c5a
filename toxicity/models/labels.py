"""Which of a model's logits are toxicity and its kinds, whoever trained it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedConfig

from toxicity.core.console import printable
from toxicity.core.errors import RequestError
from toxicity.core.schema import NAMES, SUBTYPES


@dataclass(frozen=True)
class Labels:
    """Numbers of the logits that are used.

    `toxic` is toxicity's; where the model chooses between two classes, `civil` is that of the other one, else None.
    `subtypes` has the canonical name of each kind of toxicity that the model has an independent label for.
    """

    toxic: int
    civil: int | None
    subtypes: dict[str, int]

    def pick(self, logits: np.ndarray) -> np.ndarray:
        """From `(rows, labels)` to `(rows, 1 + subtypes)` logits whose sigmoids are the probabilities."""
        picked = logits[:, [self.toxic, *self.subtypes.values()]].astype(np.float64)
        if self.civil is not None:
            # The sigmoid of the difference is the softmax over both.
            picked[:, 0] -= logits[:, self.civil]
        return picked


def labels_in(config: PreTrainedConfig, name: str) -> Labels:
    """Find them by what a model's config calls its labels; `name` is the model's, for the message.

    Raises:
        RequestError: if none of several labels is called `toxic` or `toxicity`.
    """
    indices = {label.lower(): int(index) for index, label in config.id2label.items()}
    toxic = (
        0
        if config.num_labels == 1
        else next((indices[label] for label in ("toxic", "toxicity") if label in indices), None)
    )
    if toxic is None:
        labels = printable(", ".join(config.id2label.values()))
        raise RequestError(f"{name} has the labels {labels}; none is called `toxic`.")
    if config.num_labels == 2 and config.problem_type != "multi_label_classification":
        return Labels(toxic, 1 - toxic, {})
    found = {subtype: next((indices[name] for name in NAMES[subtype] if name in indices), None) for subtype in SUBTYPES}
    return Labels(toxic, None, {subtype: index for subtype, index in found.items() if index is not None})
