"""Perspective's names for what a model's labels say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from toxicity.core.console import printable
from toxicity.core.label_names import MAIN_NAMES, synonyms_of
from toxicity.core.schema import letters_of
from toxicity.serve.messages import refusal

MAIN_ATTRIBUTE = "TOXICITY"
# The first of a label's names in `synonyms_of` → what Perspective called it.
_OF_LABELS = {
    MAIN_NAMES[0]: (MAIN_ATTRIBUTE,),
    "severe_toxicity": ("SEVERE_TOXICITY",),
    "identity_attack": ("IDENTITY_ATTACK",),
    "insult": ("INSULT",),
    "obscene": ("PROFANITY", "OBSCENE"),
    "threat": ("THREAT",),
    "sexual_explicit": ("SEXUALLY_EXPLICIT",),
}
# Everything that Perspective scored English comments by, without those that end on _EXPERIMENTAL.
_PERSPECTIVE = (
    *(name for names in _OF_LABELS.values() for name in names),
    *("FLIRTATION", "ATTACK_ON_AUTHOR", "ATTACK_ON_COMMENTER", "INCOHERENT", "INFLAMMATORY", "LIKELY_TO_REJECT"),
    *("SPAM", "UNSUBSTANTIAL"),
)
_EXPERIMENTAL = "_EXPERIMENTAL"


def attributes_of(labels: Sequence[str]) -> dict[str, int]:
    """Attribute → number of the label that has its scores.

    Labels go by any of the names that the competitions of 2018 and 2019 have for them, others by the attribute's own
    name. Where no label is called toxicity, `TOXICITY` is the main one, the first.
    """
    columns: dict[str, int] = {}
    for column, label in enumerate(labels):
        main, *_ = synonyms_of(label) or ("",)
        named = [attribute for attribute in _PERSPECTIVE if letters_of(attribute) == letters_of(label)]
        for attribute in _OF_LABELS.get(main, named):
            columns.setdefault(attribute, column)
    return {MAIN_ATTRIBUTE: columns.pop(MAIN_ATTRIBUTE, 0), **columns}


def column_of(attribute: str, columns: Mapping[str, int], drop: bool = False) -> int | None:
    """The number of the label that an attribute is scored by, `NAME_EXPERIMENTAL` by that of `NAME`.

    Args:
        attribute: its name, as it was asked for.
        columns: of `attributes_of`.
        drop: whether one that Perspective had and this model lacks is None instead of an error.

    Raises:
        ApiError: 400 for an attribute that is not there.
    """
    name = attribute.removesuffix(_EXPERIMENTAL)
    column = columns.get(name)
    if column is None and not (drop and name in _PERSPECTIVE):
        lacking = f". This model has {', '.join(columns)}." if name in _PERSPECTIVE else ""
        raise refusal("INVALID_REQUEST", f"Unknown requested attribute: {printable(attribute, 60)}{lacking}")
    return column
