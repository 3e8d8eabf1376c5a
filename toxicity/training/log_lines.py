"""How far a training is, as log lines."""

from __future__ import annotations

import logging
from time import monotonic
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_utils import has_length

logger = logging.getLogger(__name__)


class LogLines(TrainerCallback):
    """Progress as log lines, for where bars would be noise."""

    SECONDS_BETWEEN_LINES = 10.0

    def __init__(self) -> None:
        self._scored_batches = 0
        self._last_line = monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        """Tell the loss, every `logging_steps`, and what an evaluation gave."""
        evaluated = {name: value for name, value in logs.items() if name in ("eval_loss", "eval_auc")}
        if evaluated:
            logger.info(f"Evaluation at step {state.global_step:,}: {evaluated}")
        if "loss" in logs:
            logger.info(
                f"Training: step {state.global_step:,} of {state.max_steps:,}, epoch {state.epoch:.2f}, "
                f"loss {logs['loss']:.4f}, learning rate {logs['learning_rate']:.2e}"
            )

    def on_prediction_step(self, args: Any, state: Any, control: Any, eval_dataloader: Any, **kwargs: Any) -> None:
        """Tell how far scoring is, from time to time."""
        self._scored_batches += 1
        if has_length(eval_dataloader) and monotonic() - self._last_line > self.SECONDS_BETWEEN_LINES:
            self._last_line = monotonic()
            logger.info(f"Scoring: batch {self._scored_batches:,} of {len(eval_dataloader):,}")

    def _on_scored(self, *args: Any, **kwargs: Any) -> None:
        self._scored_batches = 0

    on_evaluate = on_predict = _on_scored
