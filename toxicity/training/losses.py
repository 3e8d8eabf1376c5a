"""The training loss: binary cross-entropy of every label, plus that of auxiliary targets."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from toxicity.data.token_dataset import IGNORED


@dataclass(frozen=True)
class LossOptions:
    """How much each target counts in the loss; the defaults are for a single label."""

    coefficients: torch.Tensor | None = None  # float32 `(labels + auxiliary targets,)`; None for 1 each
    positive_weights: torch.Tensor | None = None  # float32 `(labels,)`; None for 1 each
    focal_gamma: float = 0.0
    pairing: float = 0.0  # of the mean squared difference between the logits of a comment and of its copies

    def to(self, device: torch.device) -> LossOptions:
        """The same on another device."""

        def moved(tensor: torch.Tensor | None) -> torch.Tensor | None:
            return None if tensor is None else tensor.to(device)

        return LossOptions(moved(self.coefficients), moved(self.positive_weights), self.focal_gamma, self.pairing)


def training_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None = None,
    weights: torch.Tensor | None = None,
    auxiliary: torch.Tensor | None = None,
    options: LossOptions = LossOptions(),
    pairs: torch.Tensor | None = None,
) -> torch.Tensor:
    """Loss of the labels and of the auxiliary targets, averaged over rows: a scalar in fp32, under any autocast.

    `c₀ w loss(main label) + sum over the other labels of c loss(label) + sum over auxiliary targets of c BCE(target)`.
    With auxiliary targets it is that of the fourth place of the competition of 2019, there with the six subtypes,
    c = 1/6 each, and eleven identities, c = 1/4/11, the latter on annotated rows.

    Counterfactual logit pairing adds `pairing (logit − logit of a copy)²`, the mean over the copies of a row and the
    labels. It is that of Garg et al. 2019 (https://arxiv.org/abs/1809.10610), with the square, as in Kannan et al. 2018
    (https://arxiv.org/abs/1803.06373), in place of the absolute value, whose gradient is as large for pairs that agree
    by now.

    It is the same for any accumulation, batch shape or number of processes.

    Args:
        logits: `(rows, labels + auxiliary targets)`, any float dtype.
        labels: float `(rows, labels)`, 0 to 1, NaN where nobody said, `IGNORED` in rows that do not count at all.
        num_items_in_batch: rows in the whole optimiser step, over all accumulation steps and processes. The sum over
            the rows here is divided by it, so that micro-batches add up to the mean. None for the mean over these rows.
        weights: w, float `(rows, 1)`, with mean 1 over the whole dataset; the divisor stays the number of rows.
        auxiliary: float `(rows, auxiliary targets)`, 0 to 1, NaN where a target does not count.
        options: c, pairing, and what `label_loss` takes.
        pairs: rows and their copies, whose logits are to be the same, int64 `(pairs, 2)`; copies are `IGNORED` rows.
    """
    number = labels.shape[1]
    rows = labels[:, :1] != IGNORED
    # A single label is known of every row.
    known = rows if number == 1 else rows & ~labels.isnan()
    counted = known.float() if options.coefficients is None else known * options.coefficients[:number]
    if weights is not None:
        counted = counted * weights if number == 1 else torch.cat([counted[:, :1] * weights, counted[:, 1:]], 1)
    labels = labels if number == 1 else torch.where(known, labels, 0.0)
    total = label_loss(logits[:, :number], labels, counted, options)
    if auxiliary is not None:
        counted = rows & ~auxiliary.isnan()
        counted = counted.float() if options.coefficients is None else counted * options.coefficients[number:]
        total = total + label_loss(logits[:, number:], auxiliary.nan_to_num(), counted)
    if pairs is not None:
        row, copy = logits[:, :number].float()[pairs].unbind(1)
        # How many copies the row of each pair has; counted without waiting for the device, as `bincount` would.
        copies = (pairs[:, :1] == pairs[:, 0]).sum(1)
        total = total + options.pairing * ((row - copy).square().mean(1) / copies).sum()
    return total / (rows.sum() if num_items_in_batch is None else num_items_in_batch)


def label_loss(
    logits: torch.Tensor, labels: torch.Tensor, counted: torch.Tensor, options: LossOptions = LossOptions()
) -> torch.Tensor:
    """The sum of the losses of labels, by default binary cross-entropies: a scalar in fp32.

    With the probability p of a label, its target t, the weight a of its positive class and the gamma of the focal loss
    a loss is `−(a t (1 − p)^gamma log p + (1 − t) p^gamma log(1 − p))`. The weight is that of `pos_weight` in torch's
    `BCEWithLogitsLoss`; the focal loss is that of Lin et al. 2017, "Focal Loss for Dense Object Detection"
    (https://arxiv.org/abs/1708.02002), there for t of 0 and 1, with weights `alpha` and `1 − alpha`.

    Args:
        logits: `(rows, labels)`, any float dtype.
        labels: float `(rows, labels)`, 0 to 1.
        counted: what each loss is multiplied by, float `(rows, labels)`.
        options: a, gamma.
    """
    logits, labels = logits.float(), labels.float()
    if not options.focal_gamma:
        return binary_cross_entropy_with_logits(
            logits, labels, weight=counted, pos_weight=options.positive_weights, reduction="sum"
        )
    log_p, log_rest = logsigmoid(logits), logsigmoid(-logits)
    positive = labels * (options.focal_gamma * log_rest).exp() * log_p
    if options.positive_weights is not None:
        positive = positive * options.positive_weights
    return -((positive + (1 - labels) * (options.focal_gamma * log_p).exp() * log_rest) * counted).sum()


def mean_binary_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean over the labels of the mean binary cross-entropy of the rows in which they are known: a scalar in fp32.

    Args:
        logits: `(rows, labels)`, any float dtype.
        labels: float `(rows, labels)`, 0 to 1, NaN where nobody said. NaN if no label is known in any row.
    """
    known = ~labels.isnan()
    losses = known * binary_cross_entropy_with_logits(logits.float(), labels.nan_to_num(), reduction="none")
    return (losses.sum(0) / known.sum(0)).nanmean()
