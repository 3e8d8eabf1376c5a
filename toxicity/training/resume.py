"""Resuming: which checkpoint to go on from, whether it belongs to the same run, and the record of interruptions."""

from __future__ import annotations

import json
import logging
import platform
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from toxicity.core import distributed
from toxicity.core.errors import RequestError
from toxicity.core.files import write_text
from toxicity.core.run_folder import RunFolder
from toxicity.core.training_arguments import LAST
from toxicity.models.pretrained import refuse_pickled_weights
from toxicity.training import checkpoints
from toxicity.training.request import differences

logger = logging.getLogger(__name__)

AUTO = "auto"
NOTE = ".progress.json"
FINISHED = "finished"


class Checkpoints:
    """The checkpoints of one run, and its history from its first start on.

    Args:
        output_dir: the run's folder.
        request: from `request.describe_request`.
        tokenizing: the tokenizer's `seconds`, `cache_hit`, and the `rows` these are about; once `choose` has found a
            checkpoint, those of the run's first start.

    Attributes:
        interruptions: one dict for each time that the run was resumed: the `step` it went on from, the `checkpoint` of
            that step, the `cause` of the interruption (`SIGTERM`, or `unknown` after a kill), `resumed_at` (UTC), and
            `repeated_steps`, the number of steps that had to be computed again.
        progress: what the chosen checkpoint tells of the training so far, None without one.
    """

    def __init__(
        self, output_dir: Path, request: dict[str, Any] | None = None, tokenizing: dict[str, Any] | None = None
    ) -> None:
        self.run_folder = RunFolder(output_dir)
        self.request = request or {}
        self.tokenizing = tokenizing or {}
        self.interruptions: list[dict[str, Any]] = []
        self.progress: dict[str, Any] | None = None
        self.run_id = secrets.token_hex(8)
        self._warned_of_notes = False

    def choose(self, wanted: str | None) -> str | None:
        """Choose the checkpoint to resume from, and take over the history that it holds; the main process decides.

        Returns its path, or None to start from the beginning.

        Args:
            wanted: None to start anew, `auto` for the newest whole checkpoint if there is one, `true` for the newest
                whole checkpoint, or a path.

        Raises:
            RequestError: if there is none, or if that one is torn, of another request, with pickled weights, or not on
                every machine.
        """
        history = distributed.run_on_main(lambda: self._decide(wanted))
        folder = history.pop("folder", None)
        distributed.run_on_all(lambda: _require_here(folder))
        for name, value in history.items():
            setattr(self, name, value)
        return folder

    def save(self, step: int, write: Callable[[Path], None], facts: Callable[[], dict[str, Any]], writer: bool) -> None:
        """Write the checkpoint of a step whole or not at all; every process calls it.

        Args:
            write: writes the files of this process into a folder.
            facts: returns what else the index records, `progress` among it; called after `write`.
            writer: whether this process completes the folder when all have written.
        """
        unfinished = checkpoints.unfinished_path(self.run_folder.path, step)
        unfinished.mkdir(parents=True, exist_ok=True)
        write(unfinished)
        recorded = facts()
        distributed.gather(None)  # waits until all have written
        if writer:
            index = {"step": step, "run_id": self.run_id, "processes": distributed.world_size()}
            index |= {"request": self.request, "tokenizing": self.tokenizing, "interruptions": self.interruptions}
            checkpoints.seal(unfinished, index | recorded)
            checkpoints.put_in_place(unfinished)
        distributed.gather(None)

    def last_good(self) -> Path | None:
        """The newest checkpoint that is whole, judged by the names and sizes of its files."""
        newest_first = reversed(checkpoints.checkpoints_in(self.run_folder.path))
        return next(filter(checkpoints.seems_whole, newest_first), None)

    def note_progress(self, step: int, cause: str = "unknown", trained: bool = False) -> None:
        """Write outside of checkpoints how far the run has come, and why it stops here if it does.

        Only the record of interruptions depends on this file, so a disk that refuses it causes a warning and no more.

        Args:
            cause: why the run stops here if it does: `unknown`, `SIGTERM`, or `FINISHED`.
            trained: whether all steps are done.
        """
        note = {"run_id": self.run_id, "step": step, "cause": cause, "trained": trained}
        note |= {"interruptions": self.interruptions, "request": self.request, "tokenizing": self.tokenizing}
        path = self.run_folder.path / NOTE
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps(note))
        except OSError as error:
            if not self._warned_of_notes:
                logger.warning(f"{path} cannot be written, and the run goes on: {error}")
            self._warned_of_notes = True

    def _decide(self, wanted: str | None) -> dict[str, Any]:
        """The chosen `folder` if any, and the attributes to take over from its run."""
        checkpoints.clear_leftovers(self.run_folder.path)
        if wanted is None:
            if earlier := self.last_good():
                logger.warning(
                    f"Starting anew beside {earlier} of an earlier run: checkpoints of the same step replace its own, "
                    f"and --save_total_limit counts them. --resume_from_checkpoint {AUTO} would go on with it; another "
                    "--output_dir would leave it alone."
                )
            return {"run_id": self.run_id}
        if wanted in (AUTO, LAST):
            folder = checkpoints.newest_whole(self.run_folder.path)
            if folder is None and wanted == LAST:
                raise RequestError(
                    f"there is no whole checkpoint in {self.run_folder} to go on from: leave --resume_from_checkpoint "
                    f"out, or say --resume_from_checkpoint {AUTO}, which then starts from the beginning."
                )
            if folder is None:
                logger.warning(f"There is no whole checkpoint in {self.run_folder}: starting from the beginning.")
                return self._from_the_beginning()
        else:
            folder = Path(wanted)
            if not folder.is_dir():
                raise RequestError(
                    f"there is no checkpoint {folder}: --resume_from_checkpoint {AUTO} takes the newest whole one."
                )
        refuse_pickled_weights(folder)
        if wanted not in (AUTO, LAST) and (fault := checkpoints.fault_of(folder)):
            raise RequestError(
                f"the checkpoint {folder} is torn: {fault}. --resume_from_checkpoint {AUTO} takes the newest whole one."
            )
        index = checkpoints.read_index(folder)
        if changed := differences(index["request"], self.request):
            raise RequestError(
                f"{folder} is of another run: {'; '.join(changed[:6])}. Ask for the same again, or start anew "
                "in another --output_dir."
            )
        if not index["resumable"]:
            raise RequestError(f"{folder} was written with --save_only_model: without the optimiser nothing goes on.")
        if index.get("processes", distributed.world_size()) != distributed.world_size():
            logger.warning(
                f"{folder} is of {index['processes']} processes, and these are {distributed.world_size()}: dropout "
                "draws different random numbers from here on, so the final weights differ."
            )
        logger.info(f"Going on from {folder}, after {index['step']:,} steps.")
        history = {name: index[name] for name in ("run_id", "tokenizing", "progress")}
        return history | {"folder": str(folder), "interruptions": self._interruptions_until(folder, index)}

    def _interruptions_until(self, folder: Path, index: dict[str, Any]) -> list[dict[str, Any]]:
        """All interruptions of a checkpoint's run, the one that this start ends included."""
        interruptions, last_step, cause = index["interruptions"], index["step"], "unknown"
        note = self._read_note()
        if note.get("run_id") == index["run_id"]:
            interruptions, last_step, cause = note["interruptions"], max(last_step, note["step"]), note["cause"]
            if cause == FINISHED and last_step == index["step"]:
                return interruptions
        elif note:
            logger.warning(
                f"The last run in {self.run_folder} left no whole checkpoint. {folder} is of the one before it, which "
                "is gone on with, times and all; to start anew, take another --output_dir."
            )
        cause = "unknown" if cause == FINISHED else cause
        return [*interruptions, _interruption(index["step"], folder.name, cause, last_step - index["step"])]

    def _from_the_beginning(self) -> dict[str, Any]:
        """Start without a checkpoint, as the same run if it was interrupted before it saved its first one."""
        note = self._read_note()
        if not note or note["trained"] or differences(note["request"], self.request):
            return {"run_id": self.run_id}
        interruptions = [*note["interruptions"], _interruption(0, None, "unknown", note["step"])]
        return {"run_id": note["run_id"], "tokenizing": note["tokenizing"], "interruptions": interruptions}

    def _read_note(self) -> dict[str, Any]:
        """What `note_progress` wrote last; empty if the file is missing or damaged."""
        kinds = {"run_id": str, "step": int, "cause": str, "trained": bool}
        kinds |= {"interruptions": list, "request": dict, "tokenizing": dict}
        try:
            note = json.loads((self.run_folder.path / NOTE).read_text(encoding="utf-8"))
            return {name: kind(note[name]) for name, kind in kinds.items()}
        except checkpoints.DAMAGE:
            return {}


def _interruption(step: int, checkpoint: str | None, cause: str, repeated_steps: int) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"step": step, "checkpoint": checkpoint, "cause": cause, "resumed_at": now, "repeated_steps": repeated_steps}


def _require_here(folder: str | None) -> None:
    if folder is not None and not (Path(folder) / checkpoints.INDEX).is_file():
        raise RequestError(
            f"the first process goes on from {folder}, which is not on {platform.node()}, the machine of process "
            f"{distributed.rank()}: share --output_dir between the machines, or copy it there."
        )
