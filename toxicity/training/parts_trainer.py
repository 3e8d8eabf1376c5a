"""A Trainer that computes each batch in parts under a token budget, and in smaller ones once memory has run out."""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import Any

import torch
from accelerate.utils import send_to_device
from accelerate.utils.memory import clear_device_cache

from toxicity.core.errors import RequestError, RunFailure
from toxicity.core.training_arguments import TrainingArguments
from toxicity.data.token_dataset import IGNORED
from toxicity.hardware.memory import is_out_of_memory, room_of
from toxicity.models.packing import Layout
from toxicity.training import shares
from toxicity.training.batching import Collator
from toxicity.training.resumable_trainer import ResumableTrainer
from toxicity.training.token_budget import USABLE_SHARE

logger = logging.getLogger(__name__)


class PartsTrainer(ResumableTrainer):
    """Trains on the batches of a `Collator`, part by part, and counts their rows and tokens."""

    args: TrainingArguments
    data_collator: Collator
    compiler: dict[str, Any]  # options of `torch.compile`; empty where the model's layers are not compiled
    _trained_rows = _trained_tokens = 0

    @property
    def max_tokens(self) -> int | None:
        """Most tokens of a part, None if the number of rows alone limits it."""
        return self.data_collator.max_tokens

    def trained_rows_and_tokens(self) -> list[int]:
        """Rows and tokens trained on, over all processes and epochs, without padding; every process calls it."""
        counts = torch.tensor([self._trained_rows, self._trained_tokens], device=self.args.device)
        return self.accelerator.reduce(counts).tolist()

    def counts(self) -> dict[str, int]:
        """What a checkpoint records: rows and tokens trained on, and the token budget."""
        rows, tokens = self.trained_rows_and_tokens()
        counts = {"trained_rows": rows, "trained_tokens": tokens}
        return counts if self.max_tokens is None else counts | {"max_tokens": self.max_tokens}

    def restore_counts(self, counts: dict[str, int]) -> None:
        """Take over what `counts` returned; only the main process keeps the sums, as those of all are added up."""
        if self.is_world_process_zero():
            self._trained_rows, self._trained_tokens = counts["trained_rows"], counts["trained_tokens"]
        now, before = self.max_tokens, counts.get("max_tokens")
        if before is None or before == now:
            return
        # A smaller one was halved when memory ran out. Measured ones differ a little between starts, as free memory
        # does, and steps that are cut into other parts are rounded differently.
        if now is None or before < now or (self.args.cut_by_memory and before * USABLE_SHARE <= now):
            logger.info(f"At most {before:,} tokens at a time, as before the interruption.")
            self.data_collator.max_tokens = before
        else:
            logger.warning(
                f"At most {now:,} tokens are computed at a time here, and {before:,} were before: the weights will not "
                "be the same to the last bit."
            )

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as `ResumableTrainer` does.

        Raises:
            RequestError: if a single comment does not fit into the device's memory.
            RunFailure: if memory runs out where the step cannot be done again.
        """
        try:
            return super().train(*args, **kwargs)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if self.is_fsdp_enabled:
                advice = "a smaller --per_device_train_batch_size and more --gradient_accumulation_steps"
            elif self.max_tokens is None:
                advice = "a --max_tokens_per_batch"
            else:
                advice = f"a --max_tokens_per_batch below {self.max_tokens:,}"
            raise RunFailure(
                f"the device's memory ran out in step {self.state.global_step + 1:,}.\n{self.last_good()} Start again "
                f"with --resume_from_checkpoint auto and {advice}."
            ) from error

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Compute loss and gradients of a batch, part by part; processes exchange gradients with the last part.

        If memory runs out, the batch is computed again in parts of half as many tokens, and so are all later ones.
        Not if gradients of earlier batches of the same step would be lost, or other processes wait for this one.
        """
        may_repeat = self.args.world_size == 1 and all(weight.grad is None for weight in model.parameters())
        budget_before = self.max_tokens
        loss = None
        while loss is None:
            if inputs["max_tokens"] != self.max_tokens:  # cut before memory ran out
                batch = self.data_collator(inputs["source"])
                inputs |= send_to_device(batch, self.args.device)
            loss = self._loss_of_parts(model, inputs["parts"], num_items_in_batch, may_repeat)
        if self.max_tokens != budget_before:
            logger.warning(
                f"Memory ran out in step {self.state.global_step + 1:,}, which was done again in smaller parts: from "
                f"here on at most {self.max_tokens:,} tokens are computed at a time."
            )
        self._trained_rows += inputs["rows"]
        self._trained_tokens += inputs["tokens"]
        return loss

    def threads_of_shares(self, layout: Layout) -> int:
        """Threads that compute shares of a batch side by side; 1 where it is computed as a whole. Logs the former.

        It is computed as a whole where more than our own layers draws random numbers, where processes share the model,
        where its code is compiled, where gradients are scaled while they are computed, and where threads are pinned.
        """
        args, precision = self.args, self.accelerator.mixed_precision
        others_draw = not layout.packed or args.gradient_checkpointing or args.neftune_noise_alpha
        shared = args.world_size > 1 or self.is_fsdp_enabled
        compiled = args.torch_compile or self.compiler
        if args.device.type != "cpu" or others_draw or shared or compiled or precision == "fp16":
            return 1
        threads = torch.get_num_threads()
        # A new thread may run where this one may: on a single core, if OMP_PROC_BIND has pinned it.
        if hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) < threads:
            return 1
        if threads > 1:
            logger.info(f"Each batch is computed in shares of {shares.TOKENS_OF_SHARE} tokens or more, side by side.")
        return threads

    def compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The loss of a part, as the Trainer computes it; that of its shares side by side, with their gradients."""
        if "shares" not in inputs:
            return super().compute_loss(model, inputs, *args, **kwargs)
        compute_loss = super().compute_loss
        losses = [partial(compute_loss, model, share, *args, **kwargs) for share in inputs["shares"]]
        return shares.loss_of_shares(losses, model, self._share_pool)

    @cached_property
    def _share_pool(self) -> ThreadPoolExecutor:
        # Its threads are started when they are needed, and are kept, as each has memory and kernels of its own.
        return ThreadPoolExecutor(self.data_collator.threads, thread_name_prefix="share")

    def _loss_of_parts(
        self, model: torch.nn.Module, parts: list[dict[str, Any]], num_items_in_batch: Any, may_repeat: bool
    ) -> torch.Tensor | None:
        """Loss of a batch, whose gradients are computed too; None, and no gradients, if the token budget was halved."""
        losses = []
        try:
            for part in parts[:-1]:
                with self.accelerator.no_sync(model):
                    losses.append(super().training_step(model, part, num_items_in_batch))
            losses.append(super().training_step(model, parts[-1], num_items_in_batch))
            return torch.stack(losses).sum()
        except RuntimeError as error:
            if not may_repeat or not is_out_of_memory(error):
                raise
        # Outside the except block, as the exception keeps the tensors of the failed attempt alive.
        failed = parts[len(losses)]
        model.zero_grad(set_to_none=True)
        clear_device_cache(garbage_collection=True)
        in_shares = failed.get("shares", [failed])
        tokens = sum(share["input_ids"].numel() for share in in_shares)
        # What a copy is compared with comes with it, and cannot be computed apart.
        if sum(int((share["labels"]["labels"][:, 0] != IGNORED).sum()) for share in in_shares) <= 1:
            copies = any(len(share["labels"].get("pairs", ())) for share in in_shares)
            what = f"the training on a comment {'and its copies ' if copies else ''}of {tokens:,} tokens"
            raise RequestError(
                f"{room_of(self.args.device, what) or f'there is no room for {what}.'}\n{self.last_good()} Start anew "
                f"with a smaller --max_seq_length{' or fewer --counterfactuals' if copies else ''}."
            )
        self.data_collator.max_tokens = min(self.max_tokens or tokens, tokens) // 2
        return None
