"""A Trainer that publishes what `toxicity.hub` allows, and that no Hub can keep from training."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from transformers.trainer_utils import HubStrategy
from transformers.utils import PushInProgress

from toxicity.core.errors import PublishError
from toxicity.hub.push import check_access, push_checkpoint, push_run
from toxicity.training.resumable_trainer import ResumableTrainer

logger = logging.getLogger(__name__)


class PublishingTrainer(ResumableTrainer):
    """Publishes the finished run, and the model of each checkpoint where `--hub_strategy every_save` asks for it."""

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Make the repo and see that it can be written to; if not, warn before hours are spent, and train all the same.

        The Trainer's own would end the run. The token is the client's, whatever is given here.
        """
        if not self.is_world_process_zero():
            return
        self.push_in_progress = None
        self.hub_model_id = self.args.hub_model_id or Path(self.args.output_dir).absolute().name
        try:
            self.hub_model_id = check_access(self.hub_model_id, self.args.hub_private_repo)
        except PublishError as error:
            logger.warning(f"--push_to_hub would fail now: {error} Training goes on; publishing is tried at its end.")

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save as the Trainer does, and publish nothing: the report and the card are not there yet."""
        super().save_model(output_dir, _internal_call=True)

    def push_to_hub(self, *args: Any, **kwargs: Any) -> str | None:
        """Publish the finished run in `output_dir` by the allow-list of `toxicity.hub`, from the main process.

        The Trainer's own uploads nearly all of that folder, comments too, and writes a card of its own over ours.
        What it takes as arguments comes from `TrainingArguments` alone.

        Returns:
            The address of the model, None on the other processes.

        Raises:
            PublishError: if the Hub did not take all of it. The message names the command that goes on.
        """
        if not self.is_world_process_zero():
            return None
        repo = self.hub_model_id or self.args.hub_model_id or Path(self.args.output_dir).absolute().name
        in_progress = getattr(self, "push_in_progress", None)
        address = push_run(
            Path(self.args.output_dir),
            repo,
            self.args.hub_private_repo,
            self.args.hub_revision,
            in_progress.jobs if in_progress else (),
        )
        logger.info(f"Published: {address}")
        return address

    def _finish_current_push(self) -> None:
        """Wait for no upload at the end of `train()`, but in `push_to_hub`, when all is saved.

        The Trainer's own waits on the main process without end, while the others are on their way to score, where they
        wait for it no longer than `ddp_timeout`.
        """

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        in_progress = self.push_in_progress is not None and not self.push_in_progress.is_done()
        if in_progress and not self.args.hub_always_push:
            return
        try:
            job = push_checkpoint(
                Path(checkpoint_folder),
                self.hub_model_id,
                self.args.hub_private_repo,
                self.args.hub_revision,
                f"Training in progress, step {self.state.global_step}",
            )
        except OSError as error:
            logger.warning(f"{checkpoint_folder} was not published, and training goes on: {error}")
            return
        self.push_in_progress = PushInProgress([*(self.push_in_progress.jobs if in_progress else []), job])
