"""The canonical column names, their names in the published datasets, and the threshold of a toxic label."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from toxicity.core.errors import RequestError

ID = "id"
TEXT = "text"
TARGET = "target"

SUBTYPES = ("severe_toxicity", "obscene", "identity_attack", "insult", "threat", "sexual_explicit")

# The nine of the 24 identities in the file of the competition of 2019 that its metric uses.
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

# Canonical name → its names in the published datasets, in the order in which they are tried:
# the competition of 2019 (`train.csv`: comment_text, target; `all_data.csv`: comment_text, toxicity),
# `google/civil_comments` on the Hub (text, toxicity), the competition of 2018 (comment_text, toxic, severe_toxic,
# identity_hate), and the sample (text, is_offensive). All other columns have their canonical name everywhere.
NAMES: dict[str, tuple[str, ...]] = {
    ID: (ID,),
    TEXT: (TEXT, "comment_text"),
    TARGET: (TARGET, "toxicity", "toxic", "is_offensive", "label", "labels"),
    **{name: (name,) for name in (*SUBTYPES, *IDENTITIES, *ANNOTATOR_COUNTS)},
    "severe_toxicity": ("severe_toxicity", "severe_toxic"),
    "identity_attack": ("identity_attack", "identity_hate"),
}

# The competition counts a label or identity as present at >= 0.5; with > 0.5 several teams lost places.
TOXIC_THRESHOLD = 0.5

# Names of the class of toxic comments and of that of civil ones in datasets and models, letters alone, in lower case.
# A toxic word after `no`, `non` or `not` names the class of civil comments, too.
TOXIC_WORDS = (
    *("abuse", "abusive", "aggressive", "attack", "bullying", "cyberbullying", "harassing", "harassment"),
    *("hate", "hateful", "hatespeech", "hof", "insult", "insulting", "obscene", "off", "offense", "offensive"),
    *("profanity", "racism", "racist", "severetoxic", "sexism", "sexist", "toxic", "toxicity", "uncivil"),
)
CIVIL_WORDS = (
    *("benign", "civil", "clean", "harmless", "inoffensive", "neither", "none", "normal", "not", "ok", "okay"),
)


def polarity(word: str) -> bool | None:
    """Whether a class of this name holds toxic comments (True) or civil ones (False); None if the name does not say.

    `hate` and `OFF` are toxic, `nothate`, `NOT` and `non-toxic` civil; `LABEL_1`, `yes` and `positive` do not say.
    """
    letters = re.sub(r"[^a-z]", "", word.casefold())
    if re.search(r"\d", word):
        return None
    if letters in TOXIC_WORDS:
        return True
    negated = re.fullmatch(r"(?:is)?(?:not|non|no)(?:a|an)?(.+)", letters)
    return False if letters in CIVIL_WORDS or (negated and negated[1] in TOXIC_WORDS) else None


def hard_labels(target: np.ndarray) -> np.ndarray:
    """The share of annotators who said toxic, 0 to 1, as a float32 label of the same shape: 1.0 from 0.5 on, else 0."""
    return (np.asarray(target) >= TOXIC_THRESHOLD).astype(np.float32)


def canonical_columns(
    names: list[str],
    source: str,
    text_name: str | None = None,
    target_name: str | None = None,
    id_name: str | None = None,
    wanted: Sequence[str] = tuple(NAMES),
) -> dict[str, str]:
    """Match the columns of a source to the canonical names.

    Args:
        names: the columns of the source.
        source: its name, for error messages.
        text_name: the column of the comment; by default the first of its known names that the source has.
        target_name, id_name: likewise the columns of the toxicity and of the id.
        wanted: the canonical names to look for.

    Returns:
        Canonical name → name in the source, for each wanted column that the source has.

    Raises:
        RequestError: if the text or the toxicity is wanted and missing, or a column named by an argument is.
    """
    flags = {TEXT: (text_name, "text"), TARGET: (target_name, "label"), ID: (id_name, "id")}
    columns = {}
    # The columns that a flag may name come first, so that no other canonical name takes one of them.
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
