"""The Trainer of this job: scores in dataset order, per-layer learning rates, phases on the clock."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import EarlyStoppingCallback, PreTrainedModel, PrinterCallback
from transformers.trainer_utils import EvalLoopOutput

from toxicity.core.errors import RunFailure
from toxicity.core.schema import LABEL, TOXIC_THRESHOLD
from toxicity.core.training_arguments import TrainingArguments
from toxicity.data.token_dataset import TokenRows
from toxicity.evaluation.label_metrics import label_aucs
from toxicity.hardware.cpu import describe_cpu_settings
from toxicity.hardware.precision import best_precision, precision_name, torch_dtype
from toxicity.models.classifier import logits_of, with_labels
from toxicity.models.compilation import compile_layers
from toxicity.models.cpu_layers import use_faster_layers
from toxicity.models.gradients import weights_without_gradient
from toxicity.models.half_weights import cast_once
from toxicity.models.output_layer import output_layer
from toxicity.models.padding_free import layout_for
from toxicity.models.scoring import BatchScorer, in_half, scoring_tokens, why_not_finite
from toxicity.training.accelerator import reduce_in_fp32, scale_on_cpu, take_compiler
from toxicity.training.batching import Collator, EpochSampler, EvenSampler, steps_with_later_negatives
from toxicity.training.callbacks import LogLines, keep_trackers_open
from toxicity.training.losses import LossOptions, mean_binary_cross_entropy, training_loss
from toxicity.training.optimizer import decay_layer_rates
from toxicity.training.parts_trainer import PartsTrainer
from toxicity.training.token_budget import choose_token_budget

logger = logging.getLogger(__name__)


class ToxicityTrainer(PartsTrainer):
    """Trains on `TokenRows` with `labels`, and scores rows in their own order.

    With auxiliary targets (`targets.Objective`) the model has a logit for each of them, after those of the labels. They
    are trained on, and left out of the scores and of the model that is saved in the end.

    Args:
        loss_options: those of the `Objective`; by default a single label, and no auxiliary targets.
        options: of `ResumableTrainer` and of the Trainer: `processing_class`, the tokenizer, `train_dataset` and
            `eval_dataset`, each `TokenRows`, and `clock` are required.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: TrainingArguments,
        *,
        loss_options: LossOptions | None = None,
        **options: Any,
    ) -> None:
        evaluated: TokenRows = options["eval_dataset"]
        config = getattr(model, "config", None)
        names = (LABEL,) if config is None else tuple(config.id2label.values())
        self.names_of_labels = names[: evaluated.labels.shape[1]]
        self._has_auxiliary = len(names) > len(self.names_of_labels)
        if args.later_negatives != 1:
            args.max_steps = steps_with_later_negatives(args, _highest_labels(options["train_dataset"]))
        if args.world_size > 1 and args.ddp_find_unused_parameters is None and not args.is_sharded:
            args.ddp_find_unused_parameters = _has_unused_weights(model, options["train_dataset"])
        super().__init__(
            model=model,
            args=args,
            compute_loss_func=lambda outputs, labels, num_items_in_batch: training_loss(
                logits_of(outputs), **labels, num_items_in_batch=num_items_in_batch, options=self.loss_options
            ),
            **options,
        )
        self.loss_options = (loss_options or LossOptions()).to(args.device)
        precision = torch_dtype(self.accelerator.mixed_precision)
        self.layout, self.scoring_layout = (
            layout_for(self.model, args.device, self.processing_class.pad_token_id, precision, training)
            for training in (True, False)
        )
        if args.device.type == "cpu":
            use_faster_layers(self.model)
        elif args.device.type == "cuda" and self._half_precision is not None:
            cast_once(self.model, self._half_precision)
        if self.compiler:
            self._compile_layers()
        elif args.torch_compile:
            # A sharded model is compiled as a whole, and each packed batch has another shape.
            self.layout = self.scoring_layout = replace(self.layout, packed=False)
        if args.early_stopping_patience:
            self.add_callback(EarlyStoppingCallback(args.early_stopping_patience))
        budget = choose_token_budget(args, self.model, self.layout, self.train_dataset, self.accelerator)
        self.data_collator = Collator(self.layout, budget, self.threads_of_shares(self.layout))
        self._log_choices()
        if args.disable_tqdm:
            self.remove_callback(PrinterCallback)
            self.add_callback(LogLines())
        keep_trackers_open(self)

    def create_accelerator_and_postprocess(self) -> None:
        """Make the accelerator as the Trainer does, with what `training.accelerator` adds; note its `compiler`."""
        super().create_accelerator_and_postprocess()
        scale_on_cpu(self.accelerator)
        reduce_in_fp32(self.accelerator)
        # A sharded model is compiled as a whole.
        self.compiler = {} if self.is_fsdp_enabled else take_compiler(self.accelerator)

    def _compile_layers(self) -> None:
        layers = compile_layers(self.model, **self.compiler)
        logger.info(
            f"The {layers} layers of the model are compiled by {self.compiler['backend']}: the first batch of training "
            "waits a minute or more for that, and the first one of scoring for a part of that. Whether it pays was not "
            "measured on any GPU: compare with a run without --torch_compile."
        )

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Make the optimiser as the Trainer does, with a learning rate of its own for each layer if asked for."""
        made_before = self.optimizer is not None
        optimizer = super().create_optimizer(*args, **kwargs)
        if self.args.layerwise_lr_decay != 1 and not made_before:
            decay_layer_rates(optimizer, self.model, self.args.layerwise_lr_decay)
        return optimizer

    def restore_progress(self) -> None:
        """Restore what the Trainer does not, and for early stopping the number of evaluations without a better AUC."""
        super().restore_progress()
        best = self.state.best_global_step or 0
        since_best = sum("eval_auc" in entry and entry["step"] > best for entry in self.state.log_history)
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, EarlyStoppingCallback):
                callback.early_stopping_patience_counter = since_best

    def write_model(self, folder: Path, state_dict: dict[str, torch.Tensor]) -> None:
        """Write the trained model without the logits of auxiliary targets."""
        labels = len(self.names_of_labels)
        if not self._has_auxiliary:
            super().write_model(folder, state_dict)
            return
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        name, layer = output_layer(model)
        rows = {f"{name}.{part}": state_dict[f"{name}.{part}"][:labels] for part in layer.state_dict()}
        config, model.config = model.config, with_labels(model.config, self.names_of_labels)
        try:
            super().write_model(folder, state_dict | rows)
        finally:
            model.config = config

    def score(self, rows: TokenRows) -> np.ndarray:
        """Logits of every row, float32 `(rows, labels)`, in the order of `rows`, charged to the phase `inference`."""
        with self.clock.phase("inference"):
            return self.predict(rows, metric_key_prefix="eval").predictions

    def score_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Logits of texts, float32 `(texts, labels)`, in their order; charged to no phase."""
        input_ids = self.processing_class(list(texts), truncation=True)["input_ids"]
        return self._score_rows(TokenRows.from_lists(input_ids)).numpy()

    def get_eval_dataloader(self, eval_dataset: Dataset | None = None) -> DataLoader:
        """A loader that only carries the rows to `evaluation_loop`, which makes batches of its own."""
        return DataLoader(self.eval_dataset if eval_dataset is None else eval_dataset)

    get_test_dataloader = get_eval_dataloader

    def _get_train_sampler(self, train_dataset: TokenRows | None = None) -> Sampler | None:
        strategy = self.args.train_sampling_strategy
        batch_size, processes = self._train_batch_size, self.args.world_size
        if strategy in ("random", "group_by_length"):
            sampler = EpochSampler(
                train_dataset.lengths,
                batch_size * self.args.gradient_accumulation_steps * processes,
                self.args.seed if self.args.data_seed is None else self.args.data_seed,
                strategy == "group_by_length",
                sparse=_highest_labels(train_dataset) < TOXIC_THRESHOLD,
                later_share=self.args.later_negatives,
            )
        else:
            sampler = super()._get_train_sampler(train_dataset)
        if processes == 1:
            return sampler
        return EvenSampler(sampler, train_dataset.lengths, batch_size, processes, self.args.dataloader_drop_last)

    def evaluation_loop(
        self, dataloader: DataLoader, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any
    ) -> EvalLoopOutput:
        """Score the loader's rows; logits and labels are returned in dataset order, each float32 `(rows, labels)`."""
        rows: TokenRows = dataloader.dataset
        logits = self._score_rows(rows, self._on_scored_batch)
        if reason := why_not_finite(logits.numpy(), self.accelerator.mixed_precision):
            if self.is_in_train and self.args.metric_for_best_model not in (None, "loss", "eval_loss"):
                raise RunFailure(f"there is no AUC to choose the best weights by: {reason}\n{self.last_good()}")
            logger.warning(f"{reason[0].upper()}{reason[1:]}")
        labels = rows.labels
        metrics = {"loss": mean_binary_cross_entropy(logits, torch.from_numpy(labels)).item()}
        with self.clock.phase("metrics"):
            # The Trainer can log single numbers only.
            metrics |= label_aucs(logits.numpy(), labels, self.names_of_labels)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        return EvalLoopOutput(logits.numpy(), labels, metrics, len(rows))

    @property
    def _half_precision(self) -> torch.dtype | None:
        """The dtype that weights are converted to here; None in fp32, or where autocast, FSDP or a compiler does it."""
        precision, on_cpu = self.accelerator.mixed_precision, self.args.device.type == "cpu"
        compiled = (self.compiler or self.args.torch_compile) and not on_cpu
        # In fp16 a CPU computes with autocast.
        here = precision == "bf16" or (precision == "fp16" and not on_cpu)
        return torch_dtype(precision) if here and not compiled and not self.is_fsdp_enabled else None

    def scoring_budget(self, rows: TokenRows) -> int:
        """Most tokens that are scored at once."""
        on_cpu, asked = self.args.device.type == "cpu", self.args.max_tokens_per_batch
        if on_cpu or self.is_fsdp_enabled or asked not in (None, "auto"):
            return self.max_tokens or self.args.per_device_eval_batch_size * int(rows.lengths.max())
        # More than there is room for in training; a batch that does not fit after all is halved.
        return scoring_tokens(self.args.device)

    def _scorer(self, rows: TokenRows) -> BatchScorer:
        dtype = self._half_precision
        copied = dtype is not None
        return BatchScorer(
            in_half(self.model, dtype) if copied else self.model,
            self.scoring_layout,
            self.args.device,
            self.scoring_budget(rows),
            nullcontext if copied else self.accelerator.autocast,
            halve_when_full=not self.is_fsdp_enabled,
        )

    def _score_rows(self, rows: TokenRows, on_batch: Callable[[int], object] = lambda batches: None) -> torch.Tensor:
        logits = self._scorer(rows).score(rows, self.args.process_index, self.args.world_size, on_batch)
        return self.accelerator.reduce(logits).cpu()[:, : len(self.names_of_labels)]

    def _on_scored_batch(self, batches: int) -> None:
        self.callback_handler.eval_dataloader = range(batches)  # callbacks show progress by its length
        self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)

    def _log_choices(self) -> None:
        """Log how this machine is used, and why."""
        device, precision = self.args.device, self.accelerator.mixed_precision
        if device.type in ("cpu", "cuda"):
            best, reason = best_precision(device)
            name = precision_name(precision)
            if best == precision:
                logger.info(f"Computing in {name}: {reason}.")
            else:
                has_tf32 = device.type == "cuda" and (precision, best) == ("no", "bf16") and torch.version.hip is None
                tf32 = " Without it, --tf32 true has the tensor cores multiply fp32, with inputs of 10 bits."
                logger.warning(
                    f"Computing in {name}, as the Accelerate config or its default says, but {reason}: "
                    f"`mixed_precision: {best}` is the better choice here."
                    f"{tf32 if has_tf32 and not self.args.tf32 else ''}"
                )
        if device.type == "cpu":
            logger.info(describe_cpu_settings())
        rows = "without padding" if self.layout.packed else "padded to the longest of a batch"
        if self.layout.packed and self.layout.grouping == "similar":
            rows = "padded to the longest of each group of similar length"
        if not self.layout.packed and self.args.train_sampling_strategy == "random":
            logger.info("Rows of any length are padded together; --train_sampling_strategy group_by_length is faster.")
        attention = getattr(getattr(self.model, "config", None), "_attn_implementation", "the model's own")
        budget = "" if self.max_tokens is None else f", at most {self.max_tokens:,} tokens at a time"
        compiled = "on" if self.compiler or self.args.torch_compile else "off"
        logger.info(
            f"Comments are computed {rows}{budget}; attention: {attention}; {self.args.optim.value}; torch.compile is "
            f"{compiled}."
        )


def _has_unused_weights(model: PreTrainedModel, rows: TokenRows) -> bool:
    """Whether some weights get no gradient: DistributedDataParallel would wait for that, and has to look for them."""
    (shortest,) = rows.tokens_of([int(rows.lengths.argmin())])
    if unused := weights_without_gradient(model, shortest.tolist()):
        logger.info(
            f"{len(unused):,} weights of this model get no gradient, {unused[0]} among them: each step searches for "
            "them, as if with --ddp_find_unused_parameters true."
        )
    return bool(unused)


def _highest_labels(rows: TokenRows) -> np.ndarray:
    """The highest of each row's labels, `(rows,)`: a comment is civil if none of them holds."""
    return np.nanmax(rows.labels, axis=1)
