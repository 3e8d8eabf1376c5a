"""Callback: saves a checkpoint when one is due, stops on SIGTERM, and fails on a loss that is not a finite number."""

from __future__ import annotations

import math
from time import monotonic
from typing import Any

import torch
from transformers import TrainerCallback

from toxicity.core.console import printable
from toxicity.core.errors import Interrupted, RunFailure
from toxicity.training.interruption import defer_stop, stop_requested

SECONDS_BETWEEN_CHECKS = 1.0
MOST_STEPS_BETWEEN_CHECKS = 100
# Slow saves are made less often, so that saving takes at most 2 % of the time whatever the disk.
LEAST_INTERVAL_PER_SAVE = 50
# A gradient scaler (fp16) skips the optimiser step of a bad loss by itself; the run fails on the third in a row.
BAD_STEPS_WITH_SCALER = 3
NEVER = 2**62


class Monitor(TrainerCallback):
    """Checks about once a second, in all processes at the same step, and acts on what any of them found.

    Between checks it costs nothing: losses stay on the device, and no process waits for another.

    Args:
        trainer: the `ResumableTrainer` that makes this callback; its module is above this one.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self._stopping = False
        self._batch = 0
        self._losses: list[tuple[int, int, torch.Tensor]] = []
        self._bad_steps: list[tuple[int, int]] = []
        self._gradient_norms: dict[int, torch.Tensor | float] = {}
        self._bad_losses_change_nothing = False
        self._steps_since_check = 0
        self._steps_between_checks = 1
        self._last_check = self._last_save = monotonic()
        self._save_seconds = 0.0
        self._activity = ""
        self._evaluation_may_be_due = False

    def note_loss(self, loss: torch.Tensor) -> None:
        """Keep the loss of a batch, or of a part of it, on its device until the next check."""
        self._losses.append((self.trainer.state.global_step, self._batch, loss))

    def note_gradient(self, norm: torch.Tensor | float) -> None:
        """Keep the norm of this step's gradient on its device: an infinite one explains a bad loss in the next step."""
        self._gradient_norms[self.trainer.state.global_step] = norm

    def has_optimiser_pass_over_bad_losses(self) -> bool:
        """Have the optimiser pass over this step if its loss is not finite, without waiting for it; False if it cannot.

        Its state then tells, after a bad loss, whether the gradient of the step before was infinite: `note_gradient`
        is not needed.
        """
        trainer = self.trainer
        optimizer = getattr(trainer.optimizer, "optimizer", trainer.optimizer)
        # A gradient scaler has the optimiser pass over such steps by itself.
        if trainer.accelerator.scaler is None:
            # The fused optimisers of MPS, and maybe of others, take the same argument and ignore it.
            listens = optimizer.defaults.get("fused") and trainer.args.device.type in ("cuda", "cpu")
            if trainer.is_fsdp_enabled or not listens:
                return False
            losses = [loss.float() for step, _, loss in self._losses if step == trainer.state.global_step]
            bad = torch.stack(losses).isfinite().all().logical_not().float()
            if trainer.args.world_size > 1:
                # All processes pass over the step, or none: after it their weights are the same.
                bad = trainer.accelerator.reduce(bad).clamp(max=1.0)
            # As a gradient scaler tells a fused optimiser of an overflow.
            optimizer.found_inf = bad
        self._bad_losses_change_nothing = True
        return True

    def note_save(self, seconds: float) -> None:
        """Note that a checkpoint was written, and how long that took."""
        self._last_save, self._save_seconds = monotonic(), seconds

    def require_finite(self) -> None:
        """Fail the run if a loss or the weights are not finite; every process calls it at the same step.

        Raises:
            RunFailure: naming the step, and the ids of the batch if it had a bad loss, in the process that had it.
        """
        bad, bad_weights = self._largest(-self._first_bad_step(), int(not all_finite(self.trainer.model)))
        self._fail_on_bad_loss(bad)
        if bad_weights:
            if not self.trainer.is_world_process_zero():
                raise SystemExit(1)  # all have the same weights, so the main process reports them
            raise RunFailure(
                f"the weights are not finite numbers after step {self.trainer.state.global_step:,}, though the loss is."
                f"\n{self.trainer.last_good()} Lower --learning_rate, or give a --max_grad_norm."
            )

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """From here on SIGTERM is deferred, because there is something to save."""
        defer_stop(self.what_is_kept)
        self._evaluation_may_be_due = state.global_step > 0
        self.trainer.restore_progress()
        self._last_check = self._last_save = monotonic()
        self._note_progress()
        if state.global_step >= state.max_steps:
            self.on_step_begin(args, state, control)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Make up for the evaluation that an interruption cut off, before the first step after it."""
        if self._evaluation_may_be_due:
            self._evaluation_may_be_due = False
            self.trainer.make_up_for_evaluation()

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count the batches that are accumulated in a step."""
        self._batch += 1

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Check, if it is time."""
        self._batch = 0
        if not self._check_is_due("training"):
            return
        interval = max(60 * args.save_minutes, LEAST_INTERVAL_PER_SAVE * self._save_seconds)
        save = args.save_minutes > 0 and monotonic() - self._last_save >= interval
        bad, stop, save = self._check(save)
        self._fail_on_bad_loss(bad)
        if stop:
            # An evaluation that is due now may take longer than the machine has; the resumed run makes up for it.
            self._stopping = True
            control.should_evaluate = False
        control.should_save = bool(control.should_save or stop or save)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop, if the checkpoint was saved for that."""
        if self._stopping:
            self.stop()

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Check while scoring too; an interrupted scoring starts over."""
        if not self._check_is_due("scoring"):
            return
        _, stop, _ = self._check(save=False)
        if stop:
            self.trainer.save_before_stop()
            self.stop()

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note the number of steps done, from which a resumed run tells how many an interruption cost."""
        if self.trainer.is_in_train:
            self._note_progress()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Check for the last time."""
        self.require_finite()
        self._note_progress()

    def stop(self) -> None:
        """End the run with `Interrupted`, whose message says what is saved and how to go on."""
        trainer, step = self.trainer, self.trainer.state.global_step
        if trainer.is_world_process_zero():
            trainer.checkpoints.note_progress(step, cause="SIGTERM")
        folder = trainer.checkpoints.run_folder.checkpoint(step)
        saved = f", saved as {folder}." if trainer.saved_step == step > 0 else f". {trainer.last_good()}"
        raise Interrupted(f"Interrupted by SIGTERM after step {step:,}{saved} {self._how_to_go_on()}")

    def what_is_kept(self) -> str:
        """What a run that Ctrl-C ends here leaves behind, and how to go on: the end of a sentence, and another."""
        trainer, step = self.trainer, self.trainer.state.global_step
        saved = trainer.checkpoints.run_folder.checkpoint(trainer.saved_step)
        if not trainer.saved_step:
            advice = "No checkpoint is saved yet: start the same command again."
        else:
            advice = f"{saved} is kept. {self._how_to_go_on()}"
        if trainer.model_is_saved:
            return f"after the training: the model is saved in {trainer.args.output_dir}, its report is not. {advice}"
        return f"after step {step:,}. {advice}"

    def _how_to_go_on(self) -> str:
        if self.trainer.args.save_only_model:
            return (
                "Without the optimiser (--save_only_model) nothing goes on from it: start again from the beginning, "
                "without --resume_from_checkpoint."
            )
        return "Start the same command again with --resume_from_checkpoint auto."

    def _check_is_due(self, activity: str) -> bool:
        if activity != self._activity:
            # The steps of training and of scoring may take very different times.
            self._activity, self._steps_between_checks = activity, 1
        self._steps_since_check += 1
        alone = self.trainer.args.world_size == 1
        return self._steps_since_check >= self._steps_between_checks or (alone and stop_requested())

    def _check(self, save: bool) -> tuple[int, bool, bool]:
        """First bad step of any process, negated, as processes agree on maxima; whether to stop; whether to save."""
        seconds = max(monotonic() - self._last_check, 1e-6)
        wanted = int(SECONDS_BETWEEN_CHECKS / seconds * self._steps_since_check)
        wanted = max(1, min(wanted, 2 * self._steps_between_checks, MOST_STEPS_BETWEEN_CHECKS))
        main = self.trainer.is_world_process_zero()
        bad, stop, save, wanted = self._largest(
            -self._first_bad_step(), int(stop_requested()), int(save and main), wanted if main else 0
        )
        self._steps_between_checks, self._steps_since_check, self._last_check = wanted, 0, monotonic()
        return bad, bool(stop), bool(save)

    def _largest(self, *values: int) -> list[int]:
        """The largest of each value over all processes."""
        if self.trainer.args.world_size == 1:
            return list(values)
        shared = torch.tensor(values, dtype=torch.int64, device=self.trainer.args.device)
        torch.distributed.all_reduce(shared, torch.distributed.ReduceOp.MAX)
        return shared.tolist()

    def _first_bad_step(self) -> int:
        """First of as many steps with a bad loss in a row as the run fails on, in this process; `NEVER` if none."""
        if self._losses:
            finite = torch.stack([loss.float() for *_, loss in self._losses]).isfinite().tolist()
            bad: dict[int, int] = {}
            for (step, batch, _), is_finite in zip(self._losses, finite, strict=True):
                if not is_finite:
                    bad.setdefault(step, batch)
            for step in dict.fromkeys(step for step, *_ in self._losses):
                if len(self._bad_steps) >= self._patience():
                    break
                self._bad_steps = [*self._bad_steps, (step, bad[step])] if step in bad else []
            self._losses.clear()
        if not self._bad_steps and self._gradient_norms:
            last = max(self._gradient_norms)
            self._gradient_norms = {last: self._gradient_norms[last]}
        return self._bad_steps[0][0] if len(self._bad_steps) >= self._patience() else NEVER

    def _patience(self) -> int:
        return 1 if self.trainer.accelerator.scaler is None else BAD_STEPS_WITH_SCALER

    def _fail_on_bad_loss(self, negative_step: int) -> None:
        if -negative_step == NEVER:
            return
        if self._first_bad_step() != -negative_step:
            raise SystemExit(1)  # the process that had the bad loss reports it
        step, batch = self._bad_steps[0]
        # After an infinite gradient the weights are not finite, and from the next step on no loss is.
        if self._patience() == 1 and self._gradient_was_bad(step - 1):
            batches = range(self.trainer.args.gradient_accumulation_steps)
            ids = [name for each in batches for name in self.trainer.ids_of_batch(step - 1, each)]
            what = f"the gradient is not finite in step {step:,}, though the loss is"
        else:
            ids = self.trainer.ids_of_batch(step, batch)
            again = f" and in the {self._patience() - 1} after it" if self._patience() > 1 else ""
            what = f"the loss is not a finite number in step {step + 1:,}{again}"
        shown = ", ".join(printable(str(name)) for name in ids)
        fp16 = self.trainer.accelerator.mixed_precision == "fp16"
        wider = ", or leave fp16: --mixed_precision no, or bf16 on a card that has it" if fp16 else ""
        advice = f"{self.trainer.last_good()} Look at those rows, or lower --learning_rate{wider}."
        raise RunFailure(f"{what}; the ids of that batch: {shown}.\n{advice}")

    def _gradient_was_bad(self, step: int) -> bool:
        """Whether the gradient of the step before the first bad loss was not finite."""
        if self._bad_losses_change_nothing:
            states = [value for state in self.trainer.optimizer.state.values() for value in state.values()]
            return not _are_finite([value for value in states if isinstance(value, torch.Tensor)])
        return not math.isfinite(self._gradient_norms.get(step, 0.0))

    def _note_progress(self) -> None:
        state = self.trainer.state
        if self.trainer.is_world_process_zero():
            self.trainer.checkpoints.note_progress(state.global_step, trained=state.global_step >= state.max_steps)


def all_finite(model: torch.nn.Module) -> bool:
    """Whether all weights of a model are finite numbers."""
    return _are_finite([parameter.detach() for parameter in model.parameters()])


def _are_finite(tensors: list[torch.Tensor]) -> bool:
    parts = [tensor for tensor in tensors if tensor.is_floating_point()]
    parts = [getattr(part, "to_local", lambda part=part: part)() for part in parts]
    return math.isfinite(sum(part.float().abs().max() for part in parts if part.numel()))
