"""A Trainer whose training outlives its process: saved whole, taken up where it was, stopped before it spoils."""

from __future__ import annotations

import logging
import pickle
import random
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from transformers import Trainer
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from toxicity.core import distributed
from toxicity.core.disk import full_disk_explained
from toxicity.core.errors import RequestError, RunFailure
from toxicity.core.files import flush
from toxicity.data.token_dataset import FILLER
from toxicity.hardware.timing import PhaseClock
from toxicity.training.checkpoints import UNFINISHED, fault_of, unfinished_path
from toxicity.training.monitor import Watch
from toxicity.training.resume import Checkpoints

logger = logging.getLogger(__name__)

# The tokenizer, the configuration and the schedule beside the weights and the optimiser's state.
BYTES_OF_THE_REST = 4 * 2**20


class ResumableTrainer(Trainer):
    """Writes checkpoints by `Checkpoints.save` and goes on from them to the weights of an uninterrupted training.

    Args:
        clock: its seconds are saved with a checkpoint and restored from it; saving is charged to `checkpoint`.
        checkpoints: of this run; by default of one that nobody will go on with.
        train_ids: ids of the training rows, for messages; by default their numbers.
        options: of the Trainer.
    """

    def __init__(
        self,
        *,
        clock: PhaseClock,
        checkpoints: Checkpoints | None = None,
        train_ids: Sequence[Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.clock = clock
        self.checkpoints = checkpoints or Checkpoints(Path(self.args.output_dir))
        self.train_ids = train_ids
        self.watch = Watch(self)
        self.add_callback(self.watch)
        self._step_of_parts, self._parts = -1, 0
        self._saved_step = 0
        self._random_state: tuple[Any, ...] | None = None

    def counts(self) -> dict[str, int]:
        """What a checkpoint remembers of the work that was done, over all processes."""
        return {}

    def restore_counts(self, counts: dict[str, int]) -> None:
        """Take over what `counts` gave when the checkpoint was written."""

    def train(self, resume_from_checkpoint: str | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train as the Trainer does, with the times and counts of the parts before.

        Raises:
            RequestError: if the checkpoint holds a pickle of anything but tensors and plain values.
            RunFailure: if the loss stops being a number, the disk is full, or the best checkpoint is wanted and torn.
            Interrupted: after SIGTERM, when a checkpoint is saved.
        """
        if resume_from_checkpoint is not None and self.checkpoints.progress is not None:
            self.clock.seconds.update(self.checkpoints.progress["seconds"])
            self.restore_counts(self.checkpoints.progress["counts"])
        try:
            return super().train(resume_from_checkpoint, *args, **kwargs)
        except pickle.UnpicklingError as error:
            raise RequestError(
                f"{resume_from_checkpoint} holds a pickle of more than tensors, which may be code, and is not read "
                "further. Go on from a checkpoint that you trust."
            ) from error

    def training_step(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Train on a batch, and hand its loss to the watch."""
        loss = self.train_on_batch(model, inputs, *args, **kwargs)
        if self._step_of_parts != self.state.global_step:
            self._step_of_parts, self._parts = self.state.global_step, 0
        self.watch.note_loss(self.state.global_step, self._parts, loss)
        self._parts += 1
        return loss

    def train_on_batch(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Train on a batch as the Trainer does."""
        return super().training_step(model, inputs, *args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate as the Trainer does; an interruption then saves the state from before."""
        self._random_state = _random_state() if self.is_in_train else None
        try:
            return super().evaluate(*args, **kwargs)
        finally:
            self._random_state = None

    @property
    def saved(self) -> bool:
        """Whether there is a checkpoint of the step that the training has come to."""
        return self._saved_step == self.state.global_step > 0

    def save_before_stop(self) -> None:
        """Save where the training is, from the midst of an evaluation; nothing if that is saved already."""
        # With the best weights loaded at the end, those of the last step are gone.
        if self._saved_step == self.state.global_step or (not self.is_in_train and self.args.load_best_model_at_end):
            return
        if self._random_state is not None:
            _restore_random_state(self._random_state)
        self._save_checkpoint(self.model_wrapped, trial=None)

    def make_up_for_evaluation(self) -> None:
        """Do the evaluation that was due at the step of the checkpoint and is not in its log."""
        args, state = self.args, self.state
        if args.eval_strategy == IntervalStrategy.STEPS:
            due = state.global_step % state.eval_steps == 0 and args.eval_delay <= state.global_step
        elif args.eval_strategy == IntervalStrategy.EPOCH:
            due = state.global_step % self._steps_per_epoch() == 0 and args.eval_delay <= state.epoch
        else:
            due = False
        done = any(entry["step"] == state.global_step and "eval_loss" in entry for entry in state.log_history)
        if due and not done:
            best = self._determine_best_metric(self._evaluate(None, None), trial=None)
            if best and args.save_strategy == SaveStrategy.BEST:
                self._save_checkpoint(self.model_wrapped, trial=None)

    def resumed(self) -> None:
        """Restore what the Trainer does not: the loss since it was last logged, so that the curve goes on as it was."""
        self._saved_step = self.state.global_step
        if self.state.global_step and self.checkpoints.progress is not None:
            loss = self.checkpoints.progress["loss"]
            self._tr_loss = torch.tensor(loss["since_logged"], device=self.args.device)
            self._total_loss_scalar, self._globalstep_last_logged = loss["logged"], loss["last_logged_step"]

    def ids_of_batch(self, step: int, part: int) -> list[Any]:
        """Ids of the rows in a batch of this process.

        Args:
            step: optimiser steps done before it, since the first epoch began.
            part: which of the batches that are accumulated in that step.
        """
        epoch, step_of_epoch = divmod(step, self._steps_per_epoch())
        loader = self.get_train_dataloader()
        _set_epoch(loader, epoch)
        wanted = step_of_epoch * self.args.gradient_accumulation_steps + part
        rows = next((rows for index, rows in enumerate(loader.batch_sampler) if index == wanted), [])
        return [row if self.train_ids is None else self.train_ids[row] for row in rows if row != FILLER]

    def last_good(self) -> str:
        """A sentence on the checkpoint that there is."""
        folder = self.checkpoints.last_good()
        return f"The last good checkpoint is {folder}." if folder else "No checkpoint was written before."

    def full_disk_explained(
        self, folder: Path, what: str, needed: int = 0, cleanup: Path | None = None, kept: str = ""
    ) -> AbstractContextManager[None]:
        """`disk.full_disk_explained` for a part of this run: tells the last checkpoint, and how the run goes on.

        Args:
            folder, what, needed, cleanup: as there.
            kept: a sentence on what else is whole.
        """

        def advice() -> str:
            return (
                f"{kept} {self.last_good()} Make room, or raise the quota, and start again with "
                "--resume_from_checkpoint auto."
            ).lstrip()

        return full_disk_explained(folder, what, advice, needed, cleanup)

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        grad_norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        self.watch.note_gradient(self.state.global_step, grad_norm)
        return grad_norm

    def _load_best_model(self) -> None:
        best = Path(self.state.best_model_checkpoint)
        if fault := fault_of(best):
            raise RunFailure(
                f"the best checkpoint, {best}, is torn: {fault}.\nIts weights are not taken. Going on from an older "
                "one by its name (--resume_from_checkpoint) makes it again."
            )
        super()._load_best_model()

    def _finalize_training(self, *args: Any, **kwargs: Any) -> Any:
        # With a limit of 1 the Trainer's own deletes all checkpoints but the best, the newest too, before the scoring.
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            return super()._finalize_training(*args, **kwargs)
        finally:
            self.args.save_total_limit = limit

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        # Accelerate's wrappers for skipped batches and for several processes do not pass the epoch on to the sampler.
        _set_epoch(kwargs["train_dataloader"], kwargs["epoch"])
        super()._run_epoch(*args, **kwargs)

    def _steps_per_epoch(self) -> int:
        return max(1, -(-len(self.get_train_dataloader()) // self.args.gradient_accumulation_steps))

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        self.watch.require_numbers()
        started, step, writer = monotonic(), self.state.global_step, self.args.should_save
        output_dir = self.checkpoints.output_dir
        with self.clock.phase("checkpoint"):
            self.store_flos()
            with self.full_disk_explained(
                output_dir,
                f"checkpoint-{step}",
                needed=self._bytes_of_training() if writer else 0,
                cleanup=unfinished_path(output_dir, step) if writer else None,
            ):
                self.checkpoints.save(step, self._write_checkpoint, self._facts, writer)
            if writer:
                self.checkpoints.rotate(step, self.args.save_total_limit, self.state.best_model_checkpoint)
            if self.args.push_to_hub:
                self._push_from_checkpoint(str(self.checkpoints.path_of(step)))
        self._saved_step = step
        self.watch.saved(monotonic() - started)
        logger.info(f"Saved {self.checkpoints.path_of(step)} in {monotonic() - started:.1f} seconds.")

    def _write_checkpoint(self, folder: Path) -> None:
        """Write what belongs to this process of a checkpoint, as `Trainer._save_checkpoint` does, into a folder."""
        self.save_model(str(folder), _internal_call=True)
        if self.state.best_global_step:
            best = self.checkpoints.path_of(self.state.best_global_step)
            if best.exists() or self.state.best_global_step == self.state.global_step:
                self.state.best_model_checkpoint = str(best)
        if not self.args.save_only_model:
            self._save_optimizer_and_scheduler(str(folder))
            self._save_scaler(str(folder))
            self._save_rng_state(str(folder))
        if self.args.should_save:
            exportable = [c for c in (*self.callback_handler.callbacks, self.control) if isinstance(c, ExportableState)]
            self.state.stateful_callbacks = {}
            for callback in exportable:
                self.state.stateful_callbacks.setdefault(type(callback).__name__, []).append(callback.state())
            self.state.save_to_json(str(folder / TRAINER_STATE_NAME))

    def _facts(self) -> dict[str, Any]:
        # Entering the phase again charges what it took so far.
        with self.clock.phase("checkpoint"):
            # Scoring that is cut off starts over.
            seconds = {phase: spent for phase, spent in self.clock.seconds.items() if phase != "inference"}
        loss = self.accelerator.reduce(self._tr_loss.detach().clone(), reduction="mean").item()
        return {
            "resumable": not self.args.save_only_model,
            "progress": {
                "seconds": seconds,
                "counts": self.counts(),
                "loss": {
                    "since_logged": loss,
                    "logged": self._total_loss_scalar,
                    "last_logged_step": self._globalstep_last_logged,
                },
            },
        }

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Save the model as the Trainer does, each file whole or not at all, and no pickle of the arguments."""
        folder = Path(output_dir or self.args.output_dir)
        if UNFINISHED.fullmatch(folder.name) or not self.args.should_save:
            super()._save(str(folder), state_dict)
            (folder / TRAINING_ARGS_NAME).unlink(missing_ok=True)
            return
        unfinished = folder / ".model.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        with self.full_disk_explained(folder, "the model", self._bytes_of_model(), cleanup=unfinished):
            self._save_model(unfinished, state_dict)
            # It holds all that was on the command line, tokens too, and nobody reads it.
            (unfinished / TRAINING_ARGS_NAME).unlink(missing_ok=True)
            for path in sorted(unfinished.iterdir()):
                flush(path)
                path.replace(folder / path.name)
            unfinished.rmdir()

    def _save_model(self, folder: Path, state_dict: dict[str, torch.Tensor] | None) -> None:
        """Write the trained model and the tokenizer into a folder, as the Trainer does."""
        super()._save(str(folder), state_dict)

    def _bytes_of_model(self) -> int:
        return BYTES_OF_THE_REST + sum(parameter.nbytes for parameter in self.model.parameters())

    def _bytes_of_training(self) -> int:
        moments = (value for state in self.optimizer.state.values() for value in state.values())
        return self._bytes_of_model() + sum(value.nbytes for value in moments if isinstance(value, torch.Tensor))


def _set_epoch(loader: Any, epoch: int) -> None:
    """Tell all samplers inside of a loader which epoch it is."""
    sampler = getattr(loader, "batch_sampler", None)
    while sampler is not None:
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
        sampler = getattr(sampler, "batch_sampler", None) or getattr(sampler, "sampler", None)


def _random_state() -> tuple[Any, ...]:
    device = distributed.accelerator()
    on_device = torch.get_device_module(device).get_rng_state_all() if device is not None else None
    return random.getstate(), np.random.get_state(), torch.random.get_rng_state(), on_device


def _restore_random_state(state: tuple[Any, ...]) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])
    torch.random.set_rng_state(state[2])
    if state[3] is not None:
        torch.get_device_module(distributed.accelerator()).set_rng_state_all(state[3])
