"""Training targets: labels of toxicity, the weight of each row in the loss, and auxiliary targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from datasets import Dataset, concatenate_datasets
from datasets.fingerprint import generate_random_fingerprint

from toxicity.core.errors import RequestError
from toxicity.core.objective_arguments import ObjectiveArguments
from toxicity.core.schema import ANNOTATOR_COUNTS, IDENTITIES, SUBTYPES, TARGET, TOXIC_THRESHOLD, hard_labels

# Columns, and the coefficient of the fourth place for the mean loss over them; that of toxicity is 1.
AUXILIARY = {"subtypes": (SUBTYPES, 1.0), "identities": (IDENTITIES, 0.25)}
TOXICITY_ANNOTATORS = ANNOTATOR_COUNTS[0]
# Base rates are clipped this far from 0 and 1, where their log odds would be infinite.
LEAST_RATE = 1e-4


@dataclass
class Objective:
    """Targets of the training rows, in their order."""

    labels: np.ndarray  # toxicity, float32 `(rows,)`, 0 to 1
    weights: np.ndarray | None  # of each row in the loss, float32 `(rows,)` with mean 1; None where all count the same
    names: tuple[str, ...]  # canonical column names of the auxiliary targets
    auxiliary: np.ndarray | None  # float32 `(rows, names)`, 0 to 1, NaN where not annotated; None without names
    coefficients: np.ndarray  # of each auxiliary target in the loss of a row, float32 `(names,)`
    init_head_bias: bool = False  # whether the model starts from the base rates instead of from one half

    @property
    def head_rates(self) -> np.ndarray | None:
        """The `base_rates` if the head is to start from their log odds."""
        return self.base_rates if self.init_head_bias else None

    @property
    def base_rates(self) -> np.ndarray:
        """Mean of toxicity and of each auxiliary target over the annotated rows, float64 `(1 + names,)`."""
        rates = [self.labels.mean(dtype=np.float64)]
        if self.auxiliary is not None:
            rates += np.nanmean(self.auxiliary, axis=0, dtype=np.float64).tolist()
        return np.clip(rates, LEAST_RATE, 1 - LEAST_RATE)

    def add_targets(self, tokens: Dataset) -> Dataset:
        """The tokenised comments with their targets as columns: `labels`, and `weights` and `auxiliary` if any."""
        columns = {"labels": pa.array(self.labels)}
        if self.weights is not None:
            columns["weights"] = pa.array(self.weights)
        if self.auxiliary is not None:
            flat = pa.array(np.ascontiguousarray(self.auxiliary).ravel())
            columns["auxiliary"] = pa.FixedSizeListArray.from_arrays(flat, len(self.names))
        targets = Dataset(pa.table(columns), fingerprint=generate_random_fingerprint())
        return concatenate_datasets([tokens, targets], axis=1)


def objective_of(
    comments: Dataset, arguments: ObjectiveArguments, absent: Mapping[str, str] | None = None
) -> Objective:
    """Read the training targets that are asked for from the columns of the comments, those of `data.sources.Splits`.

    Args:
        comments: the training rows.
        arguments: what is asked for.
        absent: columns that the source has and that could not be used, each with the reason.

    Raises:
        RequestError: if the source lacks columns that these need, naming them, and why one could not be used.
    """
    variant = arguments.identity_weights
    asked = {
        "--targets smoothed": (TOXICITY_ANNOTATORS,) if arguments.targets == "smoothed" else (),
        f"--identity_weights {variant}": IDENTITIES if variant != "none" else (),
        **{f"--auxiliary_targets {kind}": AUXILIARY[kind][0] for kind in arguments.auxiliary_targets},
    }
    for flag, names in asked.items():
        _require(comments, flag, names, absent or {})
    target = _column(comments, TARGET)
    labels = hard_labels(target) if arguments.targets == "hard" else target
    if arguments.targets == "smoothed":
        labels = smoothed(target, _column(comments, TOXICITY_ANNOTATORS))
    weights = None if variant == "none" else identity_weights(target, _matrix(comments, IDENTITIES), variant)
    coefficient_of: dict[str, float] = {}
    for columns, coefficient in (AUXILIARY[kind] for kind in arguments.auxiliary_targets):
        coefficient_of |= dict.fromkeys(columns, coefficient / len(columns))
    names, coefficients = tuple(coefficient_of), np.array(list(coefficient_of.values()))
    auxiliary = _matrix(comments, names) if names else None
    if auxiliary is not None:
        # Averages over the annotated rows of the whole dataset, however many of them a batch has.
        coefficients /= 1 - np.isnan(auxiliary).mean(0)
    labels, coefficients = labels.astype(np.float32), coefficients.astype(np.float32)
    return Objective(labels, weights, names, auxiliary, coefficients, arguments.init_head_bias)


def smoothed(target: np.ndarray, annotators: np.ndarray) -> np.ndarray:
    """Share of annotators who called a comment toxic, smoothed towards one half, the more the fewer they were.

    `(t n + 1) / (n + 2)`, the mean under a prior of Beta(1, 1), as the third place of the competition of 2019 had it:
    1/12 if none of ten said toxic, 2/3 if the only one did. Where their number is not known, the share stays as it is.

    Args:
        target: the share t, float `(rows,)`, 0 to 1.
        annotators: their number n, float `(rows,)`, NaN where not known.
    """
    return np.where(np.isnan(annotators), target, (target * annotators + 1) / (annotators + 2))


def identity_weights(target: np.ndarray, identities: np.ndarray, variant: str) -> np.ndarray:
    """Weights that give civil comments which mention an identity, and toxic ones which mention none, a larger share.

    These are the rows that BPSN and BNSP AUC are computed on. Let t mean that the comment is toxic, and i that it
    mentions an identity, both from 0.5 on, and not if it is not annotated. The weights, to be divided by their mean:

    - `any` (7th and 10th place of the competition of 2019; the 4th in steps of one instead of a quarter): 1/4 +
      1/4 [i] + 1/4 [t, and some identity is not mentioned] + 1/4 [not t, and i]. As hardly any comment mentions all
      identities, that is 1/4 for civil and 1/2 for toxic comments without identities, and 3/4 for both with.
    - `share` (3rd place): the same, with the share of the identities that are mentioned in place of [i] in the second
      term.
    - `detoxify` (the library of that name): 1/4 + 1/4 [i] + 1/4 [t and not i, or i and not t].

    Args:
        target: float `(rows,)`, 0 to 1.
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
    return (quarters / quarters.mean()).astype(np.float32)


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
