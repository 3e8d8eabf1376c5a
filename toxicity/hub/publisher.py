"""Callback: publishes the model of each checkpoint during training, and the finished run; no Hub can stop training."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_utils import HubStrategy

from toxicity.core.errors import PublishError
from toxicity.core.run_folder import RunFolder
from toxicity.core.training_arguments import TrainingArguments
from toxicity.hardware.timing import PhaseClock
from toxicity.hub.push import check_access, push_checkpoint, push_run

logger = logging.getLogger(__name__)


class Publisher(TrainerCallback):
    """Publishes what the allow-lists of `push` name, from the main process, if `--push_to_hub` asks for it.

    Args:
        args: `hub_*` say where to publish, and when: at the `end`, or also at `every_save`.
        clock: the phase `checkpoint` is charged for the start of an upload, which then goes on beside the training.
    """

    def __init__(self, args: TrainingArguments, clock: PhaseClock) -> None:
        self.args = args
        self.clock = clock
        self.active = args.push_to_hub and args.process_index == 0
        self.repo = args.hub_model_id or RunFolder(args.output_dir).default_repo
        self.uploads: list[Future[None]] = []  # of checkpoints: those under way, and those that wait for them

    def on_init_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Make the repo and check write access; if that fails, warn before hours are spent, and train all the same."""
        if not self.active:
            return
        try:
            self.repo = check_access(self.repo, args.hub_private_repo)
        except PublishError as error:
            logger.warning(f"--push_to_hub would fail now: {error} Training goes on; publishing is tried at its end.")

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the upload of the checkpoint's model, unless one is under way (`--hub_always_push` queues it then)."""
        if not self.active or args.hub_strategy == HubStrategy.END:
            return
        self.uploads = [upload for upload in self.uploads if not upload.done()]
        if self.uploads and not args.hub_always_push:
            return
        folder = RunFolder(args.output_dir).checkpoint(state.global_step)
        message = f"Training in progress, step {state.global_step}"
        try:
            with self.clock.phase("checkpoint"):
                upload = push_checkpoint(folder, self.repo, args.hub_private_repo, args.hub_revision, message)
            self.uploads.append(upload)
        except OSError as error:
            logger.warning(f"{folder} was not published, and training goes on: {error}")

    def publish_run(self) -> None:
        """Publish the finished run in `output_dir`, after the uploads of checkpoints that are under way.

        Raises:
            PublishError: if the Hub did not take all of it. The message names the command that goes on.
        """
        if not self.active:
            return
        args = self.args
        address = push_run(Path(args.output_dir), self.repo, args.hub_private_repo, args.hub_revision, self.uploads)
        logger.info(f"Published: {address}")
