"""The canonical column names, what each published edition of the data calls them, and where toxic begins."""

from __future__ import annotations

import numpy as np

ID = "id"
TEXT = "text"
TARGET = "target"

# Names of the comment and of its toxicity in the published editions, in the order they are looked for.
TEXT_NAMES = (TEXT, "comment_text")
TARGET_NAMES = (TARGET, "toxicity", "toxic", "is_offensive", "label", "labels")

# The competition counts a label at >= 0.5; several teams lost places to > 0.5.
TOXIC_THRESHOLD = 0.5


def hard_labels(target: np.ndarray) -> np.ndarray:
    """Binarise toxicity.

    Args:
        target: float array of any shape, the share of annotators who called the comment toxic, 0 to 1.

    Returns:
        float32 array of that shape: 1.0 where `target >= 0.5`, else 0.0.
    """
    return (np.asarray(target) >= TOXIC_THRESHOLD).astype(np.float32)
