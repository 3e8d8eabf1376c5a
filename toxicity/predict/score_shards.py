"""Score input files in windows of rows: while one window is scored, the next is read and tokenised in a thread."""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from contextvars import copy_context
from itertools import groupby, takewhile
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from toxicity.core.errors import RequestError, one_line
from toxicity.core.schema import ID, TEXT, canonical_columns
from toxicity.data.copies import local_copy
from toxicity.data.fetching import fetching_ends_with_block
from toxicity.data.ids import whole_numbers
from toxicity.data.readers.base import ChooseColumns, Part
from toxicity.data.readers.encodings import with_likely_encoding
from toxicity.data.readers.files import read_lines, read_windows
from toxicity.data.readers.names import has_types
from toxicity.data.row_checks import check_comments
from toxicity.predict.columns import columns_of_scores, names_of_columns
from toxicity.predict.explain.column import words_column
from toxicity.predict.options import Options
from toxicity.predict.outputs import Outputs
from toxicity.predict.progress import Progress
from toxicity.predict.scorer import Scorer
from toxicity.predict.shards import STANDARD_INPUT, Shard
from toxicity.predict.submission import FORM_OF_2019
from toxicity.predict.writers import output_file

# Limits for the rows of a window, which are sorted by length together; the second one applies if texts are longer than
# 2 KB on average. The last bits of a score depend on both, so they are constants and not options.
ROWS_PER_WINDOW = 16_384
BYTES_PER_WINDOW = 2**25
END_OF_SHARD = None

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Failure(NamedTuple):
    """Why a shard could not be scored."""

    reason: str
    refused: bool  # whether by a `RequestError`, that is through a fault of the request or the input


class IdsDisagree(Exception):
    """The ids of a window have another type than those before it: the shard is read again, with a type for all."""


class Window(NamedTuple):
    """Consecutive rows of a shard, ready to be scored."""

    ids: pa.ChunkedArray
    good: np.ndarray  # bool `(rows,)`, which rows can be scored
    tokens: pa.Table  # those rows, as `Scorer.tokenize` returns them
    input_bytes: float  # the part of the input that the rows took
    texts: list[str]  # of those rows, where their scores are to be explained; else none


def score_shards(
    shards: Iterable[Shard],
    scorer: Scorer,
    outputs: Outputs,
    options: Options,
    progress: Progress,
    turn: AbstractContextManager | None = None,
) -> dict[str, Failure]:
    """Score shards, and return those that failed, by address.

    The bytes of an output do not depend on which process scores the shard, or on what it scored before. The next shard
    is taken from `shards` when the one before it is read; none waits for the next one to be finished. A failure is
    logged at once. `turn`, such as a lock, is entered to compute, and left to read and write.
    """

    def score(window: Window) -> pa.Table:
        with turn or nullcontext():
            return _scored(window, scorer, options)

    failed: dict[str, Failure] = {}
    windows_of_all = _windows_of_all(shards, scorer, options, failed)
    with closing(_prefetched(windows_of_all, lambda item: item[1] is END_OF_SHARD)) as items:
        for shard, items_of_shard in groupby(items, key=itemgetter(0)):
            bytes_before = progress.input_bytes
            try:
                # Up to its end: to ask for more would be to wait until the next one is fetched.
                windows = takewhile(lambda item: item is not END_OF_SHARD, map(itemgetter(1), items_of_shard))
                with outputs.unfinished(shard) as path:
                    outputs.keep(shard, path, *_write_scores(windows, path, score, progress))
            except Exception as error:  # whatever happened, the other shards can still be scored
                refused = isinstance(error, RequestError)
                reason = str(error) if refused else f"{type(error).__name__}: {one_line(error)}"
                failed[shard.address] = Failure(reason, refused)
                logger.error(f"Failed: {shard.address}: {reason}", exc_info=not refused)
                progress.add(0, (shard.bytes or 0) - (progress.input_bytes - bytes_before))
    return failed


def _windows_of_all(
    shards: Iterable[Shard], scorer: Scorer, options: Options, failed: Container[str]
) -> Iterator[tuple[Shard, Window | Exception | None]]:
    """The windows of shard after shard, each with `END_OF_SHARD` after them; if reading fails, the exception before it.

    `IdsDisagree` comes instead of a window, and the windows of the shard from the first one on after it. A shard that
    is in `failed` before all of it was read could not be written: the rest of it is skipped.
    """
    for shard in shards:
        try:
            with closing(_windows(shard, scorer, options)) as windows:
                for window in windows:
                    if shard.address in failed:
                        break
                    yield shard, window
        except Exception as error:  # `_write_scores` raises it again in its own thread
            yield shard, error
        yield shard, END_OF_SHARD


def _windows(shard: Shard, scorer: Scorer, options: Options) -> Iterator[Window | IdsDisagree]:
    """The windows of a shard, with ids of one type; where that changes on the way, `IdsDisagree` and all once more."""
    id_type: pa.DataType | None = None
    while True:
        with closing(_windows_as_read(shard, scorer, options)) as windows:
            for window in windows:
                common = _common_type(id_type, window.ids.type)
                try:
                    ids = window.ids.cast(common)
                except pa.ArrowInvalid:  # a whole number that has more digits than a float
                    ids, common = window.ids, pa.string()
                known, id_type = id_type, common
                if known not in (None, common):
                    yield IdsDisagree()
                    break
                yield window._replace(ids=ids)
            else:
                return


def _common_type(one: pa.DataType | None, other: pa.DataType) -> pa.DataType:
    """The type that holds the ids of both, which is text where they are of different kinds."""
    if one is None or one == other:
        return other
    schemas = [pa.schema([(ID, one)]), pa.schema([(ID, other)])]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field(ID).type
    except pa.ArrowException:
        return pa.string()


def _windows_as_read(shard: Shard, scorer: Scorer, options: Options) -> Iterator[Window]:
    """Read a shard, and check and tokenise its rows; ids have the type of their window."""
    source = "standard input" if shard.address == STANDARD_INPUT else shard.address
    columns: dict[str, str] = {}  # canonical name → name in the file, known when the first part is read

    def choose(names: list[str], file: str) -> dict[str, str]:
        text_name, id_name = options.text_column_name, options.id_column_name
        columns.update(canonical_columns(names, source, text_name, id_name=id_name, wanted=(ID, TEXT)))
        if options.submission and ID not in columns:
            raise RequestError(f"{source} has no column {ID}, which a submission needs: name it with --id_column_name.")
        return columns

    first_row, share = 0, 0.0
    for part in _parts(shard, choose, options):
        table, reasons = check_comments(part.table, source, part.broken, first_row)
        if reasons and options.on_bad_rows == "refuse":
            row, reason = next(iter(reasons.items()))
            reason = with_likely_encoding(reason, shard.address, options.encoding)
            raise RequestError(
                f"{source}, row {first_row + row + 1:,}: {reason}. "
                "Mend it, or have the scores of such rows left empty and counted (--on_bad_rows score_null)."
            )
        ids = table[ID]
        if options.submission and ids.null_count:
            row = int(np.argmax(ids.is_null().to_numpy()))
            reason = reasons.get(row, "the id is missing")
            raise RequestError(
                f"{source}, row {first_row + row + 1:,}: {reason}, and a submission needs the id of every row: mend it."
            )
        if pa.types.is_string(ids.type) and not has_types(shard.address):
            numbers = whole_numbers(ids)
            ids = ids if numbers is None else numbers
        good = np.ones(len(table), dtype=bool)
        good[list(reasons)] = False
        texts = table[TEXT].filter(pa.array(good)).to_pylist()
        yield Window(
            ids,
            good,
            scorer.tokenize(texts),
            (part.share - share) * (shard.bytes or 0),
            texts if options.explain else [],
        )
        first_row, share = first_row + len(table), part.share


def _parts(shard: Shard, choose: ChooseColumns, options: Options) -> Iterator[Part]:
    if shard.address == STANDARD_INPUT:
        choose([TEXT], STANDARD_INPUT)
        yield from read_lines(sys.stdin.buffer, ROWS_PER_WINDOW, BYTES_PER_WINDOW)
    else:
        with local_copy(shard) as path:
            yield from read_windows(path, choose, ROWS_PER_WINDOW, BYTES_PER_WINDOW, options.layout)


def _write_scores(
    windows: Iterator[Window | Exception], output: Path, score: Callable[[Window], pa.Table], progress: Progress
) -> tuple[int, int]:
    """Score windows and write the output; returns its number of rows, and how many of them have no score."""
    while True:
        rows, bytes_before = progress.rows, progress.input_bytes
        try:
            return _write_windows(windows, output, score, progress)
        except IdsDisagree:
            progress.add(rows - progress.rows, bytes_before - progress.input_bytes)


def _write_windows(
    windows: Iterator[Window | Exception], output: Path, score: Callable[[Window], pa.Table], progress: Progress
) -> tuple[int, int]:
    rows, bad_rows, write = 0, 0, None
    with ExitStack() as stack:
        for window in windows:
            if isinstance(window, Exception):
                raise window
            table = score(window)
            # Opened only now, as the first window tells the type of the ids.
            write = write or stack.enter_context(output_file(output, table.schema))
            write(table)
            rows, bad_rows = rows + len(table), bad_rows + len(table) - len(window.tokens)
            progress.add(len(table), window.input_bytes)
    return rows, bad_rows


def _scored(window: Window, scorer: Scorer, options: Options) -> pa.Table:
    scores = np.full((len(window.good), 1 + len(scorer.subtypes)), np.nan)
    scores[window.good] = scorer.probabilities(window.tokens)
    if options.submission:
        cells = [window.ids, *columns_of_scores(scores, [None] * scores.shape[1])]
        columns = options.submission_columns or FORM_OF_2019
        return pa.table({name: cells[number] for name, number in columns.items()})
    thresholds = [options.threshold, *map(options.label_thresholds.get, scorer.subtypes)]
    cells = [window.ids, *columns_of_scores(scores, thresholds)]
    if options.explain:
        # The score of a bad row is NaN, and so no reason to explain it.
        texts = iter(window.texts)
        of_rows = (next(texts) if good else None for good in window.good)
        labelled = scores[:, 0] >= options.threshold
        toxic = [text if label else None for text, label in zip(of_rows, labelled, strict=True)]
        cells.append(words_column(toxic, scorer, options.explain, options.output_format == "csv"))
    return pa.table(cells, names=names_of_columns(scorer.subtypes, options.label_thresholds, bool(options.explain)))


def _prefetched(items: Iterator[T], is_free: Callable[[T], bool]) -> Iterator[T]:
    """Yield the same items, computing each in a thread while the one before it is in use.

    One that `is_free` takes no memory: the one after it is computed meanwhile, too.
    """
    end, following = object(), deque()
    # What the thread fetches ends before it is waited for, after Ctrl-C, too.
    with ThreadPoolExecutor(1) as pool, fetching_ends_with_block():
        context = copy_context()

        def compute() -> T:
            item = next(items, end)
            if item is not end and is_free(item):
                following.append(pool.submit(context.run, compute))
            return item

        following.append(pool.submit(context.run, compute))
        while (item := following.popleft().result()) is not end:
            if not is_free(item):
                following.append(pool.submit(context.run, compute))
            yield item
