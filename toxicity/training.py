"""The Trainer: what is particular to this job, and what it shows on the way."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import Sampler
from transformers import PreTrainedModel, PreTrainedTokenizerFast, PrinterCallback, Trainer, TrainerCallback
from transformers.trainer_utils import EvalLoopOutput, EvalPrediction, HubStrategy, has_length
from transformers.utils import PushInProgress

from toxicity.arguments import TrainingArguments
from toxicity.batching import LengthGroupedSampler, PaddingCollator, longest_first
from toxicity.errors import PublishError
from toxicity.hub import check_access, push_checkpoint, push_run
from toxicity.losses import mean_binary_cross_entropy
from toxicity.metrics import ToxicityMetric
from toxicity.modeling import logits_of
from toxicity.timing import PhaseClock
from toxicity.tracking import keep_runs_whole

logger = logging.getLogger(__name__)


class ToxicityTrainer(Trainer):
    """Trains on datasets with `input_ids`, `length` and `labels`, and scores them in their own order.

    The clock is charged `training` for the loop alone; evaluation, checkpoints and metrics have phases of their
    own. `trained_rows` and `trained_tokens` count what went through the loop, padding left out.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: TrainingArguments,
        tokenizer: PreTrainedTokenizerFast,
        train_dataset: Dataset,
        eval_dataset: Dataset,
        clock: PhaseClock,
    ) -> None:
        super().__init__(
            model=model,
            args=args,
            processing_class=tokenizer,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            # Tensor cores want multiples of 8; elsewhere that is padding for nothing.
            data_collator=PaddingCollator(tokenizer.pad_token_id, 8 if args.device.type == "cuda" else 1),
            compute_loss_func=lambda outputs, labels, num_items_in_batch: mean_binary_cross_entropy(
                logits_of(outputs), labels, num_items_in_batch
            ),
            compute_metrics=self._timed_metrics,
        )
        self.clock = clock
        self.metric = ToxicityMetric()
        self._trained_rows = 0
        # On the device, so that counting tokens does not wait for it.
        self._trained_tokens = torch.zeros((), dtype=torch.int64, device=args.device)
        if self.args.disable_tqdm:
            self.remove_callback(PrinterCallback)
            self.add_callback(LogLines())
        keep_runs_whole(self)

    def create_accelerator_and_postprocess(self) -> None:
        """Let fp16 be fp16 on a CPU too; Accelerate would compute in fp32 there and still call it fp16."""
        super().create_accelerator_and_postprocess()
        if self.accelerator.mixed_precision == "fp16" and self.accelerator.device.type == "cpu":
            self.accelerator.native_amp = True
            self.accelerator.scaler = torch.amp.GradScaler("cpu")

    @property
    def mixed_precision(self) -> str:
        """`no`, `fp16` or `bf16`: what the Accelerate config or the flags came to."""
        return str(self.accelerator.mixed_precision)

    @property
    def trained_rows(self) -> int:
        """Comments that went through the loop, over all processes and epochs, those twice that fill up a batch."""
        return self.accelerator.reduce(torch.tensor(self._trained_rows, device=self.args.device)).item()

    @property
    def trained_tokens(self) -> int:
        """Their tokens, padding not counted."""
        return self.accelerator.reduce(self._trained_tokens.clone()).item()

    def score(self, dataset: Dataset) -> np.ndarray:
        """Logits of every row, float32 `(rows,)`, in the order of `dataset`, charged to the phase `inference`."""
        with self.clock.phase("inference"):
            return self.predict(dataset, metric_key_prefix="eval").predictions.ravel()

    def score_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Logits of texts that are no dataset yet, float32 `(texts,)`, in their order; on no phase's account."""
        input_ids = self.processing_class(list(texts), truncation=True)["input_ids"]
        columns = {"input_ids": input_ids, "length": list(map(len, input_ids)), "labels": [0.0] * len(input_ids)}
        # Not `predict`, which would tell the trackers of it.
        dataloader = self.get_test_dataloader(Dataset.from_dict(columns))
        return self.evaluation_loop(dataloader, description="Scoring texts").predictions.ravel()

    def _timed_metrics(self, prediction: EvalPrediction) -> dict[str, float | None]:
        with self.clock.phase("metrics"):
            metrics = self.metric.compute(
                predictions=prediction.predictions.ravel(), references=prediction.label_ids.ravel()
            )
        # The Trainer logs numbers, not the whole of it.
        return {"auc": metrics["auc"]}

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        with self.clock.phase("training"):
            super()._run_epoch(*args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate as the Trainer does, charged to the phase `evaluation`."""
        with self.clock.phase("evaluation"):
            return super().evaluate(*args, **kwargs)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        with self.clock.phase("checkpoint"):
            super()._save_checkpoint(*args, **kwargs)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        dataset = self.train_dataset if train_dataset is None else train_dataset
        rows_per_step = self._train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return LengthGroupedSampler(_lengths(dataset), rows_per_step, seed)

    def _get_eval_sampler(self, eval_dataset: Dataset) -> Any:
        return longest_first(_lengths(eval_dataset)).tolist()

    def evaluation_loop(self, dataloader: Any, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """Score longest rows first; predictions and labels come back in dataset order."""
        output = super().evaluation_loop(dataloader, *args, **kwargs)
        order = longest_first(_lengths(dataloader.dataset))
        return output._replace(
            predictions=_undo_order(output.predictions, order), label_ids=_undo_order(output.label_ids, order)
        )

    def training_step(self, model: torch.nn.Module, inputs: dict[str, torch.Tensor], *args: Any) -> torch.Tensor:
        """Train on a batch as the Trainer does, and count it."""
        self._trained_rows += len(inputs["attention_mask"])
        self._trained_tokens += inputs["attention_mask"].sum()
        return super().training_step(model, inputs, *args)

    def prediction_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Loss, logits and labels of a batch; the Trainer's own would drop the logits of a one-element tuple."""
        inputs = self._prepare_inputs(inputs)
        labels = inputs.pop("labels")
        with torch.no_grad(), self.compute_loss_context_manager():
            logits = logits_of(model(**inputs)).float()
            loss = mean_binary_cross_entropy(logits, labels)
        return (loss, None, None) if prediction_loss_only else (loss, logits, labels)

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


class LogLines(TrainerCallback):
    """Progress as log lines, for where bars would be noise."""

    SECONDS_BETWEEN_LINES = 10.0

    def __init__(self) -> None:
        self._scored_batches = 0
        self._last_line = monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        """Tell the loss, every `logging_steps`, and what an evaluation gave."""
        evaluated = {name: value for name, value in logs.items() if name in ("eval_loss", "eval_auc")}
        if evaluated:
            logger.info(f"Evaluation at step {state.global_step:,}: {evaluated}")
        if "loss" in logs:
            logger.info(
                f"Training: step {state.global_step:,} of {state.max_steps:,}, epoch {state.epoch:.2f}, "
                f"loss {logs['loss']:.4f}, learning rate {logs['learning_rate']:.2e}"
            )

    def on_prediction_step(self, args: Any, state: Any, control: Any, eval_dataloader: Any, **kwargs: Any) -> None:
        """Tell how far scoring is, from time to time."""
        self._scored_batches += 1
        if has_length(eval_dataloader) and monotonic() - self._last_line > self.SECONDS_BETWEEN_LINES:
            self._last_line = monotonic()
            logger.info(f"Scoring: batch {self._scored_batches:,} of {len(eval_dataloader):,}")

    def _on_scored(self, *args: Any, **kwargs: Any) -> None:
        self._scored_batches = 0

    on_evaluate = on_predict = _on_scored


def describe_optimiser(args: TrainingArguments) -> dict[str, Any]:
    """What beside data, model and length decides how good a run gets: the part of its protocol that the flags set.

    `batch_size` is in comments an optimiser step, over its accumulation steps and processes.
    """
    return {
        "optim": args.optim.value,
        "batch_size": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
        "learning_rate": args.learning_rate,
        "lr_scheduler_type": args.lr_scheduler_type.value,
        "warmup_steps": args.warmup_steps,
        "weight_decay": args.weight_decay,
        "max_grad_norm": args.max_grad_norm,
    }


def _lengths(dataset: Dataset) -> np.ndarray:
    return dataset.select_columns("length").with_format("numpy")[:]["length"]


def _undo_order(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    restored = np.empty_like(values)
    restored[order] = values
    return restored
