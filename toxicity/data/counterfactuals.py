"""Copies of training comments that name a group of people, with another group in its place and the same labels.

A model that is trained on them has no reason to go by the group. The method is that of Garg et al. 2019,
"Counterfactual Fairness in Text Classification through Robustness" (https://arxiv.org/abs/1809.10610), with words
exchanged in both directions, as a comment may name both groups.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from toxicity.core.errors import RequestError
from toxicity.core.schema import ID, IDENTITIES, TEXT
from toxicity.data.identity_terms import IdentityTerms, Mention
from toxicity.data.memory_map import ROWS_PER_COPY, mapped_from_disk, take

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Counterfactuals:
    """What copies there are, and of what: the row of the comment of each, int64 `(copies,)`; how many comments name a
    group of people; and how often each term was put into a copy, by the words of the file.
    """

    originals: np.ndarray
    comments: int
    terms: dict[str, int]


def add_counterfactuals(
    train: pa.Table, terms: IdentityTerms, share: float, seed: int
) -> tuple[pa.Table, Counterfactuals]:
    """Training rows with copies after them, memory-mapped, and what these are.

    A copy has the labels and subtypes of its comment. Its identities are those of the comment with the two groups
    exchanged, and null where one of the groups has no column. Its id is that of the comment and `copy 1`, so that all
    ids become text.

    Args:
        train: the rows, with the columns of `data.sources.Splits`.
        terms: what is exchanged.
        share: copies by comments that name a group. A comment gets at most one copy more than another, and fewer if
            there are not as many that differ.
        seed: what the copies are drawn by.

    Raises:
        RequestError: if no comment names a group of which a term can be exchanged, or the share comes to no copy.
    """
    rows = np.flatnonzero(terms.rows_that_name(train[TEXT]))
    rng = random.Random(seed)
    originals: list[int] = []
    put_in: Counter[str] = Counter()

    def blocks() -> Iterator[pa.Table]:
        for start in range(0, len(rows), ROWS_PER_COPY):
            comments = take(train, rows[start : start + ROWS_PER_COPY])
            places, numbers, texts, pairs = [], [], [], []
            for place, text in enumerate(comments[TEXT].to_pylist()):
                count = int(share) + (rng.random() < share % 1)
                copies = list(_copies(text, terms.mentions(text), terms, count, rng, put_in))
                for number, (copy, pair) in enumerate(copies, 1):
                    places.append(place)
                    numbers.append(number)
                    texts.append(copy)
                    pairs.append(pair)
            originals.extend(rows[start + np.array(places, dtype=np.int64)].tolist())
            yield _changed(comments.take(pa.array(places, pa.int64())), numbers, texts, pairs)

    tables = mapped_from_disk(blocks())
    if not originals and share < 1 and len(rows):
        raise RequestError(
            f"--counterfactuals {share:g} comes to no copy of the {len(rows):,} comments that name a group: give more, "
            "such as 2, or leave it out."
        )
    if not originals:
        raise RequestError(
            f"--counterfactuals: none of the {len(train):,} training comments names a group of people in words that "
            "can be exchanged. Give words that they have (--identity_terms FILE), or leave it out."
        )
    logger.info(
        f"Training on {len(train):,} comments and {len(originals):,} copies of them: {len(rows):,} comments name a "
        "group of people, and a copy has another group in its place, and the same labels."
    )
    as_text = train.set_column(train.column_names.index(ID), ID, train[ID].cast(pa.large_string()))
    copies = [table.cast(as_text.schema) for table in tables]
    counted = dict(sorted(put_in.items()))
    return pa.concat_tables([as_text, *copies]), Counterfactuals(np.array(originals, np.int64), len(rows), counted)


def _copies(
    text: str, mentions: list[Mention], terms: IdentityTerms, count: int, rng: random.Random, put_in: Counter[str]
) -> Iterator[tuple[str, tuple[str, str]]]:
    """At most `count` copies of a comment that differ from it and from each other, each with its pair of groups."""
    if not count:
        return
    pairs = terms.exchanges(mentions)
    rng.shuffle(pairs)
    seen = {text}
    # A second time, as other terms of the same groups may be drawn.
    for pair in pairs * 2:
        copy, new = terms.exchanged(text, mentions, pair, rng.choice)
        if copy not in seen:
            seen.add(copy)
            put_in.update(new)
            yield copy, pair
        if len(seen) > count:
            return


def _changed(comments: pa.Table, numbers: list[int], texts: list[str], pairs: list[tuple[str, str]]) -> pa.Table:
    """Copies of comments with other texts, their ids marked with a number, and their pair of groups exchanged."""
    known = {name: place for place, name in enumerate(IDENTITIES)}
    values = np.stack([comments[name].cast(pa.float64()).to_numpy() for name in IDENTITIES], axis=1)
    # The column that each identity is taken from; the last one, which is empty, if it is exchanged with one of none.
    values = np.column_stack([values, np.full(len(values), np.nan)])
    sources = np.tile(np.arange(len(IDENTITIES)), (len(pairs), 1))
    for row, (one, other) in enumerate(pairs):
        for group, from_group in ((one, other), (other, one)):
            if group in known:
                sources[row, known[group]] = known.get(from_group, len(IDENTITIES))
    values = np.take_along_axis(values, sources, axis=1)
    ids = comments[ID].cast(pa.large_string()).to_pylist()
    marked = [None if id_ is None else f"{id_} copy {number}" for id_, number in zip(ids, numbers, strict=True)]
    columns = {ID: pa.array(marked, pa.large_string()), TEXT: pa.array(texts, comments.schema.field(TEXT).type)}
    for place, name in enumerate(IDENTITIES):
        columns[name] = pa.array(values[:, place], comments.schema.field(name).type, from_pandas=True)
    return pa.table({name: columns.get(name, comments[name]) for name in comments.column_names})
