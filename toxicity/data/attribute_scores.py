"""Files of scores by attribute, as clients of Perspective stored them, or as `toxicity.predict` writes them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from toxicity.core.attributes import ATTRIBUTES
from toxicity.core.console import quoted
from toxicity.core.errors import RequestError
from toxicity.core.label_names import synonyms_of
from toxicity.core.schema import ID, TARGET, TEXT, canonical_columns, find_columns, hard_labels, listed, missing_column
from toxicity.data.ids import named_ids
from toxicity.data.labelled_files import Rows, Source, read_rows
from toxicity.data.labels import MISSING_TARGET, toxicity_of
from toxicity.data.readers.base import ChooseColumns, Layout
from toxicity.data.readers.json import NESTED_SCORE
from toxicity.data.row_checks import check_comments
from toxicity.data.values import optional_shares

OLD, NEW = "--old_scores", "--new_scores"
# Each also as it was called before it was in production.
OLD_NAMES = {
    attribute: tuple(
        form.format(attribute + ending) for ending in ("", "_EXPERIMENTAL") for form in ("{}", NESTED_SCORE)
    )
    for attribute in ATTRIBUTES
}
# Besides those, the names in the output of `toxicity.predict`, where the main label is `score`.
NEW_NAMES = {attribute: (*OLD_NAMES[attribute], *synonyms_of(label)) for attribute, label in ATTRIBUTES.items()} | {
    "TOXICITY": ("score", *OLD_NAMES["TOXICITY"])
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AttributeScores:
    """Scores of comments.

    `name` is that of the file; `scores` are float64 `(comments,)` from 0 to 1 by attribute, NaN where there is none;
    `columns` the names of their columns in the file. `ids` are int64 or large_string. What was not asked for is None:
    `texts`; `toxic`, 1.0 or 0.0 by the label of a comment, NaN where it has none, float64 `(comments,)`.
    """

    name: str
    scores: dict[str, np.ndarray]
    columns: dict[str, str]
    ids: pa.ChunkedArray | None = None
    texts: list[str] | None = None
    toxic: np.ndarray | None = None

    def __len__(self) -> int:
        return len(next(iter(self.scores.values())))

    def take(self, rows: np.ndarray) -> AttributeScores:
        """The comments of these numbers or, as bool `(comments,)`, those where it is true."""
        rows = np.arange(len(self))[rows]
        return replace(
            self,
            scores={name: scores[rows] for name, scores in self.scores.items()},
            ids=None if self.ids is None else self.ids.take(pa.array(rows)),
            texts=None if self.texts is None else [self.texts[row] for row in rows.tolist()],
            toxic=None if self.toxic is None else self.toxic[rows],
        )


def read_old_scores(
    address: str,
    with_text: bool,
    text_name: str | None = None,
    id_name: str | None = None,
    label_name: str | None = None,
    score_name: str | None = None,
    encoding: str | None = None,
) -> AttributeScores:
    """The old scores of comments, with the comments themselves or with their ids; those without a score are left out.

    Args:
        address: as `list_data_files` takes it. Columns of scores are named as the attributes, in upper or lower case,
            or as in `attributeScores` of an answer of Perspective, also nested in JSON lines.
        with_text: whether the comments are needed, else their ids are.
        text_name, id_name, label_name, score_name: names of columns: of the text, the id, a label that is read as
            labels to train on are, and the score of TOXICITY.
        encoding: of a file of text, as Python names it.

    Raises:
        RequestError: for what cannot be found or read, columns that are missing, scores that are not from 0 to 1,
            labels of unknown meaning, and comments with a score and without a text.
    """
    names = OLD_NAMES | ({"TOXICITY": (score_name,)} if score_name else {})
    named = {"--label_column_name": label_name, "--old_score_column_name": score_name}
    wanted = TEXT if with_text else ID
    headers: dict[str, str] = {}

    def choose(columns: list[str], file: str) -> dict[str, str]:
        for flag, name in named.items():
            if name and len(find_columns((name,), columns)) != 1:
                raise RequestError(missing_column((name,), "right one", flag, columns, columns, file))
        label = find_columns((label_name,), columns) if label_name else []
        chosen = _attributes(names, [column for column in columns if column not in label])
        if not chosen:
            raise RequestError(
                f"{file} has no column of old scores, such as TOXICITY; it has {listed(columns) or 'none'}. Name that "
                "of TOXICITY with --old_score_column_name."
            )
        taken = [*chosen.values(), *label]
        chosen |= canonical_columns(columns, file, text_name, None, id_name, [wanted], taken)
        headers.update(chosen | ({TARGET: label[0]} if label else {}))
        return headers.copy()

    rows = _read(address, choose, encoding, OLD)
    if not with_text and ID not in rows.table.column_names:
        raise RequestError(
            f"{rows.name} has no column `{ID}`, by which its comments could be found in {NEW}. Name it with "
            "--id_column_name, or have the comments scored here: --model."
        )
    found = _scores(rows, headers)
    scored = np.any([~np.isnan(scores) for scores in found.scores.values()], axis=0)
    if not scored.any():
        raise RequestError(f"{rows.name} has no old score in any of its {len(rows.table):,} rows: name another file.")
    if with_text:
        found = replace(found, texts=_texts(rows, scored, encoding))
    if label_name:
        found = replace(found, toxic=_toxic(rows, headers[TARGET], encoding))
    if not scored.all():
        logger.info(f"Left out of {rows.name}: {int((~scored).sum()):,} rows without an old score.")
    return found.take(scored)


def read_new_scores(address: str, id_name: str | None = None, encoding: str | None = None) -> AttributeScores:
    """New scores by id, as `toxicity.predict` writes them; arguments and errors are as those of `read_old_scores`."""
    headers: dict[str, str] = {}

    def choose(columns: list[str], file: str) -> dict[str, str]:
        found = [name for name in (id_name, ID) if name and find_columns((name,), columns)]
        chosen = _attributes(NEW_NAMES, columns)
        if not found or not chosen:
            raise RequestError(
                f"{file} has no {'scores' if found else 'ids'}; it has {listed(columns) or 'none'}. Give {NEW} what "
                "toxicity.predict wrote, with the columns id and score."
            )
        headers.update(chosen | {ID: find_columns(found, columns)[0]})
        return headers.copy()

    return _scores(_read(address, choose, encoding, NEW), headers)


def join_scores(old: AttributeScores, new: AttributeScores) -> tuple[AttributeScores, AttributeScores]:
    """The comments that both have by their ids, in the same order.

    Raises:
        RequestError: for an id that is there twice, or if no id is in both.
    """
    ids = [old.ids, new.ids]
    if ids[0].type != ids[1].type:
        ids = [each.cast(pa.large_string()) for each in ids]
    for scores, of in zip((old, new), ids, strict=True):
        counts = of.drop_null().value_counts()
        if len(counts) < len(of.drop_null()):
            twice = next(count["values"] for count in counts.to_pylist() if count["counts"] > 1)
            raise RequestError(
                f"{scores.name}: the id {quoted(str(twice))} is there more than once, so that nobody can tell which "
                "score is whose. Keep one row of each id."
            )
    places = pc.index_in(ids[0], value_set=ids[1].combine_chunks(), skip_nulls=True)
    matched = pc.is_valid(places).to_numpy()
    if not matched.any():
        shown = [next(iter(of.drop_null()[:1].to_pylist()), "none") for of in ids]
        raise RequestError(
            f"No id of {old.name}, such as {quoted(str(shown[0]))}, is in {new.name}, where they are such as "
            f"{quoted(str(shown[1]))}. Give the scores of the same comments, or name the ids with --id_column_name."
        )
    if not matched.all():
        logger.warning(f"Left out of {old.name}: {int((~matched).sum()):,} rows whose id is not in {new.name}.")
    return old.take(matched), new.take(places.drop_null().to_numpy())


def _attributes(names: Mapping[str, Sequence[str]], columns: list[str]) -> dict[str, str]:
    found = {attribute: find_columns(candidates, columns) for attribute, candidates in names.items()}
    for attribute, of in found.items():
        if len(of) > 1:
            raise RequestError(f"{' and '.join(map(quoted, of))} may both be the {attribute}: rename one of them.")
    return {attribute: of[0] for attribute, of in found.items() if of}


def _read(address: str, choose: ChooseColumns, encoding: str | None, flag: str) -> Rows:
    rows = read_rows(address, choose, Layout(encoding=encoding), flag)
    if not len(rows.table):
        raise RequestError(f"{rows.name} holds no rows: give {flag} a file of comments with scores.")
    _refuse(rows, dict(rows.broken), encoding)
    return rows


def _scores(rows: Rows, headers: Mapping[str, str]) -> AttributeScores:
    scores = {}
    for attribute in (name for name in ATTRIBUTES if name in headers):
        shares, fault = optional_shares(rows.table[attribute], np.zeros(len(rows.table), dtype=bool))
        if fault:
            raise RequestError(
                f"{rows.name}: of the column {quoted(headers[attribute])}, {fault}. Scores are from 0 to 1: write 85 "
                "of a hundred as 0.85 or 85%."
            )
        scores[attribute] = shares.cast(pa.float64()).to_numpy(zero_copy_only=False)
    ids = named_ids(rows.table[ID]) if ID in rows.table.column_names else None
    return AttributeScores(rows.name, scores, {name: headers[name] for name in scores}, ids)


def _texts(rows: Rows, scored: np.ndarray, encoding: str | None) -> list[str]:
    comments, faults = check_comments(rows.table.select([TEXT]), rows.name)
    _refuse(rows, {row: reason for row, reason in faults.items() if scored[row]}, encoding)
    return comments[TEXT].to_pylist()


def _toxic(rows: Rows, header: str, encoding: str | None) -> np.ndarray:
    labels = toxicity_of(rows.table[TARGET], rows.name, header)
    bad = {row: why for at, why in labels.faults if why != MISSING_TARGET for row in np.flatnonzero(at).tolist()}
    _refuse(rows, bad, encoding)
    shares = labels.shares.to_numpy(zero_copy_only=False)
    return np.where(np.isnan(shares), np.nan, hard_labels(shares))


def _refuse(rows: Rows, faults: Mapping[int, str], encoding: str | None) -> None:
    if faults:
        first = Source(rows.name, rows.table, dict(sorted(faults.items())), rows.files).first_bad_row(encoding)
        raise RequestError(f"{first}. Bad rows in all: {len(faults):,}. Mend them or take them out.")
