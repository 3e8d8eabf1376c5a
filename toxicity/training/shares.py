"""A part of a step in shares, computed side by side on a CPU, each by a thread with cores of its own.

One thread for each core computes matrix products faster than two threads that split each of them, and the small
operations between them, of which a thread does each by itself, take the time of half the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from toxicity.models.cpu_layers import drawing_from

# Fewest tokens of a share, and most shares: each takes room for its gradients, and time to add these up.
TOKENS_OF_SHARE, MOST_SHARES = 512, 4


def shares_of(tokens: int, threads: int) -> int:
    """In how many shares to compute this many tokens with these threads, each share with equally many of them."""
    most = max(1, min(tokens // TOKENS_OF_SHARE, MOST_SHARES))
    return threads // -(-threads // most)


def loss_of_shares(
    losses: Sequence[Callable[[], torch.Tensor]], model: nn.Module, pool: ThreadPoolExecutor
) -> torch.Tensor:
    """The sum of losses, whose gradients are computed at once, and are handed to the model's weights by `backward`.

    Neither depends on which thread is the faster: each share draws its random numbers from a generator of its own,
    seeded by torch's, and sums are taken in the order of the shares.

    Args:
        losses: compute the loss of a share each, a scalar, with no random numbers but those of `cpu_layers`.
        pool: has a thread for each share but the first.
    """
    return _SumOfLosses.apply(losses, model, pool, *[weight for weight in model.parameters() if weight.requires_grad])


class _SumOfLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        losses: Sequence[Callable[[], torch.Tensor]],
        model: nn.Module,
        pool: ThreadPoolExecutor,
        *weights: torch.Tensor,
    ) -> torch.Tensor:
        with _sparse_gradients(model):
            of_shares, gradients = zip(*_side_by_side(losses, weights, pool), strict=True)
        context.gradients = [_total(of_weight) for of_weight in zip(*gradients, strict=True)]
        return torch.stack(of_shares).sum()

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        # Nothing else may hold them, or they would be copied.
        gradients, context.gradients = context.gradients, None
        if gradient != 1:
            for known in gradients:
                if known is not None:
                    known.mul_(gradient)
        return None, None, None, *gradients


@contextmanager
def _sparse_gradients(model: nn.Module) -> Iterator[None]:
    """Have embeddings compute sparse gradients: a dense one, of all words, would be zeroed and added for each share."""
    embeddings = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    for embedding in embeddings:
        embedding.sparse = True
    try:
        yield
    finally:
        for embedding in embeddings:
            embedding.sparse = False


def _total(gradients: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    """The sum of a weight's gradients, dense; None if no share has one."""
    total, *others = [gradient for gradient in gradients if gradient is not None] or [None]
    if total is not None and total.is_sparse:
        total = torch.zeros(total.shape, dtype=total.dtype).add_(total)
    for gradient in others:
        total.add_(gradient)
    return total


def _side_by_side(
    losses: Sequence[Callable[[], torch.Tensor]], weights: Sequence[torch.Tensor], pool: ThreadPoolExecutor
) -> list[tuple[torch.Tensor, tuple[torch.Tensor | None, ...]]]:
    """Loss and gradients of each share; those of a weight that no loss depends on are None."""
    threads = torch.get_num_threads()
    seeds = torch.randint(2**63 - 1, (len(losses),)).tolist()

    def compute(loss_of: Callable[[], torch.Tensor], seed: int) -> tuple[torch.Tensor, tuple[torch.Tensor | None, ...]]:
        # Of this thread for what torch computes itself, and of the whole process for what MKL does.
        torch.set_num_threads(max(1, threads // len(losses)))
        # Autocast has one cache of converted weights for all threads. The first to leave autocast would empty it, and
        # whether a weight that is used again is converted again would depend on the others' pace.
        torch.autocast_increment_nesting()
        try:
            with torch.enable_grad(), drawing_from(torch.Generator().manual_seed(seed)):
                loss = loss_of()
                return loss.detach(), torch.autograd.grad(loss, weights, allow_unused=True)
        finally:
            torch.autocast_decrement_nesting()

    later = [pool.submit(compute, *share) for share in zip(losses[1:], seeds[1:], strict=True)]
    try:
        first = compute(losses[0], seeds[0])
    finally:
        wait(later)
        torch.clear_autocast_cache()
        torch.set_num_threads(threads)
    return [first, *(share.result() for share in later)]
