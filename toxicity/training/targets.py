"""What each comment should teach: its target, how much it counts, and what else is learnt from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from datasets import Dataset, concatenate_datasets
from datasets.fingerprint import generate_random_fingerprint

from toxicity.core.arguments import ObjectiveArguments
from toxicity.core.errors import RequestError
from toxicity.core.schema import ANNOTATOR_COUNTS, IDENTITIES, SUBTYPES, TARGET, TOXIC_THRESHOLD, hard_labels

# The prior of the third place: Beta(1, 1), as if one more annotator had said toxic, and one civil.
PRIOR_TOXIC = PRIOR_CIVIL = 1.0
# Of the mean loss over the subtypes and over the identities, beside the 1 of toxicity: the fourth place's.
COEFFICIENTS = {"subtypes": 1.0, "identities": 0.25}
COLUMNS = {"subtypes": SUBTYPES, "identities": IDENTITIES}
TOXICITY_ANNOTATORS = ANNOTATOR_COUNTS[0]
# A base rate is kept this far from 0 and 1, where its log odds would be infinite.
LEAST_RATE = 1e-4


@dataclass
class Objective:
    """Targets of the comments to train on, in their order.

    Attributes:
        labels: toxicity, float32 `(rows,)`, 0 to 1.
        weights: of each comment's loss, float32 `(rows,)` of mean one; None where all count the same.
        names: of the auxiliary targets, canonical column names.
        auxiliary: float32 `(rows, names)`, 0 to 1, NaN where nobody said; None without names.
        coefficients: of each auxiliary target in the sum over a comment's losses, float32 `(names,)`.
    """

    labels: np.ndarray
    weights: np.ndarray | None
    names: tuple[str, ...]
    auxiliary: np.ndarray | None
    coefficients: np.ndarray

    @property
    def base_rates(self) -> np.ndarray:
        """Mean target of toxicity and of each auxiliary one, where it is known: float64 `(1 + names,)`."""
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


def objective_of(comments: Dataset, arguments: ObjectiveArguments) -> Objective:
    """Read from the comments what they should teach.

    Args:
        comments: rows with the columns of `data.Splits`.
        arguments: the targets, weights and auxiliary targets that are asked for.

    Raises:
        RequestError: if the source lacks what that takes, naming the columns.
    """
    asked = {
        "--targets smoothed": (TOXICITY_ANNOTATORS,) if arguments.targets == "smoothed" else (),
        f"--identity_weights {arguments.identity_weights}": IDENTITIES if arguments.identity_weights != "none" else (),
        **{f"--auxiliary_targets {kind}": COLUMNS[kind] for kind in arguments.auxiliary_targets},
    }
    for flag, names in asked.items():
        _require(comments, flag, names)
    target = _column(comments, TARGET)
    labels = hard_labels(target) if arguments.targets == "hard" else target
    if arguments.targets == "smoothed":
        labels = smoothed(target, _column(comments, TOXICITY_ANNOTATORS))
    weights = None
    if arguments.identity_weights != "none":
        weights = identity_weights(target, _matrix(comments, IDENTITIES), arguments.identity_weights)
    names = tuple(name for kind in arguments.auxiliary_targets for name in COLUMNS[kind])
    auxiliary = _matrix(comments, names) if names else None
    coefficients = [
        np.full(len(COLUMNS[kind]), COEFFICIENTS[kind] / len(COLUMNS[kind])) for kind in arguments.auxiliary_targets
    ]
    if auxiliary is not None:
        # The mean over the comments that were annotated, whichever of them are in a batch.
        coefficients = np.concatenate(coefficients) / (1 - np.isnan(auxiliary).mean(0))
    return Objective(labels.astype(np.float32), weights, names, auxiliary, np.asarray(coefficients, np.float32))


def smoothed(target: np.ndarray, annotators: np.ndarray) -> np.ndarray:
    """Share of annotators who called a comment toxic, drawn to one half the more the fewer they were.

    `(t n + a) / (n + a + b)` with `a = b = 1`, as the third place of the competition of 2019 did: 1/12 where ten of ten
    said civil, 2/3 where a single one said toxic. Where their number is not known the share stays as it is.

    Args:
        target: the share, float `(rows,)`, 0 to 1.
        annotators: how many there were, float `(rows,)`, NaN where not known.
    """
    drawn = (target * annotators + PRIOR_TOXIC) / (annotators + PRIOR_TOXIC + PRIOR_CIVIL)
    return np.where(np.isnan(annotators), target, drawn)


def identity_weights(target: np.ndarray, identities: np.ndarray, variant: str) -> np.ndarray:
    """Weights by which civil comments that mention an identity, and toxic ones that mention none, count for more.

    Those are the rows that BPSN and BNSP AUC are about. With i: an identity is mentioned, t: the comment is toxic, both
    from 0.5 on, identities that nobody annotated taken as not mentioned:

    - `any` (7th and 10th place of the competition of 2019; the 4th in steps of one instead of a quarter): 1/4 +
      1/4 [i] + 1/4 [t, and any identity is not mentioned] + 1/4 [not t, and i]. As hardly a comment mentions all, that
      is 1/4 for civil ones without identities, 1/2 for toxic ones, 3/4 for both with.
    - `share` (3rd place): the same, with the share of the identities that are mentioned in place of [i] in the second
      term.
    - `detoxify` (the library of that name): 1/4 + 1/4 [i] + 1/4 [t and not i, or i and not t].

    Args:
        target: float `(rows,)`, 0 to 1.
        identities: float `(rows, identities)`, 0 to 1, NaN where not annotated.
        variant: which of these.

    Returns:
        float32 `(rows,)`, divided by their mean.
    """
    toxic = target >= TOXIC_THRESHOLD
    mentioned = identities >= TOXIC_THRESHOLD  # NaN is not
    one, all_of_them = mentioned.any(1), mentioned.all(1)
    # In quarters, which dividing by the mean takes out.
    quarters = {
        "any": lambda: 1.0 + one + (toxic & ~all_of_them) + (~toxic & one),
        "share": lambda: 1.0 + mentioned.mean(1) + (toxic & ~all_of_them) + (~toxic & one),
        "detoxify": lambda: 1.0 + one + (toxic ^ one),
    }[variant]()
    return (quarters / quarters.mean()).astype(np.float32)


def _require(comments: Dataset, flag: str, names: Sequence[str]) -> None:
    columns = comments.select_columns(list(names)).with_format("arrow")[:] if names else {}
    if missing := [name for name in names if columns[name].null_count == len(comments)]:
        raise RequestError(
            f"{flag} needs columns that these comments do not have: {', '.join(missing)}. Give data that have them, "
            "such as train.csv of Jigsaw Unintended Bias in Toxicity Classification, or leave the flag out."
        )


def _column(comments: Dataset, name: str) -> np.ndarray:
    column = comments.select_columns(name).with_format("arrow")[:][name]
    return column.cast(pa.float64()).to_numpy()


def _matrix(comments: Dataset, names: Sequence[str]) -> np.ndarray:
    return np.stack([_column(comments, name).astype(np.float32) for name in names], axis=1)
