"""The canonical column names, what each published edition of the data calls them, and where toxic begins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from toxicity.core.errors import RequestError

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


def canonical_columns(
    names: list[str],
    source: str,
    text_name: str | None = None,
    target_name: str | None = None,
    id_name: str | None = None,
    wanted: Sequence[str] = tuple(NAMES),
) -> dict[str, str]:
    """Which column of a source is which canonical one.

    Args:
        names: the columns that there are.
        source: what they are columns of, for the message.
        text_name: the column of the comment, by default the first known name.
        target_name: the column of its toxicity, likewise.
        id_name: the column of its id, likewise.
        wanted: the canonical names to look for.

    Returns:
        Canonical name → name in the source, for those that it has.

    Raises:
        RequestError: if it has no text or no toxicity and that is wanted, or lacks a column that was named.
    """
    flags = {TEXT: (text_name, "text"), TARGET: (target_name, "label"), ID: (id_name, "id")}
    columns = {}
    # Those that a flag may name come first, so that no other canonical name takes their column.
    for canonical in sorted(wanted, key=[*flags, *NAMES].index):
        override, flag = flags.get(canonical, (None, ""))
        candidates = (override,) if override else NAMES[canonical]
        found = next((name for name in candidates if name in names and name not in columns.values()), None)
        if found:
            columns[canonical] = found
        elif canonical == TARGET and override and override in columns.values():
            raise RequestError(
                f"{source}: `{override}` holds the text and is not numeric. "
                "Name the column of the toxicity with --label_column_name."
            )
        elif override or canonical in (TEXT, TARGET):
            raise RequestError(
                f"{source} has no column {' or '.join(candidates)}; it has {', '.join(names)[:500]}. "
                f"Name the right one with --{flag}_column_name."
            )
    return columns
