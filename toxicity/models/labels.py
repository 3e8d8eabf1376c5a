"""Find the logits of toxicity and of other labels in any model, and how each is calibrated."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedConfig

from toxicity.core.console import printable, quoted
from toxicity.core.errors import RequestError
from toxicity.core.schema import NAMES, SUBTYPES, polarity
from toxicity.evaluation.calibration import Calibration

# The key of a config's section `toxicity` that holds the names of the toxic labels, where they had to be chosen, or the
# name of the main one of several labels.
TOXIC_LABEL = "toxic_label"
# The key of it that holds the calibration of each of several labels, by name; only runs of this package write it.
LABELS = "labels"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Labels:
    """Indices of the logits to use."""

    toxic: tuple[int, ...]  # several only if the model chooses between exclusive classes
    civil: tuple[int, ...]  # the other classes of such a model; none if the labels are independent
    # Independent labels beside the toxic one, by name: of a model of this package with several labels all others, in
    # their order; of other models the subtypes, by their canonical names.
    subtypes: dict[str, int]

    def pick(self, logits: np.ndarray) -> np.ndarray:
        """From all logits `(rows, labels)`, select the toxic label and `subtypes`, float64 `(rows, 1 + subtypes)`.

        The sigmoid of each is its probability; that of the toxic classes is the sum of their softmax.
        """
        picked = logits[:, [self.toxic[0], *self.subtypes.values()]].astype(np.float64)
        picked[:, 0] = _joined(logits, self.toxic)
        if self.civil:
            # The sigmoid of the difference of two logits is their softmax.
            picked[:, 0] -= _joined(logits, self.civil)
        return picked


def _joined(logits: np.ndarray, indices: Sequence[int]) -> np.ndarray:
    """The logit of several exclusive classes taken together; a single one is left as it is."""
    columns = logits[:, list(indices)].astype(np.float64)
    return columns[:, 0] if len(indices) == 1 else np.logaddexp.reduce(columns, axis=1)


def calibrations_in(config: PreTrainedConfig) -> dict[str, Calibration]:
    """The calibration of each label by its name, from the config of a model of this package with several labels.

    Returns:
        All labels, in the order of the logits; empty for models of others, and for those of one label, whose
        calibration is the section `toxicity` itself.

    Raises:
        AttributeError, TypeError, ValueError: for a section that this package did not write.
    """
    section = getattr(config, "toxicity", None) or {}
    labels, main = section.get(LABELS), set(_chosen(section))
    if labels is None:
        return {}
    names = [str(label) for _, label in sorted(config.id2label.items())]
    if set(labels) != set(names) or not main <= set(names):
        raise ValueError("the labels are not those of the model")
    "".join(names).encode()  # half a character, as JSON can hold, is no name of a column
    return {name: Calibration.from_config(labels[name]) for name in names}


def _chosen(section: Mapping[str, Any]) -> Sequence[str]:
    """The names under `TOXIC_LABEL`."""
    chosen = section.get(TOXIC_LABEL) or ()
    return (chosen,) if isinstance(chosen, str) else chosen


def labels_in(config: PreTrainedConfig, name: str, toxic_labels: Sequence[str] = ()) -> Labels:
    """Find the labels by their names in a model's config.

    Args:
        config: the model's.
        name: the model's, for messages.
        toxic_labels: names or indices of the labels that mean toxic, of independent labels one; without any, those
            that the config's section `toxicity` names, such as the main one of several, else those whose names say it.

    Raises:
        RequestError: if the names do not say which labels mean toxic, or `toxic_labels` cannot be what is meant.
    """
    exact = {int(index): str(label) for index, label in config.id2label.items()}
    names = {index: label.strip().casefold() for index, label in exact.items()}
    shown = printable(", ".join(map(str, config.id2label.values())))
    exclusive = _are_exclusive(config, names, name)
    section = getattr(config, "toxicity", None) or {}
    chosen = toxic_labels or _chosen(section)
    toxic = _named(chosen, exact, name, shown) if chosen else _told_by_names(names, exclusive)
    if not toxic:
        raise RequestError(
            f"{name} has the labels {shown}, whose names do not say which of them mean toxic: name the one, or several "
            "of exclusive classes, with --toxic_label NAME."
        )
    if len(names) > 1 and not {names[index] for index in toxic} <= {"toxic", "toxicity"}:
        labels = " and ".join(quoted(str(config.id2label[index])) for index in toxic)
        logger.info(f"{name} has the labels {shown}; the score is the probability of {labels}.")
    if not exclusive:
        if len(toxic) > 1:
            raise RequestError(
                f"the labels of {name} ({shown}) are independent of each other, and their probabilities do not add up: "
                "name one as --toxic_label."
            )
        if section.get(LABELS) is not None:
            others = sorted(config.id2label.items())
            return Labels(toxic, (), {str(label): index for index, label in others if index not in toxic})
        found = {
            subtype: next((index for known in NAMES[subtype] for index in names if names[index] == known), None)
            for subtype in SUBTYPES
        }
        return Labels(toxic, (), {subtype: index for subtype, index in found.items() if index is not None})
    civil = tuple(index for index in sorted(names) if index not in toxic)
    if not civil:
        raise RequestError(f"{name} has no other labels than {shown}: leave one out of --toxic_label that means civil.")
    return Labels(toxic, civil, {})


def _are_exclusive(config: PreTrainedConfig, names: dict[int, str], name: str) -> bool:
    """Whether the model chooses one of its labels; `transformers` takes several for exclusive if nothing is said."""
    if len(names) == 1 or config.problem_type == "multi_label_classification":
        return False
    subtypes = {known for subtype in SUBTYPES for known in NAMES[subtype]}
    if config.problem_type is None and len(names) > 2 and subtypes.intersection(names.values()):
        # The published models of the competition of 2018 are older than this entry of the config.
        logger.info(f"{name}: its config.json has no problem_type; going by their names, its labels are independent.")
        return False
    return True


def _told_by_names(names: dict[int, str], exclusive: bool) -> tuple[int, ...]:
    """The toxic label, if the names leave no doubt about it; else none."""
    if len(names) == 1:
        return (0,)
    polarities = {index: polarity(label) for index, label in names.items()}
    called = [index for known in ("toxic", "toxicity") for index in sorted(names) if names[index] == known][:1]
    if not called and exclusive and sorted(polarities.values(), key=str) == [False, True]:
        called = [index for index, is_toxic in polarities.items() if is_toxic]
    # Of exclusive classes none may be left among the civil ones that is toxic by its name.
    if exclusive and any(is_toxic for index, is_toxic in polarities.items() if index not in called):
        return ()
    return tuple(called)


def _named(wanted: Sequence[str], names: dict[int, str], model: str, shown: str) -> tuple[int, ...]:
    """Indices of the labels that are named, by their names as they are written, in upper or lower case, or by number.

    A number is `1` or `LABEL_1`.
    """
    found: set[int] = set()
    for label in wanted:
        key = str(label).strip().casefold()
        number = re.fullmatch(r"(?:label_)?(\d+)", key)
        matches = [index for index, name in names.items() if name == label]
        matches = matches or [index for index, name in names.items() if name.strip().casefold() == key]
        if not matches and number and int(number[1]) in names:
            matches = [int(number[1])]
        if not matches:
            raise RequestError(f"--toxic_label {label}: {model} has no such label; it has {shown}.")
        found.update(matches)
    return tuple(sorted(found))
