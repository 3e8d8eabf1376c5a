import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset

from toxicity.core.errors import RequestError
from toxicity.data.sources import Splits
from toxicity.evaluation.label_errors import LabelQuality
from toxicity.report import label_audit
from toxicity.report.label_audit import audit_labels, comments_of, near_duplicates, require_enough, worst_table

NAMES = ("toxic", "insult")


@pytest.fixture(autouse=True)
def confident_learning(monkeypatch):
    """Suspects without cleanlab: labels that the model contradicts."""

    def label_quality(labels, scores):
        quality = np.where(labels == 1, scores, 1 - scores)
        return LabelQuality(quality, quality < 0.1)

    monkeypatch.setattr(label_audit, "label_quality", label_quality)


def word(row):
    """A name of letters for a number, as digits make no difference between comments."""
    return f"comment {chr(97 + row // 26)}{chr(97 + row % 26)}"


def comments(rows=100, validation=40, texts=(), insult=None):
    """One comment in five is toxic; `texts` replaces that of some rows, training rows first."""
    said = [dict(texts).get(row, word(row)) for row in range(rows)]
    toxic = [float(row % 5 == 0) for row in range(rows)]
    columns = {"id": list(range(1_000, 1_000 + rows)), "text": said, "target": toxic}
    columns["label insult"] = pa.array(toxic if insult is None else insult, pa.float64())
    table = pa.table(columns)
    parts = table.slice(0, rows - validation), table.slice(rows - validation)
    names = NAMES[: 1 + (insult is not None)]
    return comments_of(Splits(*map(Dataset, parts), "mine.csv", rows - validation, validation, labels=names))


def scores_of(found, **changed):
    scores = np.where(found.labels == 1, 0.9, 0.05).astype(float)
    for row, score in changed.items():
        scores[int(row.removeprefix("row"))] = score
    return scores


def test_splits_become_one_table():
    found = comments(insult=[None, 0.7] * 50)
    assert found.split.tolist() == ["train"] * 60 + ["validation"] * 40
    assert found.labels[:6].tolist() == [[1, -1], [0, 1], [0, -1], [0, 1], [0, -1], [1, 1]]
    assert found.rows["id"].to_pylist() == list(range(1_000, 1_100))


def test_the_worst_come_first_and_a_twentieth_is_listed_at_least():
    found = comments()
    table, figures = audit_labels(found, [0], scores_of(found, row1=0.97, row5=0.01, row2=0.3))
    assert table["id"].to_pylist()[:3] == [1005, 1001, 1002]
    assert len(table) == 5
    assert table.slice(0, 3).select(["label", "score", "suspect"]).to_pydict() == {
        "label": [1, 0, 0],
        "score": [0.01, 0.97, 0.3],
        "suspect": [1, 1, 0],
    }
    assert figures["labels"] == {"toxic": {"rows": 100, "toxic": 20, "suspect": 2, "contradicted": 0, "listed": 5}}
    assert (figures["rows"], figures["judged_rows"]) == (100, 100)


def test_rows_that_no_model_judged_are_neighbours_only():
    found = comments(texts={5: "You, there!", 99: "you there"})
    scores = scores_of(found)
    scores[found.split == "train"] = np.nan
    table, figures = audit_labels(found, [0], scores)
    assert set(table["split"].to_pylist()) == {"validation"}
    row = next(row for row in table.to_pylist() if row["id"] == 1099)
    assert (row["neighbours"], row["neighbour_ids"], row["neighbour_text"]) == (1, "train 1005", "You, there!")
    assert figures["judged_rows"] == figures["labels"]["toxic"]["rows"] == 40
    assert figures["near_duplicates"] == {"train": 0, "validation": 0, "validation_in_train": 1, "of_another_label": 1}


def test_of_nearly_the_same_comments_the_fewer_are_listed():
    same = {row: "Same  words" + "!" * row for row in (1, 2, 3, 4, 10)}
    found = comments(texts=same)
    table, figures = audit_labels(found, [0], scores_of(found))
    listed = {row["id"]: row for row in table.to_pylist() if row["neighbours"]}
    assert list(listed) == [1010]
    assert listed[1010]["neighbours"] == 4
    assert listed[1010]["neighbour_ids"] == "train 1001, train 1002, train 1003"
    assert figures["labels"]["toxic"]["contradicted"] == 5
    assert near_duplicates(found)["train"] == 4


def test_each_label_is_judged_on_its_own_and_missing_ones_not_at_all():
    insult = [None if row % 2 else float(row % 4 == 0) for row in range(100)]
    found = comments(insult=insult, texts={0: "same", 2: "SAME"})
    scores = scores_of(found)
    scores[4, 1] = 0.001
    table, figures = audit_labels(found, [0, 1], scores)
    assert table["label_name"].to_pylist()[0] == "insult"
    assert table["id"].to_pylist()[0] == 1004
    assert figures["labels"]["insult"]["rows"] == 50
    assert figures["labels"]["insult"]["contradicted"] == figures["labels"]["toxic"]["contradicted"] == 2
    assert worst_table(table).header[0] == "Of"


@pytest.mark.parametrize(
    ("texts", "judged", "message"),
    [
        ({}, slice(0, 40), "8 different ones are toxic and 32 civil by the label `toxic`; an audit needs 10 of each"),
        (dict.fromkeys(range(0, 100, 5), "the same"), slice(None), "1 different ones are toxic and 80 civil"),
    ],
)
def test_too_few_comments_of_a_class_are_refused(texts, judged, message):
    found = comments(texts=texts)
    asked = np.zeros(100, bool)
    asked[judged] = True
    with pytest.raises(RequestError, match=f"mine.csv: of the comments to judge, {message}.*. Give more comments."):
        require_enough(found, asked)


def test_another_label_with_too_few_is_left_out(caplog):
    found = comments(insult=[0.0] * 100)
    assert require_enough(found, np.ones(100, bool)) == [0]
    assert "0 different ones are toxic and 100 civil by the label `insult`" in caplog.text
    assert "that label is left out" in caplog.text


def test_the_table_shortens_and_escapes_comments():
    found = comments(texts={1: "one | two\n\x1b[31m" + "x" * 500}, rows=400)
    table = worst_table(audit_labels(found, [0], scores_of(found, row1=0.99))[0])
    assert len(table.rows) == 10
    *cells, comment = table.rows[0]
    assert cells == ["civil", "0.9900", "0.0100", "0", "`1001`"]
    assert comment.startswith(r"`one ¦ two\n\x1b[31mxxx")
    assert comment.endswith("x…`")
    assert len(comment) == label_audit.SHOWN_WIDTH + 2
