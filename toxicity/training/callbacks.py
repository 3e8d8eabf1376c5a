"""Callbacks: training progress as log lines, the clock and sampler of an epoch, trackers that also get the last scores.

The callbacks of TensorBoard and Trackio close their run when training ends, but this job scores its validation rows
after that. Left alone, TensorBoard would get no AUC unless there were evaluations on the way; Trackio would put it into
a second run, and print a line to standard output when the process ends, below the JSON row that is to be the last.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from time import monotonic
from typing import Any

from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback
from transformers.integrations import TensorBoardCallback, TrackioCallback
from transformers.trainer_utils import has_length

from toxicity.hardware.timing import PhaseClock
from toxicity.training.batching import set_epoch, steps_per_epoch

logger = logging.getLogger(__name__)


class EpochCallback(TrainerCallback):
    """Tells the sampler which epoch begins, and charges the training loop of each epoch to the phase `training`.

    Accelerate's wrappers for skipped batches and for several processes do not pass the epoch on to the sampler.
    """

    def __init__(self, clock: PhaseClock) -> None:
        self.clock = clock
        self._phase = ExitStack()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, train_dataloader: DataLoader, **kwargs: Any) -> None:
        """Start the clock; the Trainer makes the iterator of the loader after this."""
        set_epoch(train_dataloader, state.global_step // steps_per_epoch(train_dataloader, args))
        self._phase.enter_context(self.clock.phase("training"))

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop the clock."""
        self._phase.close()


class LogLines(TrainerCallback):
    """Training progress as log lines, for output that is not a terminal."""

    SECONDS_BETWEEN_LINES = 10.0

    def __init__(self) -> None:
        self._scored_batches = 0
        self._last_line = monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        """Log the training loss every `logging_steps`, and the results of an evaluation."""
        if evaluated := {name: value for name, value in logs.items() if name in ("eval_loss", "eval_auc")}:
            logger.info(f"Evaluation at step {state.global_step:,}: {evaluated}")
        if "loss" in logs:
            logger.info(
                f"Training: step {state.global_step:,} of {state.max_steps:,}, epoch {state.epoch:.2f}, "
                f"loss {logs['loss']:.4f}, learning rate {logs['learning_rate']:.2e}"
            )

    def on_prediction_step(self, args: Any, state: Any, control: Any, eval_dataloader: Any, **kwargs: Any) -> None:
        """Log the number of scored batches every few seconds."""
        self._scored_batches += 1
        if has_length(eval_dataloader) and monotonic() - self._last_line > self.SECONDS_BETWEEN_LINES:
            self._last_line = monotonic()
            logger.info(f"Scoring: batch {self._scored_batches:,} of {len(eval_dataloader):,}")

    def _on_scored(self, *args: Any, **kwargs: Any) -> None:
        self._scored_batches = 0

    on_evaluate = on_predict = _on_scored


def keep_trackers_open(trainer: Trainer) -> None:
    """Replace the Trainer's callbacks of TensorBoard and Trackio, where it has them, by those below."""
    for callback in (TensorBoard, Trackio):
        if trainer.pop_callback(callback.__base__) is not None:
            trainer.add_callback(callback)


class TensorBoard(TensorBoardCallback):
    """Also writes the metrics of the scoring after the training."""

    def on_predict(self, args: Any, state: Any, control: Any, metrics: dict[str, Any], **kwargs: Any) -> None:
        """Write the numbers among the metrics, and close the run again."""
        self.on_log(args, state, control, logs=_numbers(metrics))
        self.on_train_end(args, state, control)


class Trackio(TrackioCallback):
    """Ends its run after the scoring, not after the training."""

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Leave the run open for `on_predict`."""

    def on_predict(self, args: Any, state: Any, control: Any, metrics: dict[str, Any], **kwargs: Any) -> None:
        """Log the numbers among the metrics, and end the run."""
        super().on_predict(args, state, control, _numbers(metrics), **kwargs)
        super().on_train_end(args, state, control, **kwargs)


def _numbers(metrics: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if isinstance(value, int | float)}
