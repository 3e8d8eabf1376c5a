"""Ids: given back as they came where comments are scored, and never a fault where rows are trained on."""

import logging
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest

from toxicity.core.errors import RequestError
from toxicity.data.ids import ids_as_they_are, ids_of_training_rows, whole_numbers


def chunked(values, type_=None):
    whole = pa.array(values, type_)
    return pa.chunked_array([whole[:1], whole[1:]], whole.type)


@pytest.mark.parametrize(
    ("values", "numbers"),
    [
        (["7", "12", None], [7, 12, None]),
        (["-7", "0"], [-7, 0]),
        (["9223372036854775807"], [2**63 - 1]),
        ([None], [None]),
        (["007", "1"], None),
        (["+7"], None),
        (["-0"], None),
        (["0x1F"], None),
        (["7.0"], None),
        (["7\n"], None),
        (["٧"], None),
        ([], []),
        ([" 7"], None),
        ([""], None),
        (["7", "x"], None),
        (["9223372036854775808"], None),
    ],
)
def test_only_plain_whole_numbers_are_numbers(values, numbers):
    read = whole_numbers(chunked(values, pa.large_string()))
    assert numbers == (None if read is None else read.to_pylist())
    assert read is None or read.type == pa.int64()


TRAINING = [
    (["7", "12"], None, [7, 12], ""),
    ([b"7", b"12"], None, [7, 12], ""),
    (["007", "12"], None, ["007", "12"], ""),
    (["a", "b"], pa.string_view(), ["a", "b"], ""),
    ([7, 12], pa.int32(), [7, 12], ""),
    ([7, 2**63], pa.uint64(), ["7", "9223372036854775808"], ""),
    ([5, 6, 5, 5], None, [5, 6, 5, 5], "2 rows have one that was there before"),
    (["a", "b", "a"], None, ["a", "b", "a"], "1 row has one that was there before"),
    ([5, None, None], None, [5, None, None], "2 rows have none"),
    (["a", None], None, ["a", None], "1 row has none"),
    ([None, None], None, [None, None], "2 rows have none"),
    ([1.0, 2.0, None, float("nan")], None, [1, 2, None, None], "2 rows have none; double is kept as whole numbers"),
    ([1.5, 2.0, 1e300, float("inf")], None, ["1.5", "2", "1e+300", "inf"], "double is kept as text"),
    ([b"\xff", b"a"], None, [r"\xff", "a"], ""),
    ([datetime(2020, 1, 1, 2)], pa.timestamp("s"), ["2020-01-01 02:00:00"], "timestamp[s] is kept as text"),
    ([datetime(2020, 1, 1, 2, tzinfo=UTC)], None, ["2020-01-01 02:00:00.000000Z"], "is kept as text"),
    ([0, None], pa.timestamp("s", "Mars/City"), ["1970-01-01 00:00:00Z", None], "is kept as text"),
    ([date(2020, 1, 1)], None, ["2020-01-01"], "date32[day] is kept as text"),
    ([time(1, 2)], pa.time32("s"), ["01:02:00"], "is kept as text"),
    ([timedelta(1)], pa.duration("s"), ["86400"], "is kept as text"),
    ([pa.MonthDayNano([1, 2, 3])], None, ["MonthDayNano(months=1, days=2, nanoseconds=3)"], "is kept as text"),
    ([Decimal("1.50"), Decimal("2.00")], None, ["1.50", "2.00"], "is kept as text"),
    ([True, False], None, ["true", "false"], "bool is kept as text"),
    ([["a"], ["b"]], None, [0, 1], "the ids are list<item: string>, so rows go by their numbers"),
    ([{"$oid": "a"}], None, [0], "so rows go by their numbers"),
]


@pytest.mark.parametrize(("values", "type_", "ids", "told"), TRAINING)
def test_ids_of_training_rows_are_kept_and_oddities_told_once(values, type_, ids, told, caplog):
    with caplog.at_level(logging.INFO, logger="toxicity"):
        kept = ids_of_training_rows(chunked(values, type_), len(ids), "c.csv")
    assert kept.to_pylist() == ids
    assert kept.type in (pa.int64(), pa.large_string())
    assert len(caplog.messages) == bool(told)
    assert told in caplog.text


def test_without_ids_rows_are_numbered():
    assert ids_of_training_rows(None, 3, "c.csv").to_pylist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("values", "type_", "given_back"),
    [
        ([3, None], pa.int16(), pa.int16()),
        ([3, 2**63], pa.uint64(), pa.uint64()),
        ([0.5, 2.0], None, pa.float64()),
        ([0.5, 2.0], pa.float32(), pa.float32()),
        ([datetime(2020, 1, 1), None], pa.timestamp("us"), pa.timestamp("us")),
        ([date(2020, 1, 1)], None, pa.date32()),
        ([Decimal("1.50")], None, pa.decimal128(3, 2)),
        ([True, None], None, pa.bool_()),
        (["a", None], None, pa.string()),
        ([b"a", b"7"], None, pa.string()),
        ([None, None], None, pa.null()),
    ],
)
def test_ids_of_comments_to_score_keep_their_type(values, type_, given_back):
    ids, undecodable = ids_as_they_are(chunked(values, type_), "c.csv")
    assert ids.type == given_back
    values = values.to_pylist() if isinstance(values, pa.Array) else values
    assert ids.to_pylist() == [value.decode() if isinstance(value, bytes) else value for value in values]
    assert not undecodable.any()


def test_ids_that_are_no_text_are_null_and_marked():
    ids, undecodable = ids_as_they_are(chunked([b"a", b"\xff"]), "c.csv")
    assert (ids.to_pylist(), undecodable.tolist()) == (["a", None], [False, True])


@pytest.mark.parametrize("values", [[["a"]], [{"$oid": "a"}]])
def test_nested_ids_cannot_be_given_back(values):
    with pytest.raises(
        RequestError, match="c.csv: the column `id` holds .*; an id is a single value.*--id_column_name"
    ):
        ids_as_they_are(chunked(values), "c.csv")
