"""The attributes of Perspective, and which label of a model answers for each."""

from __future__ import annotations

from collections.abc import Sequence

from toxicity.core.label_names import synonyms_of
from toxicity.core.schema import letters_of

# Attribute → canonical name of the label, "toxicity" for the main one.
ATTRIBUTES = {
    "TOXICITY": "toxicity",
    "SEVERE_TOXICITY": "severe_toxicity",
    "IDENTITY_ATTACK": "identity_attack",
    "INSULT": "insult",
    "PROFANITY": "obscene",
    "THREAT": "threat",
    "SEXUALLY_EXPLICIT": "sexual_explicit",
    "OBSCENE": "obscene",
}


def attributes_of(labels: Sequence[str]) -> dict[str, str]:
    """The attributes that a model has, in the order of `ATTRIBUTES`, with the label that answers for each.

    Args:
        labels: names of the model's labels, the main one first: that is TOXICITY whatever it is called. The others
            are told by the names of the competitions of 2018 and 2019 (`label_names.synonyms_of`), or of attributes.
    """
    found = {"TOXICITY": labels[0]} if labels else {}
    for attribute, canonical in ATTRIBUTES.items():
        group = synonyms_of(canonical)
        for label in labels:
            if synonyms_of(label) == group or letters_of(label) == letters_of(attribute):
                found.setdefault(attribute, label)
    return found
