"""A Trainer whose runs survive interruptions: whole checkpoints, exact resumption, no saving of broken weights."""

from __future__ import annotations

import logging
import pickle
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from transformers import DefaultFlowCallback, Trainer, TrainerControl
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import SaveStrategy

from toxicity.core.disk import full_disk_explained
from toxicity.core.errors import RequestError, RunFailure, one_line
from toxicity.core.files import flush, give_usual_modes
from toxicity.data.token_dataset import FILLER
from toxicity.hardware.timing import PhaseClock
from toxicity.training.batching import set_epoch, steps_per_epoch
from toxicity.training.callbacks import EpochCallback
from toxicity.training.checkpoints import fault_of, rotate, unfinished_path
from toxicity.training.machines import is_lost_process
from toxicity.training.monitor import Monitor
from toxicity.training.random_state import restore_random_state, save_random_state
from toxicity.training.resume import Checkpoints

logger = logging.getLogger(__name__)

# An upper estimate for what a checkpoint holds beside weights and optimiser: tokenizer, configuration, schedule.
BYTES_OF_SMALL_FILES = 4 * 2**20


class ResumableTrainer(Trainer):
    """Writes checkpoints through `Checkpoints.save`; a resumed run ends with the weights of an uninterrupted one.

    It never contacts the Hub, whatever `--push_to_hub` says: the callback `hub.publisher.Publisher` publishes.

    Args:
        clock: its seconds are saved with a checkpoint and restored from it. The training loop is charged to the phase
            `training`, saving to `checkpoint`, evaluating to `evaluation`.
        checkpoints: of this run; by default a new run's.
        train_ids: ids of the training rows, for messages; by default their indices.
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
        self.monitor = Monitor(self)
        self.add_callback(EpochCallback(clock))
        self.add_callback(self.monitor)
        self._limit = self.args.save_total_limit
        self.saved_step = 0  # the last one with a checkpoint
        self.model_is_saved = False  # the trained one, in `output_dir` itself
        self._random_state: torch.Tensor | None = None  # of torch, from before the evaluation in progress
        self._resumed_from: Path | None = None  # the checkpoint

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Do nothing; the Trainer's own would contact the Hub, and end the run if that fails."""

    def push_to_hub(self, *args: Any, **kwargs: Any) -> None:
        """Refuse; the Trainer's own would upload nearly all of `output_dir`, comments in the report too."""
        raise RequestError("a run is published by the callback Publisher, or by python -m toxicity.hub.")

    def counts(self) -> dict[str, int]:
        """What a checkpoint records of the work that was done, over all processes."""
        return {}

    def restore_counts(self, counts: dict[str, int]) -> None:
        """Take over what `counts` returned when the checkpoint was written."""

    def train(self, resume_from_checkpoint: str | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train as the Trainer does; times and counts of the parts before an interruption are included.

        Raises:
            RequestError: if the checkpoint holds a pickle of anything but tensors and plain values.
            RunFailure: if the loss is no longer finite, the disk is full, the best checkpoint is wanted and torn, or
                another process of the run is gone.
            Interrupted: after SIGTERM, when a checkpoint is saved.
        """
        if resume_from_checkpoint is not None and self.checkpoints.progress is not None:
            self.clock.seconds.update(self.checkpoints.progress["seconds"])
            self.restore_counts(self.checkpoints.progress["counts"])
        self._resumed_from = None if resume_from_checkpoint is None else Path(resume_from_checkpoint)
        # Hidden from the Trainer, which with a limit of 1 deletes all checkpoints but the best at the end, the newest
        # too, before the validation rows are scored.
        if self._limit == 1:
            self.args.save_total_limit = None
        try:
            return super().train(resume_from_checkpoint, *args, **kwargs)
        except pickle.UnpicklingError as error:
            raise RequestError(
                f"{resume_from_checkpoint} holds a pickle of more than tensors, which may be code, and is not read "
                "further. Go on from a checkpoint that you trust."
            ) from error
        except RuntimeError as error:
            if not is_lost_process(error):
                raise
            raise RunFailure(
                f"another process of this run is gone: {one_line(error)}\n{self.last_good()} Start again with "
                "--resume_from_checkpoint auto."
            ) from error
        finally:
            self.args.save_total_limit = self._limit

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Compute loss and gradients of a batch as the Trainer does, and hand the loss to the monitor."""
        loss = super().training_step(*args, **kwargs)
        self.monitor.note_loss(loss)
        return loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate as the Trainer does; an interruption then saves the random state from before it."""
        # Without dropout the only number drawn is a seed for the data loader, on the CPU.
        self._random_state = torch.get_rng_state() if self.is_in_train else None
        with self.clock.phase("evaluation"):
            metrics = super().evaluate(*args, **kwargs)
        self._random_state = None
        return metrics

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the trained model and its tokenizer, each file whole or not at all; all processes call it."""
        state_dict = self.accelerator.get_state_dict(self.model)
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        unfinished = folder / ".model.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        with self.full_disk_explained(folder, "the model", self._bytes_of_model(), cleanup=unfinished):
            self.write_model(unfinished, state_dict)
            if self.processing_class is not None:
                self.processing_class.save_pretrained(unfinished)
            give_usual_modes(unfinished)
            for path in sorted(unfinished.iterdir()):
                flush(path)
                path.replace(folder / path.name)
            unfinished.rmdir()
        self.model_is_saved = True

    def write_model(self, folder: Path, state_dict: dict[str, torch.Tensor]) -> None:
        """Write weights and configuration of the trained model into a folder."""
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        model.save_pretrained(folder, state_dict=state_dict)

    def save_before_stop(self) -> None:
        """Save a checkpoint in the middle of an evaluation, unless this step has one already."""
        # After the best weights are loaded, at the end of the training, those of the last step are gone.
        if self.saved_step == self.state.global_step or (not self.is_in_train and self.args.load_best_model_at_end):
            return
        if self._random_state is not None:
            torch.set_rng_state(self._random_state)
        self._save_now()

    def make_up_for_evaluation(self) -> None:
        """Do the evaluation that was due at the step of the checkpoint, if its log does not have it."""
        state, control, flow = self.state, TrainerControl(), DefaultFlowCallback()
        flow.on_step_end(self.args, state, control)
        if state.global_step % steps_per_epoch(self.get_train_dataloader(), self.args) == 0:
            flow.on_epoch_end(self.args, state, control)
        done = any(entry["step"] == state.global_step and "eval_loss" in entry for entry in state.log_history)
        if control.should_evaluate and not done:
            best = self._determine_best_metric(self._evaluate(None, None), trial=None)
            if best and self.args.save_strategy == SaveStrategy.BEST:
                self._save_now()

    def restore_progress(self) -> None:
        """Restore what the Trainer does not: the loss since it was last logged, and some devices' random state."""
        self.saved_step = self.state.global_step
        if self._resumed_from is not None:
            restore_random_state(self._resumed_from, self.args.device)
        if self.state.global_step and self.checkpoints.progress is not None:
            loss = self.checkpoints.progress["loss"]
            self._tr_loss = torch.tensor(loss["since_logged"], device=self.args.device)
            self._total_loss_scalar, self._globalstep_last_logged = loss["logged"], loss["last_logged_step"]

    def ids_of_batch(self, step: int, batch: int) -> list[Any]:
        """Ids of the rows in a batch of this process; `row 7 of the training rows` for one without an id.

        Args:
            step: optimiser steps done before it, since the first epoch began.
            batch: index among the batches that are accumulated in that step.
        """
        loader = self.get_train_dataloader()
        epoch, step_of_epoch = divmod(step, steps_per_epoch(loader, self.args))
        set_epoch(loader, epoch)
        wanted = step_of_epoch * self.args.gradient_accumulation_steps + batch
        rows = next((rows for index, rows in enumerate(loader.batch_sampler) if index == wanted), [])
        rows = [row for row in rows if row != FILLER]
        if self.train_ids is None:
            return rows
        ids = [self.train_ids[row] for row in rows]
        return [f"row {row} of the training rows" if id_ is None else id_ for row, id_ in zip(rows, ids, strict=True)]

    def last_good(self) -> str:
        """A sentence that names the newest whole checkpoint."""
        folder = self.checkpoints.last_good()
        return f"The last good checkpoint is {folder}." if folder else "No checkpoint was written before."

    def full_disk_explained(
        self, folder: Path, what: str, needed: int = 0, cleanup: Path | None = None, kept: str = ""
    ) -> AbstractContextManager[None]:
        """`disk.full_disk_explained`; the message says what is `kept`, names the last checkpoint, and how to go on."""
        advice = "Make room, or raise the quota, and start again with --resume_from_checkpoint auto."
        return full_disk_explained(
            folder, what, lambda: f"{kept} {self.last_good()} {advice}".lstrip(), needed, cleanup
        )

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        # Without clipping, the monitor needs no pass over all gradients for it.
        if grad_norm is None and self.monitor.has_optimiser_pass_over_bad_losses():
            return None
        # The log has the norm only every `logging_steps`; the monitor needs that of the step before a bad loss.
        grad_norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        self.monitor.note_gradient(grad_norm)
        return grad_norm

    def _load_best_model(self) -> None:
        best = Path(self.state.best_model_checkpoint)
        if fault := fault_of(best):
            raise RunFailure(
                f"the best checkpoint, {best}, is torn: {fault}.\nIts weights are not taken. Going on from an older "
                "one by its name (--resume_from_checkpoint) makes it again."
            )
        super()._load_best_model()

    def _save_now(self) -> None:
        self._save_checkpoint(self.model_wrapped, trial=None)
        self.control = self.callback_handler.on_save(self.args, self.state, self.control)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        self.monitor.require_finite()
        started, step, writer = monotonic(), self.state.global_step, self.args.should_save
        folder = self.checkpoints.run_folder.checkpoint(step)
        cleanup = unfinished_path(folder.parent, step) if writer else None
        with self.clock.phase("checkpoint"):
            self.store_flos()
            needed = self._bytes_of_training() if writer else 0
            with self.full_disk_explained(folder.parent, folder.name, needed, cleanup):
                self.checkpoints.save(step, self._write_checkpoint, self._facts, writer)
            if writer:
                rotate(folder.parent, self._limit, folder, self.state.best_model_checkpoint)
        self.saved_step = step
        self.monitor.note_save(monotonic() - started)
        logger.info(f"Saved {folder} in {monotonic() - started:.1f} seconds.")

    def _write_checkpoint(self, folder: Path) -> None:
        """Write this process's files of a checkpoint into a folder, the same ones as `Trainer._save_checkpoint`."""
        super().save_model(str(folder), _internal_call=True)
        # The arguments as a pickle: everything on the command line, tokens too, and nobody reads it.
        (folder / TRAINING_ARGS_NAME).unlink(missing_ok=True)
        if self.state.best_global_step:
            best = self.checkpoints.run_folder.checkpoint(self.state.best_global_step)
            if best.exists() or self.state.best_global_step == self.state.global_step:
                self.state.best_model_checkpoint = str(best)
        if not self.args.save_only_model:
            self._save_optimizer_and_scheduler(str(folder))
            self._save_scaler(str(folder))
            self._save_rng_state(str(folder))
            save_random_state(folder, self.args.device)
        if self.args.should_save:
            exportable = [c for c in (*self.callback_handler.callbacks, self.control) if isinstance(c, ExportableState)]
            self.state.stateful_callbacks = {}
            for callback in exportable:
                self.state.stateful_callbacks.setdefault(type(callback).__name__, []).append(callback.state())
            self.state.save_to_json(str(folder / TRAINER_STATE_NAME))

    def _facts(self) -> dict[str, Any]:
        # Entering the phase again charges the time that it took so far. A scoring that is cut off starts over.
        with self.clock.phase("checkpoint"):
            seconds = {phase: spent for phase, spent in self.clock.seconds.items() if phase != "inference"}
        since_logged = self.accelerator.reduce(self._tr_loss.detach().clone(), reduction="mean").item()
        logged, step = self._total_loss_scalar, self._globalstep_last_logged
        loss = {"since_logged": since_logged, "logged": logged, "last_logged_step": step}
        progress = {"seconds": seconds, "counts": self.counts(), "loss": loss}
        return {"resumable": not self.args.save_only_model, "progress": progress}

    def _bytes_of_model(self) -> int:
        return BYTES_OF_SMALL_FILES + sum(parameter.nbytes for parameter in self.model.parameters())

    def _bytes_of_training(self) -> int:
        moments = (value for state in self.optimizer.state.values() for value in state.values())
        return self._bytes_of_model() + sum(value.nbytes for value in moments if isinstance(value, torch.Tensor))
