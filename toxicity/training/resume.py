"""Going on where a run was interrupted: from which checkpoint, whether it is of the same run, what went before."""

from __future__ import annotations

import dataclasses
import json
import logging
import platform
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import xxhash
from datasets import Dataset
from transformers import TrainingArguments as HfTrainingArguments

from toxicity.core import distributed
from toxicity.core.arguments import Arguments
from toxicity.core.errors import RequestError
from toxicity.core.files import write_text
from toxicity.models.pretrained import refuse_pickled_weights
from toxicity.training.checkpoints import (
    DAMAGE,
    INDEX,
    checkpoints_in,
    clear_leftovers,
    fault_of,
    newest_whole,
    publish,
    read_index,
    rotate,
    seal,
    seems_whole,
    unfinished_path,
)

logger = logging.getLogger(__name__)

AUTO = "auto"
PROGRESS = ".progress.json"
NOTED = {
    **{"run_id": str, "step": int, "cause": str, "trained": bool},
    **{"interruptions": list, "request": dict, "tokenizing": dict},
}
FINISHED = "finished"
ROWS_PER_BATCH = 100_000

# Fields of transformers' TrainingArguments that change the weights, beside those that make up `batch_size`.
FIELDS_THAT_TRAIN = (
    *("num_train_epochs", "max_steps", "seed", "data_seed", "train_sampling_strategy", "dataloader_drop_last"),
    *("optim", "optim_args", "learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps"),
    *("weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "neftune_noise_alpha"),
)
# Those that with `load_best_model_at_end` decide which weights a run ends with.
FIELDS_THAT_CHOOSE = (
    *("metric_for_best_model", "greater_is_better", "eval_strategy", "eval_steps", "eval_delay"),
    *("save_strategy", "save_steps"),
)
# Fields of our own that do not.
FIELDS_THAT_DO_NOT = ("save_minutes",)


def describe_request(arguments: Arguments, train: Dataset, validation: Dataset) -> dict[str, Any]:
    """All that decides which weights a training ends with, and on which rows they are judged.

    Data count by their content: the same comments in another file are the same request.

    Args:
        arguments: the parsed request.
        train: rows with `input_ids`, `length` and their targets.
        validation: likewise.

    Returns:
        Facts as JSON has them, named as the flags are where there is one.
    """
    options = arguments.training
    facts = {
        "training comments": _digest(train),
        "validation comments": _digest(validation),
        "max_seq_length": arguments.data.max_seq_length,
        "batch size": options.train_batch_size * options.gradient_accumulation_steps * options.world_size,
        "mixed_precision": options.mixed_precision,
        "load_best_model_at_end": options.load_best_model_at_end,
    }
    for group in (getattr(arguments, field.name) for field in dataclasses.fields(arguments)):
        if dataclasses.is_dataclass(group) and group not in (arguments.data, arguments.machine, options):
            facts |= dataclasses.asdict(group)
    of_transformers = {field.name for field in dataclasses.fields(HfTrainingArguments)}
    own = [field.name for field in dataclasses.fields(options) if field.name not in of_transformers]
    chosen_by = FIELDS_THAT_CHOOSE if options.load_best_model_at_end else ()
    names = (*FIELDS_THAT_TRAIN, *chosen_by, *own)
    facts |= {name: getattr(options, name) for name in names if name not in FIELDS_THAT_DO_NOT}
    return json.loads(json.dumps(facts, default=lambda value: getattr(value, "value", str(value))))


def differences(saved: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """What sets two requests apart, as parts of a sentence."""
    return [
        f"the {name} are others" if name.endswith("comments") else f"{name} was {saved.get(name)} and is {value}"
        for name, value in asked.items()
        if saved.get(name) != value
    ]


class Checkpoints:
    """The checkpoints of one run, and its history over all its parts.

    Args:
        output_dir: where they are kept.
        request: of `describe_request`.
        tokenizing: `seconds` of the tokenizer, and `cache_hit` and `rows` behind them; those of the first part once
            `choose` found it.

    `interruptions` lists, for each time that the run was taken up again: `step` it went on from, the `checkpoint` of
    it, its `cause` (`SIGTERM`, or `unknown` where it could not say goodbye), `resumed_at` (UTC) and `repeated_steps`,
    those that had to be computed again.
    """

    def __init__(
        self, output_dir: Path, request: dict[str, Any] | None = None, tokenizing: dict[str, Any] | None = None
    ) -> None:
        self.output_dir = output_dir
        self.request = request or {}
        self.tokenizing = tokenizing or {}
        self.interruptions: list[dict[str, Any]] = []
        self.progress: dict[str, Any] | None = None
        self.run_id = secrets.token_hex(8)
        self._told_of_notes = False

    def choose(self, wanted: str | None) -> str | None:
        """Choose the checkpoint to go on from, and take over the history that it holds.

        The first process looks, and the others follow it.

        Args:
            wanted: None to start anew, `auto` for the newest whole checkpoint if there is one, or its path.

        Returns:
            Path of the checkpoint, None to start from the beginning.

        Raises:
            RequestError: if the one that was named is torn, of another request, holds pickled weights, or is not on
                every machine.
        """
        decision = distributed.once(lambda: self._decide(wanted))
        folder = decision["folder"]
        distributed.all_or_none(lambda: _require_here(folder))
        for name in ("tokenizing", "interruptions", "progress", "run_id"):
            setattr(self, name, decision.get(name, getattr(self, name)))
        return folder

    def save(self, step: int, write: Callable[[Path], None], facts: Callable[[], dict[str, Any]], writer: bool) -> None:
        """Write a checkpoint whole or not at all; every process calls it.

        Args:
            step: optimiser steps done.
            write: writes the files of this process into a folder.
            facts: gives what else is to be remembered: `progress` for one, and `cause` of the save.
            writer: whether this process names the folder when all are done.
        """
        unfinished = unfinished_path(self.output_dir, step)
        unfinished.mkdir(parents=True, exist_ok=True)
        write(unfinished)
        told = facts()
        _wait_for_all()
        if writer:
            history = {
                "step": step,
                "run_id": self.run_id,
                "processes": distributed.count(),
                "request": self.request,
                "tokenizing": self.tokenizing,
                "interruptions": self.interruptions,
            }
            seal(unfinished, history | told)
            publish(unfinished)
        _wait_for_all()

    def rotate(self, step: int, limit: int | None, best: str | None) -> None:
        """Delete old checkpoints beyond the limit, now that the one of this step is whole."""
        rotate(self.output_dir, limit, self.path_of(step), best)

    def path_of(self, step: int) -> Path:
        """Where the checkpoint of a step is, or would be."""
        return self.output_dir / f"checkpoint-{step}"

    def last_good(self) -> Path | None:
        """The newest checkpoint that is whole, as far as the names and sizes of its files tell."""
        return next((folder for folder in reversed(checkpoints_in(self.output_dir)) if seems_whole(folder)), None)

    def note_progress(self, step: int, cause: str = "unknown", trained: bool = False) -> None:
        """Remember outside of checkpoints how far the run came, its interruptions, and why it stops here if it does.

        Only the account of interruptions hangs on it, so a disk that does not take it is told of and stops nothing.

        Args:
            step: optimiser steps done.
            cause: why it stops here if it does: `unknown`, `SIGTERM`, or `FINISHED`.
            trained: whether these are all steps there were to do.
        """
        note = {"run_id": self.run_id, "step": step, "cause": cause, "trained": trained}
        note |= {"interruptions": self.interruptions, "request": self.request, "tokenizing": self.tokenizing}
        try:
            self.output_dir.mkdir(parents=True, exist_ok=True)
            write_text(self.output_dir / PROGRESS, json.dumps(note))
        except OSError as error:
            if not self._told_of_notes:
                logger.warning(f"{self.output_dir / PROGRESS} cannot be written, and the run goes on: {error}")
            self._told_of_notes = True

    def _decide(self, wanted: str | None) -> dict[str, Any]:
        clear_leftovers(self.output_dir)
        if wanted is None:
            if earlier := self.last_good():
                logger.warning(
                    f"Starting anew beside {earlier} of an earlier run: checkpoints of the same step replace its own, "
                    f"and --save_total_limit counts them. --resume_from_checkpoint {AUTO} would go on with it; another "
                    "--output_dir would leave it alone."
                )
            return {"folder": None, "run_id": self.run_id}
        if wanted == AUTO:
            folder = newest_whole(self.output_dir)
            if folder is None:
                logger.warning(f"There is no whole checkpoint in {self.output_dir}: starting from the beginning.")
                return self._from_the_beginning()
        else:
            folder = Path(wanted)
            if not folder.is_dir():
                raise RequestError(
                    f"there is no checkpoint {folder}: --resume_from_checkpoint {AUTO} takes the newest whole one."
                )
        refuse_pickled_weights(folder)
        if wanted != AUTO and (fault := fault_of(folder)):
            raise RequestError(
                f"the checkpoint {folder} is torn: {fault}. --resume_from_checkpoint {AUTO} takes the newest whole one."
            )
        index = read_index(folder)
        if changed := differences(index["request"], self.request):
            raise RequestError(
                f"{folder} is of another run: {'; '.join(changed[:6])}. Ask for the same again, or start anew "
                "in another --output_dir."
            )
        if not index["resumable"]:
            raise RequestError(f"{folder} was written with --save_only_model: without the optimiser nothing goes on.")
        if index.get("processes", distributed.count()) != distributed.count():
            logger.warning(
                f"{folder} is of {index['processes']} processes, and these are {distributed.count()}: the random "
                "numbers of dropout are others from here on, and so are the weights at the end."
            )
        logger.info(f"Going on from {folder}, after {index['step']:,} steps.")
        return {
            "folder": str(folder),
            "run_id": index["run_id"],
            "tokenizing": index["tokenizing"],
            "progress": index["progress"],
            "interruptions": self._interruptions_until(folder, index),
        }

    def _interruptions_until(self, folder: Path, index: dict[str, Any]) -> list[dict[str, Any]]:
        """What interrupted the run of a checkpoint up to now."""
        interruptions, came_to, cause = index["interruptions"], index["step"], "unknown"
        note = self._noted()
        if note.get("run_id") == index["run_id"]:
            interruptions, came_to, cause = note["interruptions"], max(came_to, note["step"]), note["cause"]
            if cause == FINISHED and came_to == index["step"]:
                return interruptions
        elif note:
            logger.warning(
                f"The last run in {self.output_dir} left no whole checkpoint. {folder} is of the one before it, which "
                "is gone on with, times and all; to start anew, take another --output_dir."
            )
        cause = "unknown" if cause == FINISHED else cause
        return [*interruptions, _interruption(index["step"], folder.name, cause, came_to - index["step"])]

    def _from_the_beginning(self) -> dict[str, Any]:
        """A start after a run that did not come as far as its first checkpoint."""
        decision, note = {"folder": None, "run_id": self.run_id}, self._noted()
        if note and not note["trained"] and note["request"] == self.request:
            again = _interruption(0, None, "unknown", note["step"])
            decision |= {"run_id": note["run_id"], "interruptions": [*note["interruptions"], again]}
            decision |= {"tokenizing": note["tokenizing"]}
        return decision

    def _noted(self) -> dict[str, Any]:
        """What `note_progress` wrote last, empty where there is nothing that it could have written."""
        try:
            note = json.loads((self.output_dir / PROGRESS).read_text(encoding="utf-8"))
            return {name: kind(note[name]) for name, kind in NOTED.items()}
        except DAMAGE:
            return {}


def _interruption(step: int, checkpoint: str | None, cause: str, repeated_steps: int) -> dict[str, Any]:
    return {
        "step": step,
        "checkpoint": checkpoint,
        "cause": cause,
        "resumed_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "repeated_steps": repeated_steps,
    }


def _digest(rows: Dataset) -> str:
    """32 hexadecimal digits of the token ids of a dataset and of their targets, in their order."""
    digest = xxhash.xxh3_128()
    for batch in rows.remove_columns("length").with_format("arrow").iter(ROWS_PER_BATCH):
        for name in batch.column_names:
            for chunk in batch[name].chunks:
                if name == "input_ids":
                    digest.update(chunk.value_lengths().to_numpy(zero_copy_only=False))
                numbers = chunk if pa.types.is_floating(chunk.type) else chunk.flatten()
                digest.update(numbers.to_numpy(zero_copy_only=False))
    return digest.hexdigest()


def _require_here(folder: str | None) -> None:
    if folder is not None and not (Path(folder) / INDEX).is_file():
        raise RequestError(
            f"the first process goes on from {folder}, which is not on {platform.node()}, the machine of process "
            f"{distributed.rank()}: share --output_dir between the machines, or copy it there."
        )


def _wait_for_all() -> None:
    if distributed.count() > 1:
        torch.distributed.barrier()
