"""`score_batch`: the comments that Ray Data and Spark hand to a function, batch by batch."""

# Not called `score_batch`: as soon as it is imported, a module hides what its package has by that name.
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from toxicity.core.console import quoted
from toxicity.core.errors import RequestError
from toxicity.core.schema import TEXT, listed
from toxicity.data.readers.base import text_as_bytes
from toxicity.data.row_checks import check_comments
from toxicity.predict.columns import SCORE, columns_of_scores, names_of_columns

if TYPE_CHECKING:
    import torch

    from toxicity.predict.scorer import Scorer

_loading = Lock()


class score_batch:
    """Scores batches of comments: `ds.map_batches(score_batch, fn_constructor_args=["runs/sample"], num_gpus=1)`.

    A class, as Ray Data wants one for a function that lives in its actors; what it makes is a function, also inside of
    a `pandas_udf` and for `DataFrame.mapInPandas` of Spark. The model is loaded at the first call, once in a process,
    and is not pickled. Scores are those of `python -m toxicity.predict` up to a rounding error of the precision. A
    comment that is missing, blank, or otherwise one that `--on_bad_rows score_null` leaves without a score has none.

    Args:
        model: folder of a run that every machine sees, or a model on the Hub; as are `revision`, `device`,
            `mixed_precision`, `runtime`, `toxic_label` and `prior` those of `Scorer`.
        text_column: the column of the comments; a series is that column itself.
    """

    def __init__(
        self,
        model: str,
        text_column: str = TEXT,
        *,
        revision: str = "main",
        device: str | torch.device | None = None,
        mixed_precision: str | None = None,
        runtime: str | None = None,
        toxic_label: str | Sequence[str] = (),
        prior: float | Sequence[float] | None = None,
    ) -> None:
        self._text_column = text_column
        # As they are compared by value when another instance asks for the same model.
        chosen = toxic_label if isinstance(toxic_label, str) else tuple(toxic_label)
        shares = tuple(prior) if isinstance(prior, Sequence) else prior
        self._model = (model, revision, device, mixed_precision, chosen, runtime, shares)
        # By which `pandas_udf` knows a function from a series to a series; it does not look for those of `__call__`.
        self.__annotations__ = {"batch": pd.Series, "return": pd.Series}

    def __call__(self, batch: Any) -> Any:
        """Score a batch.

        Args:
            batch: a pandas DataFrame, an Arrow table or record batch, or a dictionary of NumPy arrays; or a pandas
                Series of comments; or an iterator of such.

        Returns:
            For a table the same kind, with columns added: `score` (float64), `label` (0 or 1, int8), and those of the
            model's other labels, as in the outputs of `python -m toxicity.predict`. Where the batch has such a column
            already, the new one has `_` at its end. A missing score is null; in a dictionary it is None, and the array
            then one of objects. For a series the scores alone, float64 with its index, NaN where missing. For an
            iterator an iterator of these.

        Raises:
            RequestError: if there is no such column or it holds something else than text, and what `Scorer` raises.
            TypeError: for a batch of another kind.
        """
        if isinstance(batch, Iterator):
            return map(self, batch)
        if isinstance(batch, pd.Series):
            return pd.Series(self._scores(batch, "the series")[:, 0], batch.index, name=SCORE)
        columns = self._columns(batch)
        if isinstance(batch, pd.DataFrame):
            nullable = {pa.int8(): pd.Int8Dtype()}.get
            added = {name: column.to_pandas(types_mapper=nullable).array for name, column in columns.items()}
            return batch.assign(**added)
        if isinstance(batch, Mapping):
            return {**batch, **{name: _as_numpy(column) for name, column in columns.items()}}
        for name, column in columns.items():
            batch = batch.append_column(name, column)
        return batch

    def _columns(
        self, batch: pd.DataFrame | pa.Table | pa.RecordBatch | Mapping[str, np.ndarray]
    ) -> dict[str, pa.Array]:
        """The columns to add to a batch, by name."""
        if isinstance(batch, pa.Table | pa.RecordBatch):
            names = batch.column_names
        elif isinstance(batch, pd.DataFrame | Mapping):
            names = [*batch.keys()]
        else:
            raise TypeError(f"score_batch takes a table or a series of comments, not a {type(batch).__name__}")
        told = [*map(str, names)]
        if names.count(self._text_column) != 1:
            several = "several columns" if self._text_column in names else "no column"
            raise RequestError(
                f"the batch has {several} {quoted(self._text_column)}; it has {listed(told) or 'none'}. "
                "Name the one of the comments as text_column."
            )
        scores = self._scores(batch[self._text_column], f"the column {quoted(self._text_column)}")
        scorer = self._scorer()
        calibrations = scorer.calibrations
        of_others = {name: calibrations[name].threshold for name in scorer.subtypes if name in calibrations}
        _, *added = names_of_columns(scorer.subtypes, of_others, beside=told)
        thresholds = [scorer.threshold, *map(of_others.get, scorer.subtypes)]
        return dict(zip(added, columns_of_scores(scores, thresholds), strict=True))

    def _scores(self, texts: pd.Series | pa.Array | pa.ChunkedArray | np.ndarray, source: str) -> np.ndarray:
        """The scores of all labels, float64 `(rows, labels)`, NaN in rows that have none."""
        table, reasons = check_comments(pa.table({TEXT: _text_of(texts, source)}), source)
        good = np.ones(len(table), dtype=bool)
        good[list(reasons)] = False
        scorer = self._scorer()
        scores = np.full((len(table), 1 + len(scorer.subtypes)), np.nan)
        scores[good] = scorer.probabilities(scorer.tokenize(table[TEXT].filter(pa.array(good)).to_pylist()))
        return scores

    def _scorer(self) -> Scorer:
        with _loading:
            return _load(*self._model)


@cache
def _load(*model: Any) -> Scorer:
    # Imported only now, as a driver that hands the work to others need not wait for torch.
    from toxicity.predict.scorer import Scorer

    return Scorer(*model)


def _text_of(values: pd.Series | pa.Array | pa.ChunkedArray | np.ndarray, source: str) -> pa.ChunkedArray:
    """A column of text as bytes; raises `RequestError` if it holds something else."""
    try:
        column = _as_arrow(values)
    except (pa.ArrowException, ValueError):
        column = None  # without the message, as that shows what a user wrote
    text = None if column is None else text_as_bytes(column)
    if text is None:
        held = "not only text" if column is None else f"no text but {column.type}"
        raise RequestError(f"{source} holds {held}: give the column of the comments, of a table as text_column.")
    return text


def _as_arrow(values: pd.Series | pa.Array | pa.ChunkedArray | np.ndarray) -> pa.ChunkedArray:
    if not isinstance(values, pa.Array | pa.ChunkedArray):
        try:
            values = pa.array(values, from_pandas=True)
        except UnicodeEncodeError:  # half a character, with which a comment cannot be scored
            values = pa.array(map(_as_bytes, values), from_pandas=True)
    if values.null_count == len(values):  # whatever type that has, as NaN in NumPy
        values = pa.nulls(len(values))
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    return values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])


def _as_bytes(value: Any) -> Any:
    return value.encode(errors="surrogatepass") if isinstance(value, str) else value


def _as_numpy(column: pa.Array) -> np.ndarray:
    if not column.null_count:
        return column.to_numpy(zero_copy_only=False, writable=True)
    valid, values = column.is_valid(), column.fill_null(0).to_numpy()
    # Of NumPy's numbers, so that Arrow, which Ray Data makes of it, knows their type.
    cells = (value if there.as_py() else None for value, there in zip(values, valid, strict=True))
    return np.fromiter(cells, dtype=object, count=len(column))
