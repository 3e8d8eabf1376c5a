"""How to train: what `transformers` takes, and what this package takes beside it."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers import TrainingArguments as HfTrainingArguments
from transformers.integrations import get_available_reporting_integrations
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from transformers.trainer_utils import HubStrategy

from toxicity.core.errors import RequestError

# What changes what is learnt and is off by default, and which value that is.
OPTIONS_OF_TRAINING = {
    "layerwise_lr_decay": 1.0,
    "later_negatives": 1.0,
    "early_stopping_patience": 0,
}


@dataclass
class TrainingArguments(HfTrainingArguments):
    """`transformers.TrainingArguments`, with bars on a terminal and plain lines elsewhere."""

    max_tokens_per_batch: str | None = field(
        default=None,
        metadata={
            "help": "Most tokens that go through the model at once, in training and in scoring, or `auto`: as many as "
            "fit the card, and 16,384 on a processor. An optimiser step keeps its comments, and is cut by tokens "
            "instead of gradient_accumulation_steps. Without it: per_device_train_batch_size comments, and in scoring "
            "as many tokens as per_device_eval_batch_size of the longest comments have."
        },
    )
    # Looking at every loss makes the processor wait for the GPU at every step.
    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Leave losses that are not finite out of the log."}
    )
    save_minutes: float = field(
        default=15.0,
        metadata={
            "help": "Save a checkpoint when so many minutes have gone by since the last one, whatever --save_strategy; "
            "0 for never."
        },
    )
    layerwise_lr_decay: float = field(
        default=1.0,
        metadata={
            "help": "Learning rate of each layer as a share of the layer's above it, from the head down; 1 is off."
        },
    )
    later_negatives: float = field(
        default=1.0,
        metadata={
            "help": "Share of the civil comments, drawn anew for each pass, that is trained on again after the first "
            "epoch; 1 for all."
        },
    )
    early_stopping_patience: int = field(
        default=0,
        metadata={
            "help": "Stop after so many evaluations without a better AUC, and keep the best weights; 0 is off. It "
            "evaluates by --eval_strategy, by default at the end of an epoch."
        },
    )
    # By default every_save: a model half trained, and its card not yet there.
    hub_strategy: HubStrategy | str = field(
        default="end",
        metadata={"help": "When to publish: at the `end`, or the model of each checkpoint, too: `every_save`."},
    )

    def __post_init__(self) -> None:
        if self.disable_tqdm is None:
            self.disable_tqdm = not sys.stderr.isatty()
        if self.label_smoothing_factor:
            raise RequestError("--label_smoothing_factor has no effect on one label: leave it out.")
        if self.prediction_loss_only or self.batch_eval_metrics or not self.eval_do_concat_batches:
            raise RequestError(
                "the AUC needs all scores together: leave out --prediction_loss_only, --batch_eval_metrics "
                "and --eval_do_concat_batches."
            )
        for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
            if getattr(self, name) < 1:
                raise RequestError(f"--{name} is {getattr(self, name)}; the least that works is 1.")
        if self.max_tokens_per_batch is not None:
            if not re.fullmatch(r"auto|[1-9]\d*", self.max_tokens_per_batch):
                raise RequestError(
                    f"--max_tokens_per_batch is {self.max_tokens_per_batch}: give a number of tokens, or auto."
                )
            self.per_device_train_batch_size *= self.gradient_accumulation_steps
            self.gradient_accumulation_steps = 1
        if not self.save_minutes >= 0:
            raise RequestError(f"--save_minutes is {self.save_minutes}; it should be 0 (never) or more.")
        self._check_recipe_of_optimiser()
        if self.early_stopping_patience:
            self._choose_best_by_auc()
        if self.output_dir and Path(self.output_dir).is_file():
            raise RequestError(f"--output_dir {self.output_dir} is a file: name a folder.")
        if self.hub_token is not None:
            raise RequestError(
                "--hub_token would leave the token in files and in the list of processes: leave it out, and run "
                "`hf auth login` or set HF_TOKEN."
            )
        # The collator picks what the model takes; the length column must reach the sampler.
        self.remove_unused_columns = False
        # With --push_to_hub, Trackio would publish its record as a Space, local paths included, without being asked.
        if self.trackio_static_space_id is None:
            self.trackio_static_space_id = False
        # Without an accelerator there is nothing to pin memory for, and torch would warn of it.
        self.dataloader_pin_memory &= torch.accelerator.is_available()
        if self.dataloader_pin_memory and self.accelerator_config is None:
            # Otherwise every tensor of a batch is waited for.
            self.accelerator_config = {"non_blocking": True}
        try:
            super().__post_init__()
        except (ValueError, ImportError) as error:
            raise RequestError(str(error)) from error
        require_trackers(self.report_to)
        if self.push_to_hub:
            require_repo_name(self.hub_model_id or Path(self.output_dir).absolute().name)
            if self.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
                raise RequestError(
                    f"--hub_strategy {self.hub_strategy.value} would publish the optimizer's state and local paths: "
                    "choose every_save, which publishes the model of each checkpoint, or end."
                )

    def _check_recipe_of_optimiser(self) -> None:
        for name, least, most, off in (
            ("layerwise_lr_decay", 0, 1, 1),
            ("later_negatives", 0, 1, 1),
        ):
            value = getattr(self, name)
            if value != off and not least < value < most:
                raise RequestError(f"--{name} is {value}; give a number between {least} and {most}, or {off} for off.")
        if self.early_stopping_patience < 0:
            raise RequestError(f"--early_stopping_patience is {self.early_stopping_patience}; the least is 0, for off.")
        if self.later_negatives != 1 and (self.max_steps > 0 or self.dataloader_drop_last):
            raise RequestError(
                "--later_negatives decides how many steps there are: leave --max_steps and --dataloader_drop_last out."
            )
        strategies = ("random", "group_by_length") + (("sequential",) if self.later_negatives == 1 else ())
        if self.train_sampling_strategy not in strategies:
            raise RequestError(
                f"--train_sampling_strategy is {self.train_sampling_strategy}; what works here is "
                f"{', '.join(strategies)}."
            )

    def _choose_best_by_auc(self) -> None:
        """Evaluate and save together, and keep the best: what early stopping takes."""
        if self.metric_for_best_model not in (None, "auc", "eval_auc") or self.greater_is_better is False:
            raise RequestError("--early_stopping_patience goes by the AUC: leave --metric_for_best_model out.")
        if self.eval_strategy == "no":
            self.eval_strategy = "epoch"
        # The Trainer's own default, which it would set after the steps of saving are compared with it.
        self.eval_steps = self.eval_steps or self.logging_steps
        self.save_strategy, self.save_steps = self.eval_strategy, self.eval_steps
        self.load_best_model_at_end = True
        self.metric_for_best_model, self.greater_is_better = "auc", True


def require_repo_name(name: str) -> None:
    """Refuse a name that no repo can have.

    Raises:
        RequestError: for anything but `name` or `owner/name`.
    """
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise RequestError(
            f"`{name}` cannot be the name of a model on the Hub: give NAME or OWNER/NAME, of letters, digits, - _ and ."
        ) from error


def require_trackers(names: Sequence[str]) -> None:
    """Raise `RequestError` unless each of `--report_to` is known and installed."""
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            nearest = difflib.get_close_matches(name, INTEGRATION_TO_CALLBACK, n=1, cutoff=0)[0]
            raise RequestError(
                f"unknown tracker `--report_to {name}`; the nearest known one is `{nearest}`. Without it, none is used."
            )
        # Of flyte transformers does not tell.
        if name != "flyte" and name not in get_available_reporting_integrations():
            raise RequestError(f"--report_to {name} needs a package that is not installed: pip install {name}")
