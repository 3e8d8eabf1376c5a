"""Trackers: TensorBoard and Trackio as the Trainer has them, and the scores at the end of a job in the same run.

The Trainer's callbacks close a run when training ends, and this job scores its validation rows after that. Left alone,
TensorBoard gets no AUC unless there were evaluations on the way; Trackio puts it into a second run, and ends that one
when the process does, with a line on standard output below the JSON row that is to be the last.
"""

from __future__ import annotations

from typing import Any

from transformers import Trainer
from transformers.integrations import (
    TensorBoardCallback,
    TrackioCallback,
)


def keep_runs_whole(trainer: Trainer) -> None:
    """Exchange the Trainer's callbacks of TensorBoard and Trackio, where it has them, for those below."""
    for callback in (TensorBoard, Trackio):
        if trainer.pop_callback(callback.__base__) is not None:
            trainer.add_callback(callback)


class TensorBoard(TensorBoardCallback):
    """Also writes what scoring at the end gave."""

    def on_predict(self, args: Any, state: Any, control: Any, metrics: dict[str, Any], **kwargs: Any) -> None:
        """Write the numbers into the folder of the run, and close it again."""
        self.on_log(args, state, control, logs=_numbers(metrics))
        self.on_train_end(args, state, control)


class Trackio(TrackioCallback):
    """Ends its run after scoring, not after training."""

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Leave the run open for `on_predict`."""

    def on_predict(self, args: Any, state: Any, control: Any, metrics: dict[str, Any], **kwargs: Any) -> None:
        """Log the numbers, and end the run."""
        super().on_predict(args, state, control, _numbers(metrics), **kwargs)
        super().on_train_end(args, state, control, **kwargs)


def _numbers(metrics: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if isinstance(value, int | float)}
