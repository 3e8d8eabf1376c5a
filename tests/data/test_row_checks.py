import re
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxicity.core.errors import RequestError
from toxicity.core.schema import NAMES
from toxicity.data.row_checks import MAX_COMMENT_BYTES, check_comments, check_rows, whole_numbers


def check(**columns):
    columns.setdefault("target", [0.0] * len(next(iter(columns.values()))))
    columns.setdefault("text", ["text"] * len(columns["target"]))
    return check_rows(pa.table(columns), "c.csv")


def test_the_types_are_always_the_same():
    table, reasons = check(text=["a", "b"], target=[0, 1])
    assert reasons == {}
    assert table.column_names == list(NAMES)
    types = {str(table[name].type) for name in ("severe_toxicity", "black")}
    assert types == {"float"}
    assert [str(table[name].type) for name in ("id", "text", "target", "identity_annotator_count")] == [
        "int64",
        "large_string",
        "double",
        "int32",
    ]
    assert table["id"].to_pylist() == [0, 1]
    assert table["black"].null_count == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "missing"),
        ("", "blank"),
        (" \t\n\u3000", "blank"),
        ("a\0b", "NUL"),
        ("x" * (MAX_COMMENT_BYTES + 1), "longer than 1,000,000 bytes"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_bad_text(text, reason):
    texts = [b"fine", text.encode() if isinstance(text, str) else text, b"fine"]
    table, reasons = check(text=texts)
    assert list(reasons) == [1]
    assert reason in reasons[1]
    assert table["text"].to_pylist()[::2] == ["fine", "fine"]


@pytest.mark.parametrize("target", [b"1.5", b"-0.1", b"yes", b"0,5", b"nan", b"inf", b"1e400", b"", None, b"\xff"])
def test_bad_targets_as_text(target):
    table, reasons = check(target=[b"0.5", target, b" 1e-1 ", b"1"])
    assert list(reasons) == [1]
    assert reasons[1].startswith("the target is")
    assert ("UTF-8" in reasons[1]) == (target == b"\xff")
    assert table["target"].to_pylist()[2:] == [0.1, 1.0]


@pytest.mark.parametrize("target", [1.5, -0.1, np.nan, np.inf, None])
def test_bad_targets_as_numbers(target):
    assert list(check(target=[0.5, target, 1.0])[1]) == [1]


def test_booleans_are_labels():
    assert check(target=[True, False])[0]["target"].to_pylist() == [1.0, 0.0]


def test_subtypes_and_identities_may_be_missing_but_not_wrong():
    table, reasons = check(target=[0.0] * 3, black=[b"0.5", None, b"1.5"], obscene=[0.1, None, 0.2])
    assert reasons == {2: "the black is not from 0 to 1"}
    assert table["black"].to_pylist() == [0.5, None, None]


@pytest.mark.parametrize("count", [b"99999999999", b"2.7", b"-1", b"\xff"])
def test_annotator_counts_are_whole_numbers(count):
    table, reasons = check(target=[0.0] * 2, identity_annotator_count=[b"7", count])
    assert list(reasons) == [1]
    assert table["identity_annotator_count"][0].as_py() == 7


def test_bytes_that_are_not_utf8_are_blamed_in_every_column():
    assert check(target=[0.0], black=[b"\xff"])[1] == {0: "the black is not UTF-8"}
    assert check(target=[0.0], id=[b"\xff"])[1] == {0: "the id is not UTF-8"}


def test_text_of_every_arrow_type():
    strings = (
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.large_binary(),
        pa.dictionary(pa.int8(), pa.string()),
    )
    for type_ in strings:
        assert check(text=pa.array(["a", "b"], type_))[0]["text"].to_pylist() == ["a", "b"]
    assert check(target=pa.array([Decimal("0.0"), Decimal("1.0")]))[0]["target"].to_pylist() == [0.0, 1.0]


def test_rows_known_to_be_broken_keep_their_reason():
    table = pa.table({"text": ["a", None], "target": [0.0, None]})
    assert check_rows(table, "c.csv", {1: "3 columns instead of 2"})[1] == {1: "3 columns instead of 2"}


def test_ids_stay_what_they_are():
    assert check(id=[b"7", b"12"])[0]["id"].to_pylist() == [7, 12]
    assert check(id=[b"007", b"12"])[0]["id"].to_pylist() == ["007", "12"]
    assert check(id=["a", "b"])[0]["id"].to_pylist() == ["a", "b"]
    assert check(id=[7, 12])[0]["id"].to_pylist() == [7, 12]


def test_an_id_that_was_there_before():
    _, reasons = check(id=[5, 6, 5, 5])
    assert reasons == {2: "the id was there before", 3: "the id was there before"}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": [["a"]], "target": [0.0]}, "holds no text but list"),
        ({"text": ["a"], "target": [[0.0]]}, "not numeric but list"),
        ({"text": ["a"], "target": [0.0], "id": [1.5]}, "ids should be text or whole numbers"),
        ({"text": ["a"], "target": [0.0], "id": [["a"]]}, "ids should be text or whole numbers"),
        ({"text": pa.array([], pa.string()), "target": pa.array([], pa.float64())}, "holds no rows"),
    ],
)
def test_columns_that_nothing_can_mend(columns, message):
    with pytest.raises(RequestError, match=message):
        check_rows(pa.table(columns), "c.csv")


@given(
    st.lists(st.tuples(st.none() | st.binary(max_size=12), st.none() | st.binary(max_size=6)), min_size=1, max_size=30)
)
def test_each_row_is_usable_or_has_a_reason(rows):
    texts, targets = zip(*rows, strict=True)
    table, reasons = check_rows(
        pa.table({"text": pa.array(texts, pa.binary()), "target": pa.array(targets, pa.binary())}), "c.csv"
    )
    assert len(table) == len(rows)
    for row, (text, target) in enumerate(zip(table["text"].to_pylist(), table["target"].to_pylist(), strict=True)):
        if row not in reasons:
            assert text.encode() == texts[row]
            assert text.strip()
            assert target == float(targets[row])
            assert 0 <= target <= 1
        elif texts[row] and texts[row].isalnum():
            assert not re.fullmatch(rb"0(\.\d+)?|1", targets[row] or b""), "a row that is fine is not blamed"


def test_comments_alone_are_checked_by_the_same_rules():
    texts = ["a", None, " ", "b\0", b"\xff".decode("latin-1"), "x" * (MAX_COMMENT_BYTES + 1)]
    whole, alone = check(text=texts)[1], check_comments(pa.table({"text": texts}), "c.csv")[1]
    assert alone == whole
    assert list(alone) == [1, 2, 3, 5]
    table, reasons = check_comments(pa.table({"text": [b"\xff", b"a"]}), "c.csv", {1: "cut"})
    assert reasons == {0: "the text is not UTF-8", 1: "cut"}
    assert table["text"].to_pylist() == [None, "a"]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (None, pa.array([70, 71])),
        (pa.array([3, 3]), pa.array([3, 3])),
        (pa.array([3, None], pa.uint64()), pa.array([3, None], pa.uint64())),
        (pa.array([b"3", b"x"]), pa.array(["3", "x"])),
        (pa.array(["x", None], pa.large_string()), pa.array(["x", None])),
        (pa.array(["x", "x"]).dictionary_encode(), pa.array(["x", "x"])),
        (pa.array([0.5, 0.25]), pa.array([0.5, 0.25])),
        (pa.array([1, 2], pa.timestamp("s")), pa.array([1, 2], pa.timestamp("s"))),
    ],
    ids=str,
)
def test_ids_of_a_window_keep_their_type(ids, expected):
    columns = {"text": ["a", "b"]} | ({} if ids is None else {"id": ids})
    table, reasons = check_comments(pa.table(columns), "c.csv", first_row=70)
    assert table["id"].combine_chunks().equals(expected)
    assert reasons == {}


def test_an_id_is_a_single_value():
    with pytest.raises(RequestError, match="the column `id` holds list.*; an id is a single value"):
        check_comments(pa.table({"text": ["a"], "id": [[1, 2]]}), "c.parquet")


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["7", "-3", None, "0"], [7, -3, None, 0]),
        ([None, None], [None, None]),
        ([], []),
        (["9223372036854775807"], [2**63 - 1]),
        (["9223372036854775808"], None),
        (["7", "07"], None),
        (["+7"], None),
        (["-0"], None),
        (["7 "], None),
        (["7.0"], None),
        (["7\n"], None),
        (["٧"], None),
    ],
    ids=str,
)
def test_which_ids_are_whole_numbers(ids, expected):
    found = whole_numbers(pa.chunked_array([pa.array(ids, pa.string())]))
    assert (None if found is None else found.to_pylist()) == expected
