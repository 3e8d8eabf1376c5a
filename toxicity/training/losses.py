"""The training loss: weighted binary cross-entropy of toxicity, plus that of auxiliary targets."""

from __future__ import annotations

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from toxicity.data.token_dataset import IGNORED


def training_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None = None,
    weights: torch.Tensor | None = None,
    auxiliary: torch.Tensor | None = None,
    coefficients: torch.Tensor | None = None,
) -> torch.Tensor:
    """Loss of toxicity and of the auxiliary targets, averaged over rows: a scalar in fp32.

    `w BCE(toxicity) + sum over auxiliary targets of c BCE(target)`: the loss of the fourth place of the competition of
    2019, there with the six subtypes, c = 1/6 each, and eleven identities, c = 1/4/11, the latter on annotated rows.

    Args:
        logits: `(rows, 1 + auxiliary targets)`, any float dtype; toxicity's first.
        labels: of toxicity, as in `mean_binary_cross_entropy`; `IGNORED` rows count for no auxiliary target.
        num_items_in_batch, weights: as there; the weights are w.
        auxiliary: float `(rows, auxiliary targets)`, 0 to 1, NaN where a target does not count.
        coefficients: c, float `(auxiliary targets,)`.
    """
    loss = mean_binary_cross_entropy(logits[:, :1], labels, num_items_in_batch, weights)
    if auxiliary is None:
        return loss
    rows = labels != IGNORED
    known = rows & ~auxiliary.isnan()
    total = binary_cross_entropy_with_logits(
        logits[:, 1:].float(), auxiliary.nan_to_num(), weight=known * coefficients, reduction="sum"
    )
    return loss + total / (rows.sum() if num_items_in_batch is None else num_items_in_batch)


def mean_binary_cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None = None,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Binary cross-entropy averaged over rows, the same for any accumulation, batch shape or number of processes.

    A scalar in fp32, under any autocast.

    Args:
        logits: `(rows, 1)`, any float dtype.
        labels: `(rows, 1)`, float, 0 to 1, or `IGNORED` for rows that do not count.
        num_items_in_batch: rows in the whole optimiser step, over all accumulation steps and processes. The sum over
            the rows here is divided by it, so that micro-batches add up to the mean. None for the mean over these rows.
        weights: float `(rows, 1)` that multiply each row's loss, with mean 1 over the whole dataset; the divisor stays
            the number of rows.
    """
    counted = (labels != IGNORED).float()
    of_each = counted if weights is None else counted * weights
    total = binary_cross_entropy_with_logits(logits.float(), labels.float(), weight=of_each, reduction="sum")
    return total / (counted.sum() if num_items_in_batch is None else num_items_in_batch)
