"""The canonical column names, what each published edition of the data calls them, and where toxic begins."""

from __future__ import annotations

import numpy as np

ID = "id"
TEXT = "text"
TARGET = "target"

SUBTYPES = ("severe_toxicity", "obscene", "identity_attack", "insult", "threat", "sexual_explicit")

# The nine that the competition scores, of the 24 in its file.
IDENTITIES = (
    "male",
    "female",
    "homosexual_gay_or_lesbian",
    "christian",
    "jewish",
    "muslim",
    "black",
    "white",
    "psychiatric_or_mental_illness",
)

ANNOTATOR_COUNTS = ("toxicity_annotator_count", "identity_annotator_count")

# Canonical name → its names in the published editions, in the order they are looked for:
# the competition of 2019 (`train.csv`: comment_text, target; `all_data.csv`: comment_text, toxicity),
# `google/civil_comments` on the Hub (text, toxicity), the competition of 2018 (comment_text, toxic, severe_toxic,
# identity_hate), and the sample (text, is_offensive). Others go by their canonical name alone.
NAMES: dict[str, tuple[str, ...]] = {
    ID: (ID,),
    TEXT: (TEXT, "comment_text"),
    TARGET: (TARGET, "toxicity", "toxic", "is_offensive", "label", "labels"),
    **{name: (name,) for name in (*SUBTYPES, *IDENTITIES, *ANNOTATOR_COUNTS)},
    "severe_toxicity": ("severe_toxicity", "severe_toxic"),
    "identity_attack": ("identity_attack", "identity_hate"),
}

# The competition counts a label or identity at >= 0.5; several teams lost places to > 0.5.
TOXIC_THRESHOLD = 0.5


def hard_labels(target: np.ndarray) -> np.ndarray:
    """Binarise toxicity.

    Args:
        target: float array of any shape, the share of annotators who called the comment toxic, 0 to 1.

    Returns:
        float32 array of that shape: 1.0 where `target >= 0.5`, else 0.0.
    """
    return (np.asarray(target) >= TOXIC_THRESHOLD).astype(np.float32)
