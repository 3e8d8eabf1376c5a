import re
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxicity.core.errors import RequestError
from toxicity.core.schema import NAMES
from toxicity.data.label_columns import Chosen, Request
from toxicity.data.row_checks import MAX_COMMENT_BYTES, check_comments, check_rows


def check(**columns):
    columns.setdefault("target", [0.0] * len(next(iter(columns.values()))))
    columns.setdefault("text", ["text"] * len(columns["target"]))
    checked = check_rows(pa.table(columns), "c.csv")
    return checked.table, checked.bad_rows


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


@pytest.mark.parametrize("target", [b"1.5", b"-0.1", b"yes", b"nan", b"inf", b"1e400", b"", None, b"\xff"])
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


@pytest.mark.parametrize(
    ("values", "read"),
    [
        ([b"0.5", None, b"1"], [0.5, None, 1]),
        ([0.5, float("nan"), 1], [0.5, None, 1]),
        ([True, None, False], [1, None, 0]),
        (["yes", "No", ""], [1, 0, None]),
        (["TRUE", "f", "NA"], [1, 0, None]),
        (["85%", "0,5", "0"], [0.85, 0.5, 0]),
        (["yes", "0.5", "n"], [1, 0.5, 0]),
    ],
)
def test_other_columns_are_read_as_people_write_them(values, read):
    table, reasons = check(target=[0.0] * 3, black=values, insult=values)
    assert reasons == {}
    for name in ("black", "insult"):
        assert table[name].to_pylist() == pytest.approx(read)
        assert table[name].type == pa.float32()


@pytest.mark.parametrize(
    ("name", "values", "fault"),
    [
        ("insult", ["yes", "no", "maybe"], "`maybe` in row 3 is not a share from 0 to 1"),
        ("male", [0, 3, 0], "`3` in row 2 is not a share"),
        ("threat", [b"0", b"-1", b"-1"], "`-1` in row 2 is not a share"),
        ("black", [b"0.5", None, b"\xff"], r"`\xff` in row 3 is not a share"),
        ("white", ["a\x1b[2J", "0", "0"], r"`a\x1b[2J` in row 1 is not a share"),
        ("obscene", pa.array([[1, 2], [1], [0]]), "it holds list<"),
        ("muslim", ["a long text " * 30] * 3, "it holds long texts"),
        ("identity_annotator_count", [b"7", b"2.7", b"1"], "`2.7` in row 2 is not a whole number"),
        ("toxicity_annotator_count", [7, -1, 4], "`-1` in row 2 is not a whole number"),
        ("toxicity_annotator_count", [b"7", b"1", b"99999999999"], "`99999999999` in row 3 is not a whole number"),
    ],
)
def test_a_column_that_cannot_be_read_is_absent_and_makes_no_row_bad(name, values, fault, caplog):
    checked = check_rows(pa.table({"text": ["a"] * 3, "target": [0, 1, 0], name: values}), "c.csv")
    assert checked.bad_rows == {}
    assert list(checked.absent) == [name]
    assert fault in checked.absent[name]
    assert checked.table[name].null_count == 3
    assert len(caplog.messages) == 1
    assert f"the column `{name}` is not used, as {checked.absent[name]}" in caplog.text


def test_counts_of_annotators_are_whole_numbers():
    table, _ = check(target=[0.0] * 3, identity_annotator_count=[b"7", None, b"10"])
    assert table["identity_annotator_count"].to_pylist() == [7, None, 10]
    assert table["identity_annotator_count"].type == pa.int32()


def test_broken_and_unscored_rows_do_not_count_against_a_column():
    columns = {"target": [0, -1, 1, None], "insult": [0, -1, 1, None], "threat": [1, -1, 0, None]}
    checked = check_rows(pa.table({"text": ["a", " ", "b", None], **columns}), "c.csv", {3: "cut"})
    assert checked.absent == {}
    assert checked.bad_rows == {3: "cut"}
    assert checked.unscored.tolist() == [1]
    assert checked.unscored.dtype == np.int64
    assert checked.table["threat"].to_pylist() == [1, None, 0, None]


def test_positive_labels_and_the_name_of_the_column_are_handed_on():
    table = pa.table({"text": ["a", "b"], "target": ["0", "1"]})
    assert check_rows(table, "c.csv", request=Request(positive_labels=["0"])).table["target"].to_pylist() == [1, 0]
    with pytest.raises(RequestError, match="`civil` tells by its name"):
        check_rows(table, "c.csv", request=Request(found={"c.csv": Chosen(["civil"], {"target": "civil"})}))


def test_text_of_every_arrow_type():
    for type_ in (pa.string(), pa.large_string(), pa.string_view(), pa.large_binary()):
        assert check(text=pa.array(["a", "b"], type_))[0]["text"].to_pylist() == ["a", "b"]
    assert check(target=pa.array([Decimal("0.0"), Decimal("1.0")]))[0]["target"].to_pylist() == [0.0, 1.0]


def test_rows_known_to_be_broken_keep_their_reason():
    table = pa.table({"text": ["a", None], "target": [0.0, None]})
    assert check_rows(table, "c.csv", {1: "3 columns instead of 2"}).bad_rows == {1: "3 columns instead of 2"}


def test_ids_stay_what_they_are():
    assert check(id=[b"7", b"12"])[0]["id"].to_pylist() == [7, 12]
    assert check(id=[b"007", b"12"])[0]["id"].to_pylist() == ["007", "12"]
    assert check(id=["a", "b"])[0]["id"].to_pylist() == ["a", "b"]
    assert check(id=[7, 12])[0]["id"].to_pylist() == [7, 12]


def test_ids_are_no_faults(caplog):
    with caplog.at_level("INFO", logger="toxicity"):
        for ids in ([5, 5, 6], [0.5, None, 1.0], [None, "a", "a"], [b"\xff", None, b"a"], [["a"], None, ["b"]]):
            assert check(id=ids)[1] == {}
    assert len(caplog.messages) == 5
    caplog.clear()
    with caplog.at_level("INFO", logger="toxicity"):
        check_rows(pa.table({"text": ["a", None], "target": [0, None], "id": [1, None]}), "c.csv", {1: "cut"})
    assert not caplog.messages, "a broken row has no id, which is told with its reason"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": [["a"]], "target": [0.0]}, "holds no text but list"),
        ({"text": ["a"], "target": [[0.0, 1.0]]}, "no toxicity but list"),
        ({"text": pa.array([], pa.string()), "target": pa.array([], pa.float64())}, "holds no rows"),
    ],
)
def test_columns_that_nothing_can_mend(columns, message):
    with pytest.raises(RequestError, match=message):
        check_rows(pa.table(columns), "c.csv")


def _meant(target):
    """The share that a value is, with a decimal comma or a percent sign, or as one of two words."""
    word = target.decode().strip().casefold().replace(",", ".")
    if word.endswith("%"):
        return float(word.removesuffix("%")) / 100
    return float({"y": 1, "t": 1, "n": 0, "f": 0}.get(word, word))


@given(
    st.lists(st.tuples(st.none() | st.binary(max_size=12), st.none() | st.binary(max_size=6)), min_size=1, max_size=30)
)
def test_each_row_is_usable_or_has_a_reason(rows):
    texts, targets = zip(*rows, strict=True)
    columns = {"text": pa.array(texts, pa.binary()), "target": pa.array(targets, pa.binary())}
    try:
        table, reasons, *_ = check_rows(pa.table(columns), "c.csv")
    except RequestError:
        assert {target for target in targets if target} - {b"0", b"1"}, "what is plain is not refused"
        return
    assert len(table) == len(rows)
    for row, (text, target) in enumerate(zip(table["text"].to_pylist(), table["target"].to_pylist(), strict=True)):
        if row not in reasons:
            assert text.encode() == texts[row]
            assert text.strip()
            assert target == _meant(targets[row])
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


def test_ids_of_a_window_keep_their_type():
    def ids(column, first_row=0):
        columns = {"text": ["a", "b"]} | ({} if column is None else {"id": column})
        table, reasons = check_comments(pa.table(columns), "c.csv", first_row=first_row)
        return table["id"].to_pylist(), reasons

    assert ids(None, first_row=70) == ([70, 71], {})
    assert ids([3, 3]) == ([3, 3], {}), "as they stand: nobody remembers all that were there before"
    assert ids([b"3", b"x"]) == (["3", "x"], {})
    assert ids([3, None]) == ([3, None], {}), "which of them matter is for the caller to say"
    assert ids([0.5, 0.25]) == ([0.5, 0.25], {})
    assert ids([b"\xff", b"a"]) == ([None, "a"], {0: "the id is not UTF-8"})
    with pytest.raises(RequestError, match="--id_column_name"):
        ids([["a"], ["b"]])
