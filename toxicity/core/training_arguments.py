"""The options of training: those of `transformers.TrainingArguments`, our own, and the checks of both."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers import TrainingArguments as HfTrainingArguments
from transformers import integrations
from transformers.hf_argparser import HfArg
from transformers.trainer_utils import HubStrategy

from toxicity.core.errors import RequestError, one_line
from toxicity.core.training_checks import (
    require_dictionaries,
    require_metric,
    require_optimiser_and_schedule,
    require_packages,
)

# Value of --resume_from_checkpoint: the newest whole checkpoint, which there has to be.
LAST = "true"
# Options that change what is learnt, with the values that turn them off, which are their defaults.
OPTIONS_OF_TRAINING = {"layerwise_lr_decay": 1.0, "later_negatives": 1.0, "early_stopping_patience": 0}


@dataclass
class TrainingArguments(HfTrainingArguments):
    """`transformers.TrainingArguments` with options of our own; progress bars only on a terminal."""

    max_tokens_per_batch: str | None = HfArg(
        default=None,
        help="Most tokens per forward pass, in training and in scoring: a number, or `auto`, as many as fit on "
        "the GPU, where 65,536 are scored at once, and 16,384 on a CPU. An optimiser step keeps its rows, and is "
        "divided by tokens instead of by gradient_accumulation_steps. Without it: `auto` on a GPU, if the model is not "
        "sharded over several; elsewhere per_device_train_batch_size rows, and in scoring as many tokens as "
        "per_device_eval_batch_size comments of the greatest length have.",
    )
    # The Trainer's own defaults search all weights in every step, and send what never changes.
    ddp_find_unused_parameters: bool | None = HfArg(
        default=None,
        help="With several processes, search for weights that a step did not use. Without it: only if the model has "
        "weights that get no gradient.",
    )
    ddp_broadcast_buffers: bool | None = HfArg(
        default=False, help="With several processes, send the model's buffers to all of them before each step."
    )
    torch_compile: bool = HfArg(
        default=False,
        help="Compile the layers of the model with torch.compile. The start takes a minute or more longer; whether the "
        "steps after it are faster depends on the machine.",
    )
    # The filter would make the CPU wait for the GPU at every step.
    logging_nan_inf_filter: bool = HfArg(default=False, help="Leave losses that are NaN or infinite out of the log.")
    save_minutes: float = HfArg(
        default=15.0,
        help="Save a checkpoint this many minutes after the last one, whatever --save_strategy says; 0 is off.",
    )
    layerwise_lr_decay: float = HfArg(
        default=1.0, help="Learning rate of each layer as a share of the next layer's, from the head down; 1 is off."
    )
    later_negatives: float = HfArg(
        default=1.0,
        help="Share of the civil comments that each epoch after the first trains on, drawn anew each time; 1 is all.",
    )
    early_stopping_patience: int = HfArg(
        default=0,
        help="Stop after this many evaluations without a better AUC, and keep the best weights; 0 is off. "
        "Evaluates as --eval_strategy says, by default after each epoch.",
    )
    # The default of transformers, every_save, would publish a model before it is trained and has a model card.
    hub_strategy: HubStrategy | str = HfArg(
        default="end",
        help="When to publish: `end`, or `every_save`, which publishes the model of each checkpoint, too.",
    )

    def __post_init__(self) -> None:
        if self.disable_tqdm is None:
            self.disable_tqdm = not sys.stderr.isatty()
        self._check_batches()
        self._check_optimiser()
        if self.early_stopping_patience:
            self._keep_best_by_auc()
        require_dictionaries(self)
        require_metric(self)
        if self.metric_for_best_model not in (None, "loss", "eval_loss"):
            # transformers would go by the name, and take that of a label which ends in `loss` for a loss.
            self.greater_is_better = True
        require_packages(self)
        self._check_jobs()
        if self.output_dir and Path(self.output_dir).is_file():
            raise RequestError(f"--output_dir {self.output_dir} is a file: name a folder.")
        if self.hub_token is not None:
            raise RequestError(
                "--hub_token would leave the token in files and in the list of processes: leave it out, and run "
                "`hf auth login` or set HF_TOKEN."
            )
        if self.enable_jit_checkpoint:
            raise RequestError(
                "--enable_jit_checkpoint would replace this package's own handling of SIGTERM, which saves a "
                "checkpoint and ends with exit code 75: leave it out."
            )
        # The collator picks the columns that the model takes, and the sampler needs the length of each row.
        self.remove_unused_columns = False
        # With --push_to_hub, Trackio would publish its record as a Space, local paths included, without being asked.
        if self.trackio_static_space_id is None:
            self.trackio_static_space_id = False
        # Memory is pinned for copies to an accelerator; without one torch warns.
        self.dataloader_pin_memory &= torch.accelerator.is_available()
        try:
            with _kubeflow_not_looked_for():
                super().__post_init__()
        except TypeError as error:
            raise RequestError(f"--accelerator_config has a key that there is not: {one_line(error)}") from error
        except (ValueError, ImportError, OSError, NotImplementedError) as error:
            raise RequestError(str(error)) from error
        if self.max_tokens_per_batch is not None or self.cut_by_memory:
            self.per_device_train_batch_size *= self.gradient_accumulation_steps
            self.gradient_accumulation_steps = 1
        require_optimiser_and_schedule(self)
        require_trackers(self.report_to)
        if self.push_to_hub:
            self._check_publishing()

    @property
    def is_sharded(self) -> bool:
        """Whether FSDP shards the model, by a flag or by the Accelerate config."""
        return bool(self.fsdp) or os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"

    @property
    def cut_by_memory(self) -> bool:
        """Whether an optimiser step is cut into as few parts as the memory of the GPU allows.

        Not where the model is sharded, unless asked for: all processes must call it equally often.
        """
        asked = self.max_tokens_per_batch
        return self.device.type == "cuda" and (asked == "auto" or (asked is None and not self.is_sharded))

    def _check_batches(self) -> None:
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
        if self.max_tokens_per_batch is not None and not re.fullmatch(r"auto|[1-9]\d*", self.max_tokens_per_batch):
            raise RequestError(
                f"--max_tokens_per_batch is {self.max_tokens_per_batch}: give a number of tokens, or auto."
            )
        if not self.save_minutes >= 0:
            raise RequestError(f"--save_minutes is {self.save_minutes}; it should be 0 (never) or more.")

    def _check_jobs(self) -> None:
        if self.do_predict or (self.do_eval and not self.do_train):
            raise RequestError(
                "run_toxicity.py trains, and validates at the end: comments are scored by python -m toxicity.predict, "
                "so leave --do_predict out, and --do_eval unless --do_train is beside it."
            )
        # As the Trainer takes it: true for the last checkpoint in --output_dir.
        resume = str(self.resume_from_checkpoint).lower()
        if resume in ("true", "false"):
            self.resume_from_checkpoint = LAST if resume == "true" else None

    def _check_optimiser(self) -> None:
        for name in ("layerwise_lr_decay", "later_negatives"):
            if not 0 < getattr(self, name) <= 1:
                raise RequestError(f"--{name} is {getattr(self, name)}; give a number between 0 and 1, or 1 for off.")
        if self.early_stopping_patience < 0:
            raise RequestError(f"--early_stopping_patience is {self.early_stopping_patience}; the least is 0, for off.")
        if self.later_negatives != 1 and (self.max_steps > 0 or self.dataloader_drop_last):
            raise RequestError(
                "--later_negatives decides how many steps there are: leave --max_steps and --dataloader_drop_last out."
            )
        strategies = ["random", "group_by_length"]
        if self.later_negatives == 1:
            strategies.append("sequential")
        if self.train_sampling_strategy not in strategies:
            raise RequestError(
                f"--train_sampling_strategy is {self.train_sampling_strategy}; what works here is "
                f"{', '.join(strategies)}."
            )

    def _keep_best_by_auc(self) -> None:
        """Set what early stopping needs: evaluate and save at the same steps, and load the best weights at the end."""
        best = (self.metric_for_best_model or "auc").removeprefix("eval_")
        if best == "loss" or self.greater_is_better is False:
            raise RequestError(
                "--early_stopping_patience goes by an AUC: leave --metric_for_best_model out, or name one of several "
                "labels, auc_NAME or mean_auc."
            )
        if self.eval_strategy == "no":
            self.eval_strategy = "epoch"
        # The default of transformers, which it sets only after it has compared eval_steps with save_steps.
        self.eval_steps = self.eval_steps or self.logging_steps
        self.save_strategy, self.save_steps = self.eval_strategy, self.eval_steps
        self.load_best_model_at_end = True
        self.metric_for_best_model = best

    def _check_publishing(self) -> None:
        require_repo_name(self.hub_model_id or Path(self.output_dir).absolute().name)
        if self.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            raise RequestError(
                f"--hub_strategy {self.hub_strategy.value} would publish the optimizer's state and local paths: "
                "choose every_save, which publishes the model of each checkpoint, or end."
            )


@contextmanager
def _kubeflow_not_looked_for() -> Iterator[None]:
    """Spare transformers the import of all its trackers and of all code of models, seconds, to ask for a variable.

    In a job of Kubeflow, where the variable is set, it asks as always.
    """
    asked = "is_kubeflow_available"
    if "KUBEFLOW_TRAINER_SERVER_URL" in os.environ or asked in vars(integrations):
        yield
        return
    setattr(integrations, asked, lambda: False)
    try:
        yield
    finally:
        delattr(integrations, asked)


def require_repo_name(name: str) -> None:
    """Raise `RequestError` unless the Hub allows this name for a model: `name` or `owner/name`."""
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise RequestError(
            f"`{name}` cannot be the name of a model on the Hub: give NAME or OWNER/NAME, of letters, digits, - _ and ."
        ) from error


def require_trackers(names: Sequence[str]) -> None:
    """Raise `RequestError` unless each tracker of `--report_to` is known to transformers and installed."""
    if not names:
        return
    # Here, as it imports the Trainer, which takes seconds.
    from transformers.integrations import get_available_reporting_integrations
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            nearest = difflib.get_close_matches(name, INTEGRATION_TO_CALLBACK, n=1, cutoff=0)[0]
            raise RequestError(
                f"unknown tracker `--report_to {name}`; the nearest known one is `{nearest}`. Without it, none is used."
            )
        # transformers does not list flyte among the available integrations, installed or not.
        if name != "flyte" and name not in get_available_reporting_integrations():
            raise RequestError(f"--report_to {name} needs a package that is not installed: pip install {name}")
