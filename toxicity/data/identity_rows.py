"""More civil comments that name a group of people among the training rows, from rows that would not be used.

Where most comments that name a group are toxic, a model learns that its name is. Dixon et al. 2018, "Measuring and
Mitigating Unintended Bias in Text Classification" (https://doi.org/10.1145/3278721.3278729), add civil ones. Here they
take the place of civil ones that name none, so that as many rows are trained on, and as many of them are toxic.
"""

from __future__ import annotations

import logging

import numpy as np
import pyarrow.compute as pc

from toxicity.core.errors import RequestError
from toxicity.core.schema import TARGET, TEXT, TOXIC_THRESHOLD
from toxicity.data.identity_terms import IdentityTerms
from toxicity.data.labelled_files import Source
from toxicity.data.memory_map import take
from toxicity.data.split import SPLIT_SEED

logger = logging.getLogger(__name__)


def with_identity_rows(
    train: np.ndarray, source: Source, share: float, terms: IdentityTerms, validated: np.ndarray | None = None
) -> np.ndarray:
    """The row numbers of training rows, with some replaced so that `share` of them are civil and name a group.

    Civil is by the main label, of several. Like the split, the draw does not depend on the seed of the run.

    Args:
        train: row numbers in the source, int64 `(rows,)`, in their order.
        source: of the training rows.
        share: wanted, 0 to 1.
        terms: what names a group.
        validated: row numbers in the same source that are validated on, whose texts are not taken either; None if the
            validation rows are of another source.

    Returns:
        As many row numbers in the same order; the new ones are where others were.

    Raises:
        RequestError: if no rows are left to draw from, or no comment names a group.
    """
    table = source.table
    usable = np.ones(len(table), dtype=bool)
    usable[source.unscored] = usable[list(source.bad_rows)] = False
    unused = usable.copy()
    unused[train] = False
    if validated is not None:
        unused[validated] = False
        texts = take(table.select([TEXT]), validated)[TEXT].combine_chunks()
        unused &= ~pc.is_in(table[TEXT], value_set=texts).to_numpy()
    if not unused.any():
        raise RequestError(
            f"--identity_rows draws from rows that are not used, and all of {source.name} are: give a smaller "
            "--max_train_samples, or leave it out."
        )
    named = terms.rows_that_name(table[TEXT])
    civil = usable & pc.less(table[TARGET], TOXIC_THRESHOLD).fill_null(False).to_numpy()
    wanted, found = round(share * len(train)), int((named & civil)[train].sum())
    candidates = np.flatnonzero(named & civil & unused)
    if not found and not len(candidates):
        raise RequestError(
            f"--identity_rows: no civil comment of {source.name} names a group of people. Give words that they have "
            "(--identity_terms FILE), or leave it out."
        )
    replaceable = np.flatnonzero((civil & ~named)[train])
    more = max(0, min(wanted - found, len(candidates), len(replaceable)))
    rng = np.random.default_rng(SPLIT_SEED)
    drawn = train.copy()
    drawn[rng.choice(replaceable, more, replace=False)] = rng.choice(candidates, more, replace=False)
    short = f", and more there are not, of {wanted:,} asked for" if found + more < wanted else ""
    logger.log(
        logging.WARNING if short else logging.INFO,
        f"Of {len(train):,} training rows {found:,} are civil comments that name a group of people; {more:,} that "
        f"would not be used take the place of civil ones that name none: {found + more:,} in all{short}.",
    )
    return drawn
