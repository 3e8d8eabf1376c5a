"""Training targets: labels, the weight of each row in the loss, and auxiliary targets."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset, concatenate_datasets
from datasets.fingerprint import generate_random_fingerprint

from toxicity.core.errors import RequestError
from toxicity.core.label_names import synonyms_of
from toxicity.core.objective_arguments import BALANCED, ObjectiveArguments
from toxicity.core.schema import (
    ANNOTATOR_COUNTS,
    IDENTITIES,
    LABEL,
    NAMES,
    SUBTYPES,
    TOXIC_THRESHOLD,
    hard_labels,
)
from toxicity.data.counterfactuals import Counterfactuals
from toxicity.data.sources import label_targets_of
from toxicity.training.losses import LossOptions

logger = logging.getLogger(__name__)

# Columns, and the coefficient of the fourth place for the mean loss over them; that of toxicity is 1.
AUXILIARY = {"subtypes": (SUBTYPES, 1.0), "identities": (IDENTITIES, 0.25)}
TOXICITY_ANNOTATORS = ANNOTATOR_COUNTS[0]
# Base rates are clipped this far from 0 and 1, where their log odds would be infinite.
LEAST_RATE = 1e-4


@dataclass
class Objective:
    """Targets of the training rows, in their order."""

    labels: np.ndarray  # float32 `(rows,)`, 0 to 1; of several `(rows, labels)`, the main one first, NaN where unknown
    weights: np.ndarray | None  # of each row in the loss, float32 `(rows,)` with mean 1; None where all count the same
    names: tuple[str, ...]  # canonical column names of the auxiliary targets
    auxiliary: np.ndarray | None  # float32 `(rows, names)`, 0 to 1, NaN where not annotated; None without names
    coefficients: np.ndarray  # of each label, then of each auxiliary target in the loss, float32 `(labels + names,)`
    init_head_bias: bool = False  # whether the model starts from the base rates instead of from one half
    positive_weights: np.ndarray | None = None  # of the positive class of each label, float32 `(labels,)`
    focal_gamma: float = 0.0
    # Where the logits of copies are compared with those of their originals: the rows of the latter, int64 `(copies,)`,
    # -1 for copies of toxic comments, and how much the differences count in the loss. No copy is a training row then.
    originals: np.ndarray | None = None
    pairing: float = 0.0

    @property
    def loss_options(self) -> LossOptions:
        """How the targets count in the loss."""
        weights = None if self.positive_weights is None else torch.from_numpy(self.positive_weights)
        return LossOptions(torch.from_numpy(self.coefficients), weights, self.focal_gamma, self.pairing)

    @property
    def head_rates(self) -> np.ndarray | None:
        """The `base_rates` if the head is to start from their log odds."""
        return self.base_rates if self.init_head_bias else None

    @property
    def base_rates(self) -> np.ndarray:
        """Mean of each label and auxiliary target over the rows where it is known, float64 `(labels + names,)`."""
        rates = np.atleast_1d(np.nanmean(self.labels, axis=0, dtype=np.float64)).tolist()
        if self.auxiliary is not None:
            rates += np.nanmean(self.auxiliary, axis=0, dtype=np.float64).tolist()
        return np.clip(rates, LEAST_RATE, 1 - LEAST_RATE)

    def add_targets(self, tokens: Dataset) -> Dataset:
        """The tokenised comments with their targets as columns: `labels`, and `weights` and `auxiliary` if any."""
        columns = {"labels": self.labels, "weights": self.weights, "auxiliary": self.auxiliary}
        if self.originals is not None:
            # Of copies, which follow the rows, those of what they are of.
            rows = np.concatenate([np.arange(len(self.labels)), self.originals])
            columns = {name: None if values is None else values[rows] for name, values in columns.items()}
        return add_columns(tokens, {name: values for name, values in columns.items() if values is not None})


def add_columns(tokens: Dataset, columns: Mapping[str, np.ndarray]) -> Dataset:
    """The tokenised comments with these columns, each float32 `(rows,)`, or `(rows, n)`, which become lists."""
    arrays = {}
    for name, values in columns.items():
        flat = pa.array(np.ascontiguousarray(values).ravel())
        arrays[name] = flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    return concatenate_datasets([tokens, Dataset(pa.table(arrays), fingerprint=generate_random_fingerprint())], axis=1)


def validation_labels(comments: Dataset, names: Sequence[str]) -> np.ndarray:
    """The labels that a model is judged by, 0 or 1, with shape and type of those in `Objective`."""
    return _flat_if_one(_hard(label_targets_of(comments, names)))


def objective_of(
    comments: Dataset,
    arguments: ObjectiveArguments,
    absent: Mapping[str, str] | None = None,
    names_of_labels: Sequence[str] = (LABEL,),
    counterfactuals: Counterfactuals | None = None,
) -> Objective:
    """Read the training targets that are asked for from the columns of the comments, those of `data.sources.Splits`.

    Args:
        comments: the training rows, and after them copies, if there are any.
        arguments: what is asked for.
        absent: columns that the source has and that could not be used, each with the reason.
        names_of_labels, counterfactuals: those of `Splits`.

    Raises:
        RequestError: if the source lacks columns that these need, naming them, and why one could not be used; if the
            weights of the positive classes are not as many as the labels; or if no copy is of a civil comment where
            they are to be compared.
    """
    originals = None
    if counterfactuals is not None and arguments.counterfactual_pairing:
        originals = counterfactuals.originals
        comments = comments.select(range(len(comments) - len(originals)))
    variant = arguments.identity_weights
    auxiliary_columns = {kind: _not_labels(AUXILIARY[kind][0], names_of_labels) for kind in arguments.auxiliary_targets}
    asked = {
        "--targets smoothed": (TOXICITY_ANNOTATORS,) if arguments.targets == "smoothed" else (),
        f"--identity_weights {variant}": IDENTITIES if variant != "none" else (),
        **{f"--auxiliary_targets {kind}": columns for kind, columns in auxiliary_columns.items()},
    }
    for flag, names in asked.items():
        _require(comments, flag, names, absent or {})
    shares = label_targets_of(comments, names_of_labels)
    if originals is not None:
        originals = _of_civil(originals, shares[:, 0])
    labels = _hard(shares) if arguments.targets == "hard" else shares
    if arguments.targets == "smoothed":
        labels = smoothed(shares, _column(comments, TOXICITY_ANNOTATORS)[:, None])
    weights = None if variant == "none" else identity_weights(shares[:, 0], _matrix(comments, IDENTITIES), variant)
    # The mean over the labels, each over the rows of the whole dataset where it is known, however many a batch has.
    of_labels = 1 / len(names_of_labels) / (1 - np.isnan(labels).mean(0))
    coefficient_of: dict[str, float] = {}
    for kind, columns in auxiliary_columns.items():
        of_all, coefficient = AUXILIARY[kind]
        coefficient_of |= dict.fromkeys(columns, coefficient / len(of_all))
    names, coefficients = tuple(coefficient_of), np.array(list(coefficient_of.values()))
    auxiliary = _matrix(comments, names) if names else None
    if auxiliary is not None:
        coefficients /= 1 - np.isnan(auxiliary).mean(0)
    labels = labels.astype(np.float32)
    return Objective(
        _flat_if_one(labels),
        weights,
        names,
        auxiliary,
        np.concatenate([of_labels, coefficients]).astype(np.float32),
        arguments.init_head_bias,
        positive_weights(labels, arguments.positive_class_weight),
        arguments.focal_gamma or 0.0,
        originals,
        arguments.counterfactual_pairing,
    )


def _of_civil(originals: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The rows that copies are of, -1 in place of those that are not civil.

    As Garg et al. 2019 do: what a toxic comment says of one group is often no insult of another.
    """
    civil = shares[originals] < TOXIC_THRESHOLD
    if not civil.any():
        raise RequestError(
            "--counterfactual_pairing compares civil comments that name a group with their copies, and no training "
            "comment is one: leave it out."
        )
    return np.where(civil, originals, -1)


def positive_weights(labels: np.ndarray, asked: Sequence[str] | None) -> np.ndarray | None:
    """The weight of each label's positive class in the loss, float32 `(labels,)`; None if none is asked for.

    `balanced` is the number of negative rows divided by that of positive ones, as torch's documentation of
    `BCEWithLogitsLoss` has it: both classes then have the same part in the loss. A label of one class keeps 1.

    Args:
        labels: float `(rows, labels)`, 0 to 1, NaN where nobody said.
        asked: of `ObjectiveArguments`: one for all labels, or one for each.

    Raises:
        RequestError: for another number of weights.
    """
    if not asked:
        return None
    if len(asked) not in (1, labels.shape[1]):
        raise RequestError(
            f"--positive_class_weight has {len(asked)} values, and there are {labels.shape[1]} labels: give one for "
            "all of them, or one for each."
        )
    positive = np.nansum(labels, axis=0, dtype=np.float64)
    negative = np.nansum(1 - labels, axis=0, dtype=np.float64)
    balanced = np.divide(negative, positive, out=np.ones_like(positive), where=(positive > 0) & (negative > 0))
    given = list(asked) * (labels.shape[1] if len(asked) == 1 else 1)
    chosen = [balanced[place] if value == BALANCED else float(value) for place, value in enumerate(given)]
    return np.array(chosen, dtype=np.float32)


def _not_labels(columns: Sequence[str], names_of_labels: Sequence[str]) -> list[str]:
    """Those of the auxiliary targets that the model does not learn as labels anyway."""
    known = [synonyms_of(name) for name in names_of_labels]
    labels = {canonical for canonical in columns if NAMES[canonical] in known}
    if labels:
        logger.info(f"No auxiliary targets, as they are labels: {', '.join(sorted(labels))}.")
    return [name for name in columns if name not in labels]


def _flat_if_one(labels: np.ndarray) -> np.ndarray:
    return labels[:, 0] if labels.shape[1] == 1 else labels


def _hard(shares: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(shares), np.float32(np.nan), hard_labels(shares))


def smoothed(target: np.ndarray, annotators: np.ndarray) -> np.ndarray:
    """Share of annotators who called a comment toxic, smoothed towards one half, the more the fewer they were.

    `(t n + 1) / (n + 2)`, the mean under a prior of Beta(1, 1), as the third place of the competition of 2019 had it:
    1/12 if none of ten said toxic, 2/3 if the only one did. Where their number is not known, the share stays as it is.

    Args:
        target: the share t, float `(rows,)` or `(rows, labels)`, 0 to 1.
        annotators: their number n, float `(rows,)` or `(rows, 1)`, NaN where not known.
    """
    return np.where(np.isnan(annotators), target, (target * annotators + 1) / (annotators + 2))


def identity_weights(target: np.ndarray, identities: np.ndarray, variant: str) -> np.ndarray:
    """Weights that give civil comments which mention an identity, and toxic ones which mention none, a larger share.

    These are the rows that BPSN and BNSP AUC are computed on. Let t mean that the comment is toxic, and i that it
    mentions an identity, both from 0.5 on, and not if it is not annotated. The weights, to be divided by their mean
    over the rows where t is known:

    - `any` (7th and 10th place of the competition of 2019; the 4th in steps of one instead of a quarter): 1/4 +
      1/4 [i] + 1/4 [t, and some identity is not mentioned] + 1/4 [not t, and i]. As hardly any comment mentions all
      identities, that is 1/4 for civil and 1/2 for toxic comments without identities, and 3/4 for both with.
    - `share` (3rd place): the same, with the share of the identities that are mentioned in place of [i] in the second
      term.
    - `detoxify` (the library of that name): 1/4 + 1/4 [i] + 1/4 [t and not i, or i and not t].

    Args:
        target: float `(rows,)`, 0 to 1, NaN where nobody said.
        identities: float `(rows, identities)`, 0 to 1, NaN where not annotated.
    """
    toxic = target >= TOXIC_THRESHOLD
    mentioned = identities >= TOXIC_THRESHOLD  # NaN is not
    some, every = mentioned.any(1), mentioned.all(1)
    # Without the common factor of 1/4, which cancels in the division by the mean.
    if variant == "detoxify":
        quarters = 1.0 + some + (toxic ^ some)
    else:
        second = some if variant == "any" else mentioned.mean(1)
        quarters = 1.0 + second + (toxic & ~every) + (~toxic & some)
    return (quarters / quarters[~np.isnan(target)].mean()).astype(np.float32)


def _require(comments: Dataset, flag: str, names: Sequence[str], absent: Mapping[str, str]) -> None:
    columns = comments.select_columns(list(names)).with_format("arrow")[:] if names else {}
    missing = [name for name in names if columns[name].null_count == len(comments)]
    if unusable := [f"{name} ({absent[name]})" for name in missing if name in absent]:
        raise RequestError(
            f"{flag} needs columns that could not be read: {', '.join(unusable)}. Mend them, or leave the flag out."
        )
    if missing:
        raise RequestError(
            f"{flag} needs columns that these comments do not have: {', '.join(missing)}. Give data that have them, "
            "such as train.csv of Jigsaw Unintended Bias in Toxicity Classification, or leave the flag out."
        )


def _column(comments: Dataset, name: str) -> np.ndarray:
    return comments.select_columns(name).with_format("arrow")[:][name].cast(pa.float64()).to_numpy()


def _matrix(comments: Dataset, names: Sequence[str]) -> np.ndarray:
    return np.stack([_column(comments, name).astype(np.float32) for name in names], axis=1)
