"""The canonical column names, their names in the published datasets, and the threshold of a toxic label."""

from __future__ import annotations

import difflib
import logging
import re
import shlex
import unicodedata
from collections.abc import Collection, Sequence

import numpy as np

from toxicity.core.console import log_once, printable, quoted
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

# Canonical name → its names in datasets, in the order in which they are tried: first those of the published ones that
# name one thing each, then what others call it.
# The competition of 2019 (`train.csv`: comment_text, target; `all_data.csv`: comment_text, toxicity),
# `google/civil_comments` on the Hub (text, toxicity), the competition of 2018 (comment_text, toxic, severe_toxic,
# identity_hate), the sample (text, is_offensive), OLID (tweet, subtask_a), HASOC (text, task_1), Davidson's tweets
# (tweet, class). All other columns have their canonical name everywhere.
NAMES: dict[str, tuple[str, ...]] = {
    ID: (ID,),
    TEXT: (TEXT, "comment_text", "comment", "tweet", "sentence", "content", "message", "body", "post", "review"),
    TARGET: (
        *(TARGET, "toxicity", "toxic", "is_toxic", "is_offensive", "offensive", "label", "labels", "class"),
        *("hate", "is_hate", "hateful", "subtask_a", "task_1"),
    ),
    **{name: (name,) for name in (*SUBTYPES, *IDENTITIES, *ANNOTATOR_COUNTS)},
    "severe_toxicity": ("severe_toxicity", "severe_toxic"),
    "identity_attack": ("identity_attack", "identity_hate"),
}
# Names that leave no doubt about the column, so that it need not be logged.
PLAIN_NAMES = {TEXT, "comment_text", TARGET, "toxicity", "toxic", "is_offensive"}

# Name of the only label of a model whose labels nobody named.
LABEL = "toxic"

WORD_FOR = {TEXT: "text", TARGET: "toxicity", ID: "id"}  # in messages

# A cell of a first line that is longer than this is no name of a column.
LONGEST_NAME, MOST_WORDS_OF_A_NAME = 60, 4
MOST_NAMES_SHOWN = 20

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
    "safe",
)


def polarity(word: str) -> bool | None:
    """Whether a class of this name holds toxic comments (True) or civil ones (False); None if the name does not say.

    `hate`, `OFF` and `is_toxic` are toxic, `nothate`, `NOT` and `non-toxic` civil; `LABEL_1`, `yes` and `positive` say
    neither.
    """
    letters = re.sub(r"[^a-z]", "", word.casefold())
    if re.search(r"\d", word):
        return None
    letters = letters.removeprefix("is")
    if letters in TOXIC_WORDS:
        return True
    negated = re.fullmatch(r"(?:not|non|no)(?:a|an)?(.+)", letters)
    return False if letters in CIVIL_WORDS or (negated and negated[1] in TOXIC_WORDS) else None


# The column `TARGET` where a flag names it, as it is read: there the readers keep lists of classes, even of one.
LABEL_LISTS = "target or list of labels"


def label_column(name: str) -> str:
    """The column of `data.sources.Splits` that holds a label other than the main one, which is in `TARGET`."""
    return f"label {name}"


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
    labels: Collection[str] = (),
    label_flag: str = "--label_column_name",
) -> dict[str, str]:
    """Match the columns of a source to the canonical names.

    Names are the same if their letters and digits are, in upper or lower case: ` Comment Text` is `comment_text`, as
    long as no column has exactly that name. What is taken by another name than one of `PLAIN_NAMES` is logged.

    Args:
        names: the columns of the source.
        source: its name, for error messages.
        text_name: the column of the comment; by default the first of its known names that the source has.
        target_name, id_name: likewise the columns of the toxicity and of the id.
        wanted: the canonical names to look for.
        labels: columns that are labels, and none of the others.
        label_flag: what names the column of the toxicity, for messages.

    Returns:
        Canonical name → name in the source, for each wanted column that the source has.

    Raises:
        RequestError: if the text or the toxicity is wanted and missing, or a column named by an argument is, or two
            columns have as good a claim to be the text, the toxicity or the id.
    """
    flags = {
        TEXT: (text_name, "--text_column_name"),
        TARGET: (target_name, label_flag),
        ID: (id_name, "--id_column_name"),
    }
    columns: dict[str, str] = {}
    # The columns that a flag names come first, so that no other canonical name takes one of them.
    named = [canonical for canonical, (override, _) in flags.items() if override]
    for canonical in sorted(wanted, key=[*named, *flags, *NAMES].index):
        override, flag = flags.get(canonical, (None, ""))
        candidates = (override,) if override else NAMES[canonical]
        free = [name for name in names if name not in columns.values() and name not in labels]
        found = find_columns(candidates, free)
        if len(found) > 1 and flag:
            raise RequestError(
                f"{source}: {' and '.join(map(quoted, found))} may both be the {WORD_FOR[canonical]}. "
                f"Name the right one with {flag}."
            )
        if len(found) == 1:
            columns[canonical] = found[0]
        elif found:
            log_once(
                logging.WARNING, f"Not used: {' and '.join(map(quoted, found))}, which may both be the {canonical}."
            )
        elif canonical in (TEXT, TARGET) and (taken := find_columns(candidates, list(columns.values()))):
            raise RequestError(
                f"{source}: {quoted(taken[0])} holds the text and is not numeric. "
                f"Name the column of the toxicity with {label_flag}."
            )
        elif override or canonical in (TEXT, TARGET):
            raise RequestError(missing_column(candidates, WORD_FOR[canonical], flag, names, free, source))
    told = [
        f"the {WORD_FOR[canonical]} is the column {quoted(columns[canonical])}"
        for canonical, (override, _) in flags.items()
        if not override and columns.get(canonical, ID) not in (*PLAIN_NAMES, ID)
    ]
    if told:
        log_once(logging.INFO, f"Going by the names of columns, {' and '.join(told)}.")
    return columns


def find_columns(candidates: Sequence[str], names: Sequence[str]) -> list[str]:
    """The columns of the first candidate that is there: the one of exactly that name, else all that differ from it in
    upper and lower case and in other characters than letters and digits.
    """
    for name in candidates:
        if name in names:
            return [name]
    for candidate in map(letters_of, candidates):
        if found := [name for name in dict.fromkeys(names) if candidate and letters_of(name) == candidate]:
            return found
    return []


def letters_of(name: str) -> str:
    """The letters, with their marks, and digits of a name in lower case: names that agree in these are the same."""
    # Without the marks, which are vowels in some scripts, other words would be the same.
    return "".join(char for char in name.casefold() if char.isalnum() or unicodedata.category(char).startswith("M"))


def missing_column(
    candidates: Sequence[str], what: str, flag: str, names: Sequence[str], free: Sequence[str], source: str
) -> str:
    """What to say of a column that is not there.

    Args:
        candidates: the names by which it was looked for.
        what: what it would be.
        flag: what names it on the command line.
        names: all columns of the source.
        free: those of them that are no other column.
        source: its name.
    """
    known = {letters_of(name) for group in (candidates, *NAMES.values()) for name in group}
    if len(free) == len(names) and not known.intersection(map(letters_of, names)) and _looks_like_data(names):
        shown = ", ".join(quoted(name, 20) for name in names[:3])
        return (
            f"{source} seems to have no header, as its first line begins with {shown}. "
            "Add a first line that names the columns, such as `text,label`; if that is the header, name the right "
            "columns with --text_column_name and --label_column_name."
        )
    by_letters = {letters_of(name): name for name in free}
    wanted = [letters_of(name) for name in candidates]
    near = {match: name for name in wanted for match in difflib.get_close_matches(name, by_letters, cutoff=0.6)}
    nearest = max(near, key=lambda match: difflib.SequenceMatcher(None, near[match], match).ratio(), default=None)
    lacks = (
        f"{', '.join(candidates[:3])} or the like" if len(candidates) > 1 else printable(candidates[0], LONGEST_NAME)
    )
    advice = f"Name the right one with {flag}."
    if len(names) == 1 and (signs := set(re.findall(r"(?<=\w)[^\w\s.'-](?=\w)", names[0]))):
        sign = signs.pop() if len(signs) == 1 else "SIGN"
        advice = f"If a sign in there separates columns, give --delimiter {shlex.quote(sign)}."
    elif nearest is not None:
        name = printable(by_letters[nearest], LONGEST_NAME)
        advice = f"The nearest is `{name}`: if that is the {what}, give {flag} {shlex.quote(name)}."
    return f"{source} has no column {lacks}; it has {listed(names) or 'none'}. {advice}"


def _looks_like_data(names: Sequence[str]) -> bool:
    """Whether what should be names of columns is a row of data.

    That is one with a number, a text, the name of a class, the same cell twice, or an empty cell after the first.
    """
    # pandas numbers columns that have no names, and writes the numbers.
    if list(names) == [str(number) for number in range(len(names))]:
        return False
    return len(set(names)) < len(names) or any(
        re.fullmatch(r"[+-]?\d+([.,]\d+)?", name.strip())
        or len(name) > LONGEST_NAME
        or len(name.split()) > MOST_WORDS_OF_A_NAME
        or polarity(name) is not None
        or (place and not name.strip())
        for place, name in enumerate(names)
    )


def listed(names: Sequence[str]) -> str:
    """Names of columns for a message, of many the first ones."""
    more = f" and {len(names) - MOST_NAMES_SHOWN:,} more" if len(names) > MOST_NAMES_SHOWN else ""
    return ", ".join(printable(name, LONGEST_NAME) or '""' for name in names[:MOST_NAMES_SHOWN]) + more
