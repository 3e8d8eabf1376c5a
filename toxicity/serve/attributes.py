"""Which label of the model answers for an attribute that was asked for."""

from __future__ import annotations

from collections.abc import Mapping

from toxicity.core.attributes import ATTRIBUTES
from toxicity.core.console import printable
from toxicity.serve.messages import refusal

# Everything that Perspective scored English comments by, without those that end on _EXPERIMENTAL.
_PERSPECTIVE = (
    *ATTRIBUTES,
    *("FLIRTATION", "ATTACK_ON_AUTHOR", "ATTACK_ON_COMMENTER", "INCOHERENT", "INFLAMMATORY", "LIKELY_TO_REJECT"),
    *("SPAM", "UNSUBSTANTIAL"),
)
_EXPERIMENTAL = "_EXPERIMENTAL"


def label_of(attribute: str, labels: Mapping[str, str], drop: bool = False) -> str | None:
    """The label that an attribute is scored by, `NAME_EXPERIMENTAL` by that of `NAME`.

    Args:
        attribute: its name, as it was asked for.
        labels: of `core.attributes.attributes_of`.
        drop: whether one that Perspective had and this model lacks is None instead of an error.

    Raises:
        ApiError: 400 for an attribute that is not there.
    """
    name = attribute.removesuffix(_EXPERIMENTAL)
    label = labels.get(name)
    if label is None and not (drop and name in _PERSPECTIVE):
        lacking = f". This model has {', '.join(labels)}." if name in _PERSPECTIVE else ""
        raise refusal("INVALID_REQUEST", f"Unknown requested attribute: {printable(attribute, 60)}{lacking}")
    return label
