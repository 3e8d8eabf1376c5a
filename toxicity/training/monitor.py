"""An eye on the training while it goes on: is a checkpoint due, was it asked to stop, is the loss still a number."""

from __future__ import annotations

import math
from collections.abc import Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

from toxicity.core.console import printable
from toxicity.core.errors import Interrupted, RunFailure
from toxicity.training.interruption import defer_stop, stop_requested

if TYPE_CHECKING:
    from toxicity.training.resumable_trainer import ResumableTrainer

SECONDS_BETWEEN_LOOKS = 1.0
MOST_STEPS_BETWEEN_LOOKS = 100
# A save that takes long is made seldom, so that saving stays below 2 % of the time whatever the disk.
LEAST_INTERVAL_PER_SAVE = 50
# A gradient scaler leaves out a step whose gradients are no numbers. One such loss is its business, several are not.
BAD_STEPS_LEFT_TO_THE_SCALER = 3
NEVER = 2**62


class Watch(TrainerCallback):
    """Looks about once a second, in all processes at the same step, and acts on what any of them saw.

    Between looks it costs nothing: losses stay on the device, and no process waits for another.
    """

    def __init__(self, trainer: ResumableTrainer) -> None:
        self.trainer = trainer
        self._stopping = False
        self._losses: list[tuple[int, int, torch.Tensor]] = []
        self._bad_steps: list[tuple[int, int]] = []
        self._gradients: dict[int, torch.Tensor | float] = {}
        self._steps_since_look = 0
        self._steps_between_looks = 1
        self._last_look = self._last_save = monotonic()
        self._save_seconds = 0.0
        self._activity = ""
        self._resumed = False

    def note_loss(self, step: int, part: int, loss: torch.Tensor) -> None:
        """Keep the loss of a batch, on its device, until the next look.

        Args:
            step: optimiser steps done before it.
            part: which batch of that step it is, 0 but for gradient accumulation.
            loss: scalar.
        """
        self._losses.append((step, part, loss))

    def note_gradient(self, step: int, norm: torch.Tensor | float) -> None:
        """Keep the norm of a step's gradient, on its device, for as long as that step can be to blame for the next."""
        self._gradients[step] = norm

    def saved(self, seconds: float) -> None:
        """Take note that a checkpoint was written, and how long it took."""
        self._last_save = monotonic()
        self._save_seconds = seconds

    def require_numbers(self) -> None:
        """Stop the run if a loss was not a number; every process calls it at the same step.

        Raises:
            RunFailure: naming the step and the ids of the batch, in the process that had it; or naming the step after
            which the weights are no numbers any more, though the loss was one.
        """
        bad_weights = int(not all_finite(self.trainer.model))
        bad, bad_weights = self._agree(-self._first_bad_step(), bad_weights)
        self._act_on_bad_loss(bad)
        if bad_weights:
            if not self.trainer.is_world_process_zero():
                raise SystemExit(1)  # all have the same weights; one tells
            raise RunFailure(
                f"the weights are not finite numbers after step {self.trainer.state.global_step:,}, though the loss is."
                f"\n{self.trainer.last_good()} Lower --learning_rate, or give a --max_grad_norm."
            )

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """From here on there is something to save."""
        defer_stop()
        self._resumed = state.global_step > 0
        self.trainer.resumed()
        self._last_look = self._last_save = monotonic()
        self._note_progress()
        if state.global_step >= state.max_steps:
            self.on_step_begin(args, state, control)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Make up for the evaluation that an interruption cut off, before the first step after it."""
        if self._resumed:
            self._resumed = False
            self.trainer.make_up_for_evaluation()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look, if it is time."""
        if not self._look_is_due("training"):
            return
        interval = max(60 * args.save_minutes, LEAST_INTERVAL_PER_SAVE * self._save_seconds)
        save = args.save_minutes > 0 and monotonic() - self._last_save >= interval
        bad, stop, save = self._look(save)
        self._act_on_bad_loss(bad)
        if stop:
            # The evaluation that may be due can take longer than there is time; it is made up for.
            self._stopping = True
            control.should_evaluate = False
        control.should_save = bool(control.should_save or stop or save)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop, if that is what the checkpoint was for."""
        if self._stopping:
            self._stop()

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look while scoring too; what was scored so far will be scored again."""
        if not self._look_is_due("scoring"):
            return
        _, stop, _ = self._look(False)
        if stop:
            self.trainer.save_before_stop()
            self._stop()

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note how far the training is, for the account of what an interruption cost."""
        if self.trainer.is_in_train:
            self._note_progress()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look for the last time."""
        self.require_numbers()
        self._note_progress()

    def _look_is_due(self, activity: str) -> bool:
        if activity != self._activity:
            # A batch of the one may take much longer than one of the other.
            self._activity, self._steps_between_looks = activity, 1
        self._steps_since_look += 1
        alone = self.trainer.args.world_size == 1
        return self._steps_since_look >= self._steps_between_looks or (alone and stop_requested())

    def _look(self, save: bool) -> tuple[int, bool, bool]:
        """Minus the first bad step of any process, whether any is to stop, whether the main one wants to save."""
        seconds = max(monotonic() - self._last_look, 1e-6)
        wanted = int(SECONDS_BETWEEN_LOOKS / seconds * self._steps_since_look)
        wanted = max(1, min(wanted, 2 * self._steps_between_looks, MOST_STEPS_BETWEEN_LOOKS))
        main = self.trainer.is_world_process_zero()
        bad, stop, save, wanted = self._agree(
            -self._first_bad_step(), int(stop_requested()), int(save and main), wanted if main else 0
        )
        self._steps_between_looks, self._steps_since_look = wanted, 0
        self._last_look = monotonic()
        return bad, bool(stop), bool(save)

    def _agree(self, *values: int) -> list[int]:
        """The largest of each value over all processes."""
        if self.trainer.args.world_size == 1:
            return list(values)
        shared = torch.tensor(values, dtype=torch.int64, device=self.trainer.args.device)
        torch.distributed.all_reduce(shared, torch.distributed.ReduceOp.MAX)
        return shared.tolist()

    def _first_bad_step(self) -> int:
        """The step from which on this process's loss is no number, after the scaler has had its chance; or NEVER."""
        if self._losses:
            numbers = torch.stack([loss.float() for *_, loss in self._losses]).isfinite().tolist()
            bad = {}
            for (step, part, _), finite in zip(self._losses, numbers, strict=True):
                if not finite:
                    bad.setdefault(step, part)
            for step in dict.fromkeys(step for step, *_ in self._losses):
                if len(self._bad_steps) >= self._patience():
                    break
                self._bad_steps = [*self._bad_steps, (step, bad[step])] if step in bad else []
            self._losses.clear()
        if not self._bad_steps and self._gradients:
            last = max(self._gradients)
            self._gradients = {last: self._gradients[last]}
        return self._bad_steps[0][0] if len(self._bad_steps) >= self._patience() else NEVER

    def _patience(self) -> int:
        return 1 if self.trainer.accelerator.scaler is None else BAD_STEPS_LEFT_TO_THE_SCALER

    def _act_on_bad_loss(self, negative_step: int) -> None:
        if -negative_step == NEVER:
            return
        if self._first_bad_step() != -negative_step:
            raise SystemExit(1)  # the process that had it tells
        step, part = self._bad_steps[0]
        # Weights that an infinite gradient spoiled give no loss from the next step on.
        if self._patience() == 1 and not math.isfinite(self._gradients.get(step - 1, 0.0)):
            parts = range(self.trainer.args.gradient_accumulation_steps)
            ids = [name for each in parts for name in self.trainer.ids_of_batch(step - 1, each)]
            raise RunFailure(
                f"the gradient is not finite in step {step:,}, though the loss is; the ids of that batch: "
                f"{_shown(ids)}.\n{self.trainer.last_good()} Look at those rows, or lower --learning_rate."
            )
        ids = _shown(self.trainer.ids_of_batch(step, part))
        again = f" and in the {self._patience() - 1} after it" if self._patience() > 1 else ""
        raise RunFailure(
            f"the loss is not a finite number in step {step + 1:,}{again}; the ids of that batch: {ids}.\n"
            f"{self.trainer.last_good()} Look at those rows, or lower --learning_rate."
        )

    def _note_progress(self) -> None:
        state = self.trainer.state
        if self.trainer.is_world_process_zero():
            self.trainer.checkpoints.note_progress(state.global_step, trained=state.global_step >= state.max_steps)

    def _stop(self) -> None:
        trainer = self.trainer
        step = trainer.state.global_step
        if trainer.is_world_process_zero():
            trainer.checkpoints.note_progress(step, cause="SIGTERM")
        saved = f", saved as {trainer.checkpoints.path_of(step)}." if trainer.saved else f". {trainer.last_good()}"
        raise Interrupted(
            f"Interrupted by SIGTERM after step {step:,}{saved} "
            + (
                "Without the optimiser (--save_only_model) nothing goes on from it: start again from the beginning, "
                "without --resume_from_checkpoint."
                if trainer.args.save_only_model
                else "Start the same command again with --resume_from_checkpoint auto."
            )
        )


def _shown(ids: Iterable[Any]) -> str:
    return ", ".join(printable(str(name)) for name in ids)


def all_finite(model: torch.nn.Module) -> bool:
    """Whether all weights of a model are finite numbers."""
    parts = [parameter.detach() for parameter in model.parameters() if parameter.is_floating_point()]
    parts = [getattr(part, "to_local", lambda part=part: part)() for part in parts]
    return math.isfinite(sum(part.float().abs().max() for part in parts if part.numel()))
