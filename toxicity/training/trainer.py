"""The Trainer: what is particular to this job, and what it shows on the way."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import DataLoader, Sampler
from transformers import EarlyStoppingCallback, PreTrainedModel, PreTrainedTokenizerFast, PrinterCallback
from transformers.trainer_utils import EvalLoopOutput, EvalPrediction

from toxicity.core.schema import TOXIC_THRESHOLD
from toxicity.core.training_arguments import TrainingArguments
from toxicity.data.token_dataset import TokenRows
from toxicity.evaluation.metrics import ToxicityMetric
from toxicity.hardware.cpu import describe_cpu_settings
from toxicity.hardware.precision import best_precision, compute_capability, precision_name
from toxicity.hardware.timing import PhaseClock
from toxicity.hub.publisher import PublishingTrainer
from toxicity.models.classifier import LABEL, logits_of, output_layer, with_labels
from toxicity.models.cpu_layers import use_faster_layers
from toxicity.models.padding_free import layout_for
from toxicity.models.scoring import BatchScorer, in_bfloat16
from toxicity.training.batching import Collator, EpochSampler, EvenSampler
from toxicity.training.callbacks import keep_runs_whole
from toxicity.training.log_lines import LogLines
from toxicity.training.losses import mean_binary_cross_entropy, training_loss
from toxicity.training.optimizer import decay_layer_rates
from toxicity.training.resume import Checkpoints
from toxicity.training.token_budget import USABLE_SHARE, measure_token_budget
from toxicity.training.weight_average import WeightAverage

logger = logging.getLogger(__name__)

# More tokens at once gain nothing on a processor but memory to take.
CPU_TOKENS = 16_384


class ToxicityTrainer(PublishingTrainer):
    """Trains on datasets with `input_ids`, `length` and `labels`, and scores them in their own order.

    With `coefficients` of auxiliary targets (`objective.Objective`) the model has a logit for each of them behind that
    of toxicity; they teach it, and are left out of what is scored and of the model that is saved in the end.

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
        checkpoints: Checkpoints | None = None,
        train_ids: Sequence[Any] | None = None,
        coefficients: np.ndarray | None = None,
    ) -> None:
        self.coefficients = None if coefficients is None or not len(coefficients) else torch.from_numpy(coefficients)
        if args.later_negatives != 1:
            args.max_steps = steps_of_later_negatives(args, np.asarray(train_dataset["labels"][:]))
        super().__init__(
            clock=clock,
            checkpoints=checkpoints,
            train_ids=train_ids,
            model=model,
            args=args,
            processing_class=tokenizer,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            compute_loss_func=lambda outputs, labels, num_items_in_batch: training_loss(
                logits_of(outputs), **labels, num_items_in_batch=num_items_in_batch, coefficients=self.coefficients
            ),
            compute_metrics=self._timed_metrics,
        )
        self.metric = ToxicityMetric()
        self._trained_rows = 0
        self._trained_tokens = 0
        self.layout = layout_for(self.model, args.device, tokenizer.pad_token_id)
        if args.torch_compile:
            # It would compile for every batch.
            self.layout = replace(self.layout, packed=False)
        if args.device.type == "cpu":
            use_faster_layers(self.model)
        if self.coefficients is not None:
            self.coefficients = self.coefficients.to(args.device)
        self.average = WeightAverage(self.model, args.ema_decay) if args.ema_decay else None
        if self.average is not None:
            self.add_callback(self.average)
        if args.early_stopping_patience:
            self.add_callback(EarlyStoppingCallback(args.early_stopping_patience))
        self.max_tokens = self._token_budget()
        self.data_collator = Collator(self.layout, self.max_tokens)
        self._explain_choices()
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
        """Comments that went through the loop, over all processes and epochs."""
        return self._sum_over_processes(self._trained_rows)

    @property
    def trained_tokens(self) -> int:
        """Their tokens, padding not counted."""
        return self._sum_over_processes(self._trained_tokens)

    def _sum_over_processes(self, count: int) -> int:
        return self.accelerator.reduce(torch.tensor(count, device=self.args.device)).item()

    def counts(self) -> dict[str, int]:
        """What a checkpoint remembers of the work that was done, over all processes, and how steps were cut."""
        counts = {"trained_rows": self.trained_rows, "trained_tokens": self.trained_tokens}
        return counts if self.max_tokens is None else counts | {"max_tokens": self.max_tokens}

    def restore_counts(self, counts: dict[str, int]) -> None:
        """Take over what `counts` gave; one process keeps the sums, for all are added up."""
        if self.is_world_process_zero():
            self._trained_rows = counts["trained_rows"]
            self._trained_tokens = counts["trained_tokens"]
        measured, before = self.max_tokens, counts.get("max_tokens")
        if before in (None, measured) or self.args.max_tokens_per_batch != "auto":
            return
        if before * USABLE_SHARE > measured:
            logger.warning(
                f"This device has room for {measured:,} tokens at a time, and the one before had for {before:,}: the "
                "weights will not be the same to the last bit."
            )
            return
        # What is free differs a little from start to start, and steps that are cut otherwise are rounded otherwise.
        self.max_tokens = before
        self.data_collator = Collator(self.layout, before)

    def train(self, resume_from_checkpoint: str | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train as `ResumableTrainer` does, with the average of the weights up to the checkpoint."""
        if resume_from_checkpoint is not None and self.average is not None:
            self.average.load(Path(resume_from_checkpoint))
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Make the optimiser as the Trainer does, with a learning rate for each layer where that is asked for."""
        made_before = self.optimizer is not None
        optimizer = super().create_optimizer(*args, **kwargs)
        if self.args.layerwise_lr_decay != 1 and not made_before:
            decay_layer_rates(optimizer, self.model, self.args.layerwise_lr_decay)
        return optimizer

    def resumed(self) -> None:
        """Restore what the Trainer does not, also how many evaluations brought no better AUC."""
        super().resumed()
        evaluated = [entry["step"] for entry in self.state.log_history if "eval_auc" in entry]
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, EarlyStoppingCallback):
                since_best = sum(step > (self.state.best_global_step or 0) for step in evaluated)
                callback.early_stopping_patience_counter = since_best

    def _write_checkpoint(self, folder: Path) -> None:
        super()._write_checkpoint(folder)
        if self.average is not None and self.args.should_save:
            self.average.save(folder)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        if self.average is not None:
            self.average.load(Path(self.state.best_model_checkpoint))

    def _save_model(self, folder: Path, state_dict: dict[str, torch.Tensor] | None) -> None:
        """Save what is of use after the training: the average, if there is one, and of the logits toxicity's."""
        if self.average is not None:
            state_dict = {**self.model.state_dict(), **self.average.weights}
        config = self.model.config
        if self.coefficients is not None:
            state_dict = dict(self.model.state_dict() if state_dict is None else state_dict)
            name, layer = output_layer(self.model)
            state_dict |= {f"{name}.{part}": state_dict[f"{name}.{part}"][:1] for part in layer.state_dict()}
            self.model.config = with_labels(config, (LABEL,))
        try:
            super()._save_model(folder, state_dict)
        finally:
            self.model.config = config

    def score(self, dataset: Dataset) -> np.ndarray:
        """Logits of every row, float32 `(rows,)`, in the order of `dataset`, charged to the phase `inference`."""
        with self.clock.phase("inference"):
            return self.predict(dataset, metric_key_prefix="eval").predictions.ravel()

    def score_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Logits of texts that are no dataset yet, float32 `(texts,)`, in their order; on no phase's account."""
        input_ids = self.processing_class(list(texts), truncation=True)["input_ids"]
        return self._score_rows(TokenRows.from_lists(input_ids)).numpy().ravel()

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

    def _get_dataloader(self, dataset: Dataset, *args: Any, **kwargs: Any) -> DataLoader:
        return super()._get_dataloader(TokenRows(dataset), *args, **kwargs)

    def _get_train_sampler(self, train_dataset: TokenRows | None = None) -> Sampler | None:
        strategy = self.args.train_sampling_strategy
        batch_size, processes = self._train_batch_size, self.args.world_size
        if strategy in ("random", "group_by_length"):
            rows_per_step = batch_size * self.args.gradient_accumulation_steps * processes
            seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
            sampler = EpochSampler(
                train_dataset.lengths,
                rows_per_step,
                seed,
                strategy == "group_by_length",
                sparse=train_dataset.targets["labels"] < TOXIC_THRESHOLD,
                later_share=self.args.later_negatives,
            )
        else:
            sampler = super()._get_train_sampler(train_dataset)
        if processes == 1 or self.args.dataloader_drop_last:
            return sampler
        return EvenSampler(sampler, batch_size, processes)

    def _get_eval_sampler(self, eval_dataset: TokenRows) -> None:
        """None: `BatchScorer` chooses the order of the rows."""

    def train_on_batch(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Train on a batch, part by part, and count it; gradients are exchanged with the last part."""
        self._trained_rows += inputs["rows"]
        self._trained_tokens += inputs["tokens"]
        *others, last = inputs["parts"]
        losses = []
        for part in others:
            with self.accelerator.no_sync(model):
                losses.append(super().train_on_batch(model, part, num_items_in_batch))
        losses.append(super().train_on_batch(model, last, num_items_in_batch))
        return torch.stack(losses).sum()

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Score the loader's rows; logits and labels come back in dataset order, float32 `(rows, 1)`."""
        rows: TokenRows = dataloader.dataset
        logits = self._score_rows(rows, self._tell_batch)
        labels = torch.from_numpy(rows.targets["labels"][:, None])
        metrics = {"loss": mean_binary_cross_entropy(logits, labels).item()}
        if self.compute_metrics is not None and not prediction_loss_only:
            metrics |= self.compute_metrics(EvalPrediction(logits.numpy(), labels.numpy()))
        return EvalLoopOutput(
            logits.numpy(),
            labels.numpy(),
            {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()},
            len(rows),
        )

    def _score_rows(self, rows: TokenRows, on_batch: Callable[[int], object] = lambda batches: None) -> torch.Tensor:
        # Autocast would convert the weights again for every batch; a GPU hardly notices, and shards are not copied.
        twin = self.mixed_precision == "bf16" and self.args.device.type == "cpu" and not self.is_fsdp_enabled
        model = self.model if self.average is None else self.average.model_with_it()
        scorer = BatchScorer(
            in_bfloat16(model, self.layout) if twin else model,
            self.layout,
            self.args.device,
            self.max_tokens or self.args.per_device_eval_batch_size * int(rows.lengths.max()),
            nullcontext if twin else self.accelerator.autocast,
            halve_when_full=not self.is_fsdp_enabled,
        )
        logits = scorer.score(rows, self.args.process_index, self.args.world_size, on_batch)
        logits = self.accelerator.reduce(logits).cpu()
        return logits if self.coefficients is None else logits[:, :1]

    def _tell_batch(self, batches: int) -> None:
        self.callback_handler.eval_dataloader = range(batches)  # what bars and log lines take the length of
        self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)

    def _token_budget(self) -> int | None:
        """Most tokens for the model at once, None where the number of comments alone says how many."""
        asked = self.args.max_tokens_per_batch
        if asked != "auto":
            return None if asked is None else int(asked)
        if self.args.device.type != "cuda":
            return CPU_TOKENS
        rows = TokenRows(self.train_dataset)
        most = self.args.train_batch_size * int(rows.lengths.max())
        budget = measure_token_budget(
            self.model, self.layout, rows, most, self.accelerator.autocast, distributed=self.args.world_size > 1
        )
        # One number for all processes, which a checkpoint can keep.
        return int(self.accelerator.gather(torch.tensor([budget], device=self.args.device)).min())

    def _explain_choices(self) -> None:
        """Say in the log how this machine is used, and why."""
        device, precision = self.args.device, self.mixed_precision
        if device.type in ("cpu", "cuda"):
            best, reason = best_precision(compute_capability(device))
            name = precision_name(precision)
            if best == precision:
                logger.info(f"Computing in {name}: {reason}.")
            else:
                logger.warning(
                    f"Computing in {name}, as the Accelerate config or its default says, but {reason}: "
                    f"`mixed_precision: {best}` is the better choice here."
                )
        if device.type == "cpu":
            logger.info(describe_cpu_settings())
        rows = "without padding" if self.layout.packed else "padded to the longest of a batch"
        if not self.layout.packed and self.args.train_sampling_strategy == "random":
            logger.info("Rows of any length are padded together; --train_sampling_strategy group_by_length is faster.")
        attention = getattr(getattr(self.model, "config", None), "_attn_implementation", "the model's own")
        budget = "" if self.max_tokens is None else f", at most {self.max_tokens:,} tokens at a time"
        logger.info(
            f"Comments are computed {rows}{budget}; attention: {attention}; "
            f"{self.args.optim.value}; torch.compile is "
            f"{'on' if self.args.torch_compile else 'off, as every batch has a shape of its own to compile for'}."
        )


def steps_of_later_negatives(args: TrainingArguments, labels: np.ndarray) -> int:
    """Optimiser steps of all passes, the later ones without some of the civil comments.

    Args:
        args: how many passes (`num_train_epochs`), the share of the civil comments in those after the first, and the
            comments of a step.
        labels: of the training rows, `(rows,)`, 0 to 1.
    """
    left_out = int((labels < TOXIC_THRESHOLD).sum())
    left_out -= round(args.later_negatives * left_out)
    epochs, rows = args.num_train_epochs, len(labels)
    whole, rest = divmod(round(epochs * rows - max(0, epochs - 1) * left_out), rows)
    rows_of_step = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    return whole * math.ceil(rows / rows_of_step) + math.ceil(rest / rows_of_step)
