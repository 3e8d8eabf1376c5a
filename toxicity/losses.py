"""What training minimises."""

from __future__ import annotations

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

# Label of a row that has no part in the loss; the Trainer leaves it out of `num_items_in_batch`, too.
IGNORED = -100.0


def mean_binary_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
) -> torch.Tensor:
    """Binary cross-entropy, the mean over comments, whatever the accumulation, batch shape or process count.

    Computed in fp32 under any autocast.

    Args:
        logits: `(rows, 1)`, any float dtype.
        labels: `(rows, 1)`, float, 0 to 1, or `IGNORED` for rows without a part in it.
        num_items_in_batch: comments in the whole optimiser step, over its accumulation steps and processes.
            The sum over these rows is divided by it, so that accumulated micro-batches add up to the mean.
            Without it: the mean over these rows.

    Returns:
        Scalar fp32 tensor.
    """
    counted = (labels != IGNORED).float()
    total = binary_cross_entropy_with_logits(logits.float(), labels.float(), weight=counted, reduction="sum")
    return total / (counted.sum() if num_items_in_batch is None else num_items_in_batch)
