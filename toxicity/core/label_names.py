"""What labels may be called, and which of their published names mean the same."""

from __future__ import annotations

from collections.abc import Sequence

from toxicity.core.console import quoted
from toxicity.core.errors import RequestError
from toxicity.core.schema import ID, IDENTITIES, NAMES, SUBTYPES, TARGET, TEXT, letters_of

# Of --label_column_names: those of schema.SUBTYPES that the data have.
ALL_SUBTYPES = "subtypes"
# The label of toxicity itself, as which the competitions of 2019 and 2018 have it.
MAIN_NAMES = (TARGET, "toxicity", "toxic")
# The labels of the competition of 2018, in its order.
LABELS_2018 = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")
# Columns of scored comments, beside which the labels other than the main one have columns of their own.
COLUMNS_OF_SCORES = ("score", "label")


def synonyms_of(name: str) -> tuple[str, ...]:
    """All names that the competitions of 2018 and 2019 have for the label of this name, which is one of them.

    The name counts as `schema.letters_of` has it, so that `Severe-Toxic` is `severe_toxic`. Toxicity itself is called
    `target`, `toxicity` and `toxic`; a subtype as in `schema.NAMES`. () if it is no label of the competitions.
    """
    groups = (MAIN_NAMES, *(NAMES[subtype] for subtype in SUBTYPES))
    return next((group for group in groups if letters_of(name) in map(letters_of, group)), ())


def require_label_names(names: Sequence[str], fix: str = "Give the column another name.") -> None:
    """Check that labels of these names, the main one first, can be told from each other and from all else.

    Args:
        names: of the labels.
        fix: a sentence on what to do about a name that a label cannot have.

    Raises:
        RequestError: for a name that is blank, is there twice, or is that of an identity, a comment or its id, or of
            a column that scored comments have anyway.
    """
    flag = "--label_column_names"
    seen: dict[str, str] = {}
    for number, name in enumerate(names):
        if not name.strip():
            raise RequestError(f"{flag}: the name of a label is blank.")
        key, letters = name.strip().casefold(), letters_of(name)
        if letters in map(letters_of, IDENTITIES):
            raise RequestError(
                f"{flag}: a label {quoted(name)} could not be told from the identity of that name, by which bias is "
                f"measured. {fix} --auxiliary_targets identities teaches identities."
            )
        if letters in (ID, TEXT):
            raise RequestError(
                f"{flag}: a label cannot be called {quoted(name)}, as the {letters} of a comment is. {fix}"
            )
        if key in seen:
            raise RequestError(
                f"{flag}: {quoted(seen[key])} and {quoted(name)} cannot be told apart: name each label once."
            )
        seen[key] = name
        if number and (name in COLUMNS_OF_SCORES or any(name == f"{other}_label" for other in names[1:])):
            raise RequestError(
                f"{flag}: beside others a label cannot be called {quoted(name)}, as that is a column of scored "
                f"comments. {fix}"
            )
