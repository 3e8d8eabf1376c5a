"""What the values of the toxicity column mean, and what is refused as nobody can tell."""

import logging
from decimal import Decimal
from itertools import chain

import numpy as np
import pyarrow as pa
import pytest

from toxicity.core.errors import RequestError
from toxicity.data.labels import toxicity_of


def read(values, positive=None, name="label", **others):
    column = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
    chunks = [column[:2], column[2:]] if isinstance(column, pa.Array) else column.chunks
    others = {name: pa.chunked_array([pa.array(other)]) for name, other in others.items()}
    return toxicity_of(pa.chunked_array(chunks, column.type), "c.csv", name, positive, others)


def shares(*arguments, **others):
    return read(*arguments, **others).shares.to_pylist()


SHARES = [
    # Numbers as they stand.
    ([0, 1, 0], [0, 1, 0]),
    ([0.25, None, 1.0], [0.25, None, 1]),
    (["0", "1", "0.25"], [0, 1, 0.25]),
    ([b"1e-1", b" 0.5 ", b"+1", b".5", b"1."], [0.1, 0.5, 1, 0.5, 1]),
    (["\t1", "0\r", "\u00a00"], [1, 0, 0]),
    ([Decimal("0.5"), Decimal("1.0")], [0.5, 1]),
    (pa.array([0, 1], pa.uint8()), [0, 1]),
    (pa.array([0.5, 1], pa.float16()), [0.5, 1]),
    # Percents and decimal commas.
    (["85%", "0 %", "12.5%", "100%"], [0.85, 0, 0.125, 1]),
    (["0,75", "1", "0,0", ",5"], [0.75, 1, 0, 0.5]),
    (["12,5 %", "0"], [0.125, 0]),
    # Booleans of every kind.
    ([True, False, None], [1, 0, None]),
    (["TRUE", "FALSE", None], [1, 0, None]),
    (["true", "False", " true"], [1, 0, 1]),
    (["T", "F"], [1, 0]),
    (["yes", "No"], [1, 0]),
    (["Y", "N", "n"], [1, 0, 0]),
    (["yes", "yes"], [1, 1]),
    (["true", "0", "1", "false"], [1, 0, 1, 0]),
    # Names of two classes that say which is toxic.
    (["toxic", "clean"], [1, 0]),
    (["toxic", "non-toxic", "Toxic "], [1, 0, 1]),
    (["OFF", "NOT", None], [1, 0, None]),
    (["HOF", "NOT"], [1, 0]),
    (["hate", "noHate"], [1, 0]),
    (["nothate", "hate"], [0, 1]),
    (["offensive", "not_offensive"], [1, 0]),
    (["normal", "abusive"], [0, 1]),
    (["toxic", "toxic"], [1, 1]),
    # What programs write where there is nothing.
    (["toxic", "clean", "NA", ""], [1, 0, None, None]),
    (["yes", "no", "n/a", " "], [1, 0, None, None]),
    (["0", "1", "nan", "NULL"], [0, 1, None, None]),
    ([0.0, float("nan")], [0, None]),
    # -1 and 1.
    ([-1, 1, 1, None], [0, 1, 1, None]),
    (["-1", "1.0"], [0, 1]),
]


@pytest.mark.parametrize(("values", "expected"), SHARES)
def test_values_that_say_what_they_mean(values, expected):
    toxicity = read(values)
    assert toxicity.shares.to_pylist() == pytest.approx(expected)
    assert toxicity.shares.type == pa.float64()
    missing = [share is None for share in expected]
    assert [(rows.tolist(), reason) for rows, reason in toxicity.faults] == (
        [(missing, "the target is missing")] if any(missing) else []
    )
    assert not toxicity.unscored.any()


REFUSED = [
    (["0", "1", "2"] * 40, ["`0` (40 rows), `1` (40 rows), `2` (40 rows)"]),
    ([0, 1, 2] * 40, ["`2` (40 rows)"]),
    ([0.0, 1.0, 2.0] * 40, ["`2` (40 rows)"]),
    ([0, 2, 4] * 3, ["`4` (3 rows)"]),
    ([1, 2, 3, 4, 5] * 2, ["`5` (2 rows)"]),
    ([0] * 98 + [2, 2], ["`2` (2 rows)"]),
    ([0, 1, -1] * 9, ["`-1` (9 rows)"]),
    ([-1] * 9, ["`-1` (9 rows)"]),
    (["0", "1", "maybe", "maybe"], ["`maybe` (2 rows)"]),
    (["positive", "negative"], ["`negative` (1 row), `positive` (1 row)"]),
    (["LABEL_0", "LABEL_1"], ["`LABEL_1` (1 row)"]),
    (["hate", "offensive", "neither"], ["`neither` (1 row)"]),
    (["hate", "offensive"], ["`hate` (1 row)"]),
    (["clean", "normal"], ["`clean` (1 row)"]),
    (["yes", "no", "maybe"], ["`maybe` (1 row)"]),
    (["yes", "false"], ["`yes` (1 row)"]),
    (["yes", "clean"], ["`yes` (1 row)"]),
    (["OFF", "ON"], ["`ON` (1 row)"]),
    (["toxic", "0", "clean"], ["`toxic` (1 row)"]),
    (["a\x1b[2J" + "b" * 60, "c"], [r"`a\x1b[2J", "…` (1 row)"]),
    ([f"class {i:02}" for i in range(99)], ["`class 09` (1 row) and 89 more"]),
    ([0, 12, 100, 45, 45, 0, 7, 88], ["`45` (2 rows)", "shares (0.85) or with a percent sign (85%)"]),
    (np.arange(200) / 2, ["shares (0.85) or with a percent sign (85%)"]),
    (np.linspace(-8, 6, 100), ["and 90 more"]),
]


@pytest.mark.parametrize(("values", "named"), REFUSED)
def test_values_that_nobody_can_tell_are_refused_whatever_is_dropped(values, named):
    with pytest.raises(RequestError, match="c.csv: the column `label` holds .*--positive_labels VALUE") as refused:
        read(values)
    for part in named:
        assert part in str(refused.value)
    assert "percent" not in str(refused.value) or "(85%)" in named[-1]
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([[0, 1], [1]], "list"),
        ([[], [1]], "list"),
        ([{"toxic": 1}], "struct"),
        (pa.array([0], pa.timestamp("s")), "timestamp"),
        (["a comment " * 30, "another"], "long texts"),
    ],
)
def test_columns_of_another_kind_are_refused(values, kind):
    with pytest.raises(RequestError, match=f"holds no toxicity but {kind}.*--label_column_name"):
        read(values)


@pytest.mark.parametrize(
    ("values", "reason", "rows"),
    [
        ([0] * 250 + [2, 2], "the target is not from 0 to 1", [250, 251]),
        ([0] * 9 + [1.5], "the target is not from 0 to 1", [9]),
        (["0"] * 9 + ["-0.1"], "the target is not from 0 to 1", [9]),
        ([0.5, float("inf")], "the target is not from 0 to 1", [1]),
        (["0.5", "150%"], "the target is not from 0 to 1", [1]),
        (["0.5", "0.1", "what"], "the target is not a number", [2]),
        (["1", "0", "1e", "1"], "the target is not a number", [2]),
        ([b"0.5", b"\xff", b"x", b"1"], "the target is not UTF-8", [1]),
    ],
)
def test_slips_are_bad_rows_one_by_one(values, reason, rows):
    toxicity = read(values)
    faults = {reason: np.flatnonzero(bad).tolist() for bad, reason in toxicity.faults}
    assert faults[reason] == rows
    assert np.flatnonzero(toxicity.shares.is_null()).tolist() == sorted(chain.from_iterable(faults.values()))


@pytest.mark.parametrize(
    ("values", "positive", "expected"),
    [
        ([0, 1, 2, None], ["0", "1"], [1, 1, 0, None]),
        (["0", "1", "2", "", "1.0"], ["0", "1"], [1, 1, 0, None, 1]),
        ([0.0, 2.0, 4.0, float("nan")], ["4"], [0, 0, 1, None]),
        (["hate", "offensive", "Neither", "NA"], ["HATE", " offensive"], [1, 1, 0, None]),
        (["positive", "negative"], ["negative"], [0, 1]),
        ([True, False], ["1"], [1, 0]),
        ([True, False], ["false"], [0, 1]),
        (["TRUE", "FALSE"], ["true"], [1, 0]),
        (["TRUE", "FALSE"], ["0"], [0, 1]),
        ([1, 0], ["True"], [1, 0]),
        ([1, 0, -1], ["-1", "1"], [1, 0, 1]),
        (["toxic", "clean"], ["clean"], [0, 1]),
    ],
)
def test_positive_labels_say_which_values_are_toxic(values, positive, expected):
    assert shares(values, positive) == expected


@pytest.mark.parametrize(
    ("values", "positive", "message"),
    [
        ([0, 1, 2], ["3"], "holds `0` (1 row), `1` (1 row), `2` (1 row), and nowhere `3`"),
        (["a", "b"], ["a", "c"], "nowhere `c`"),
        ([True, True], ["false"], "nowhere `false`"),
    ],
)
def test_positive_labels_that_no_row_has_are_told(values, positive, message):
    ((label, told),) = read(values, positive).unmatched.items()
    assert label == positive[-1]
    assert message in told
    assert "--positive_labels" in told


def test_positive_labels_of_shares_are_refused():
    with pytest.raises(RequestError, match="holds 6 different shares from 0.1 to 0.9.*leave --positive_labels out"):
        read([0.1, 0.2, 0.3, 0.4, 0.5, 0.9], ["0.9"])


@pytest.mark.parametrize("name", ["civil", "non_toxic", "is_clean", "Not Offensive"])
@pytest.mark.parametrize("values", [[0, 1], [0.5, 0.1], [True, False], ["yes", "no"], ["1", "0"]])
def test_a_column_of_civility_does_not_train_the_wrong_way_round(name, values):
    with pytest.raises(RequestError, match=f"`{name}` tells by its name which comments are civil.*--positive_labels 0"):
        read(values, name=name)


def test_a_column_of_civility_may_say_what_it_means():
    assert shares([0, 1], ["0"], name="civil") == [1, 0]
    assert shares(["clean", "toxic"], name="is_clean") == [0, 1]


@pytest.mark.parametrize(
    ("values", "positive", "told"),
    [
        (["OFF", "NOT", "NOT"], None, "toxic `OFF` (1 row); civil `NOT` (2 rows)"),
        ([True, False], None, "toxic `true` (1 row); civil `false` (1 row)"),
        (["yes", "no"], None, "toxic `yes` (1 row); civil `no` (1 row)"),
        ([0, 1, 2], ["0", "1"], "toxic `0` (1 row), `1` (1 row); civil `2` (1 row)"),
        ([-1, 1, -1], None, "toxic `1` (1 row); civil `-1` (2 rows)"),
        ([0, 1, 0.5], None, ""),
        (["0,5", "1%"], None, ""),
    ],
)
def test_what_is_decided_without_a_flag_is_told(values, positive, told, caplog):
    with caplog.at_level(logging.INFO, logger="toxicity"):
        read(values, positive)
    assert len(caplog.messages) == bool(told)
    assert told in caplog.text


def test_rows_that_were_not_scored_in_2018():
    toxic, others = [0, -1, 1, -1], {"obscene": [0, -1, 0, -1], "threat": ["1", "-1", "0", "-1"]}
    for values in (toxic, [str(value) for value in toxic]):
        toxicity = read(values, **others)
        assert toxicity.shares.to_pylist() == [0, None, 1, None]
        assert np.flatnonzero(toxicity.unscored).tolist() == [1, 3]
        assert toxicity.faults == []
    assert np.flatnonzero(read(toxic, ["1"], **others).unscored).tolist() == [1, 3]
    # Beside the files of 2019, which lack these columns.
    both = read([0, -1, 0.5, -1], obscene=[0, -1, 0.2, -1], sexual_explicit=[None, None, 0.1, None])
    assert both.unscored.sum() == 2


@pytest.mark.parametrize(
    "others",
    [{}, {"obscene": [0, 0, 0, -1]}, {"obscene": [0, -1, 0, -1], "insult": [0, 1, 0, 1]}, {"threat": [None] * 4}],
)
def test_minus_one_is_no_score_only_where_all_labels_say_so(others):
    with pytest.raises(RequestError, match=r"`-1` \(2 rows\).*--positive_labels"):
        read([0, -1, 1, -1], **others)
