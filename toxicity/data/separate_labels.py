"""Comments whose labels are in a file of their own, as those of `test.csv` in the competition of 2018."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from toxicity.core.arguments import DataArguments
from toxicity.core.console import quoted
from toxicity.core.errors import RequestError
from toxicity.core.schema import ANNOTATOR_COUNTS, ID, IDENTITIES, NAMES, TEXT, canonical_columns, listed
from toxicity.data.ids import named_ids
from toxicity.data.label_columns import Chosen, LabelNames
from toxicity.data.labelled_files import Rows, Source, checked_source, chooser, layout_of, read_rows

LABELS_FLAG = "--validation_labels_file"

logger = logging.getLogger(__name__)


def read_labelled_apart(arguments: DataArguments, known: LabelNames) -> Source:
    """The comments of `--validation_file` with the labels that `--validation_labels_file` has for their ids.

    Comments without labels are left out like those that nobody scored; both these and labels without a comment are
    counted and told.

    Args:
        arguments: both files, their layout, and the names of columns.
        known: the labels of the training rows.

    Raises:
        RequestError: as `read_file`; for a file without ids, ids that several rows of labels have, and files that share
            none.
    """
    found: dict[str, Chosen] = {}
    choose_labels = chooser(arguments, found, [name for name in NAMES if name != TEXT])

    def choose_comments(names: list[str], file: str) -> dict[str, str]:
        wanted = (ID, TEXT, *IDENTITIES, *ANNOTATOR_COUNTS)
        return _with_id(names, file, canonical_columns(names, file, arguments.text_column_name, wanted=wanted))

    comments = read_rows(arguments.validation_file, choose_comments, layout_of(arguments), "--validation_file")
    labels = read_rows(
        arguments.validation_labels_file,
        lambda names, file: _with_id(names, file, choose_labels(names, file)),
        layout_of(arguments),
        LABELS_FLAG,
    )
    _refuse_broken(labels, arguments)
    places = _places(comments, labels)
    unlabelled = pc.is_null(places).to_numpy(zero_copy_only=False)
    unlabelled[list(comments.broken)] = False
    table = comments.table
    wanted = [name for name in labels.table.column_names if name not in table.column_names]
    for name, column in zip(wanted, labels.table.select(wanted).take(places).columns, strict=True):
        table = table.append_column(name, column)
    rows = Rows(f"{comments.name} with {labels.name}", table, comments.files, comments.broken)
    return checked_source(rows, arguments, found, known, unlabelled)


def _with_id(names: list[str], file: str, columns: dict[str, str]) -> dict[str, str]:
    if ID not in columns:
        raise RequestError(
            f"{file} has no column id, by which {LABELS_FLAG} has the labels of comments; it has {listed(names)}. "
            "Call the column of the ids `id` in both files."
        )
    return columns


def _refuse_broken(labels: Rows, arguments: DataArguments) -> None:
    if not labels.broken:
        return
    row, reason = next(iter(labels.broken.items()))
    told = f"{labels.name}, row {row + 1:,}: {reason}. Broken rows in all: {len(labels.broken):,}"
    if arguments.on_bad_rows == "refuse":
        raise RequestError(f"{told}. Mend them, or leave them out with --on_bad_rows drop.")
    logger.warning(f"{told}; they are left out.")


def _places(comments: Rows, labels: Rows) -> pa.ChunkedArray:
    """The row of the labels of each comment, null where there is none."""
    ids = []
    for rows in (comments, labels):
        column = rows.table[ID]
        if pa.types.is_nested(column.type):
            raise RequestError(f"{rows.name}: the column `{ID}` holds {column.type}; an id is a single value.")
        ids.append(named_ids(column))
    if ids[0].type != ids[1].type:
        ids = [column.cast(pa.large_string()) for column in ids]
    of_comments, of_labels = ids
    counts = of_labels.drop_null().value_counts()
    if len(repeated := counts.filter(pc.greater(counts.field("counts"), 1))):
        raise RequestError(
            f"{labels.name}: {len(repeated):,} ids stand in several rows, such as "
            f"{quoted(str(repeated[0]['values']))}: leave one row of labels for each comment."
        )
    places = pc.index_in(of_comments, value_set=of_labels.combine_chunks(), skip_nulls=True)
    matched = len(places) - places.null_count
    if not matched:
        shown = [quoted(str(column[0])) if len(column) else "none" for column in ids]
        raise RequestError(
            f"{comments.name} and {labels.name} share no id: their first ones are {' and '.join(shown)}. "
            f"Check that {LABELS_FLAG} has the labels of these comments."
        )
    if without := len(of_labels) - len(np.unique(places.drop_null())):
        logger.info(f"{labels.name}: {without:,} rows of labels have no comment in {comments.name}.")
    return places
