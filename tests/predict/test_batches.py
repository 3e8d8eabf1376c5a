"""`score_batch` by itself: the kinds of batches, what it adds to them, and what it refuses."""

import pickle
import subprocess
import sys
from threading import Thread

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import COMMENTS, ROOT, write_csv
from label_models import LABELS_2018, save_label_model

from toxicity.core.errors import RequestError
from toxicity.predict import Scorer, batches, score_batch

BAD = [None, "", " \t", "nul\0", "half a character \ud800", b"\xff"]
TEXTS = [*COMMENTS[:12], *BAD, "ünïcode"]
NO_SCORE = [index for index, text in enumerate(TEXTS) if text in BAD]
COLUMNS = ["score", "label", *(name for label in LABELS_2018[1:] for name in (label, f"{label}_label"))]
ARROW_TEXTS = [None if isinstance(text, bytes) or "\ud800" in (text or "") else text for text in TEXTS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_config, tokenizer):
    return str(save_label_model(tmp_path_factory.mktemp("labels"), tiny_config, tokenizer))


@pytest.fixture
def score_six(folder):
    """`score_batch` of a model with six labels."""
    return score_batch(folder, runtime="torch", device="cpu", mixed_precision="no")


def as_objects(texts):
    return np.array(texts, dtype=object)


KINDS = {
    "frame": pd.DataFrame({"text": as_objects(TEXTS)}, index=range(7, 7 + len(TEXTS))),
    "frame with another type of text": pd.DataFrame({"text": pd.array(ARROW_TEXTS, dtype="string")}),
    "frame of categories": pd.DataFrame({"text": pd.Series(ARROW_TEXTS, dtype="category")}),
    "table": pa.table({"text": ARROW_TEXTS}),
    "table in chunks": pa.concat_tables([pa.table({"text": ARROW_TEXTS[:5]}), pa.table({"text": ARROW_TEXTS[5:]})]),
    "record batch": pa.record_batch({"text": pa.array(ARROW_TEXTS, pa.large_string())}),
    "table of views": pa.table({"text": pa.array(ARROW_TEXTS, pa.string_view())}),
    "dictionary": {"text": as_objects(TEXTS)},
}


def cells(batch, name):
    """A column as Python values, None where there is none."""
    column = batch[name]
    return column.to_pylist() if hasattr(column, "to_pylist") else pa.array(column, from_pandas=True).to_pylist()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_table_gets_the_columns_of_the_outputs(kind, folder, score_six):
    batch = KINDS[kind]
    scored = score_six(batch)
    assert type(scored) is type(batch)
    names = scored.column_names if hasattr(scored, "column_names") else [*scored.keys()]
    assert names == ["text", *COLUMNS]
    assert list(scored["text"]) == list(batch["text"])
    scorer = Scorer(folder, runtime="torch", device="cpu", mixed_precision="no")
    good = [text for index, text in enumerate(TEXTS) if index not in NO_SCORE]
    for name, expected in scorer.by_label(good).items():
        score_name, label_name = ("score", "label") if name == "toxic" else (name, f"{name}_label")
        scores, labels = cells(scored, score_name), cells(scored, label_name)
        assert [index for index, score in enumerate(scores) if score is None] == NO_SCORE
        assert [index for index, label in enumerate(labels) if label is None] == NO_SCORE
        found = [score for score in scores if score is not None]
        assert found == pytest.approx(expected, abs=1e-6)
        threshold = scorer.calibrations[name].threshold
        assert [label for label in labels if label is not None] == [int(score >= threshold) for score in found]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "dictionary"])
def test_types_do_not_depend_on_whether_a_score_is_missing(kind, score_six):
    for batch in (KINDS[kind], KINDS[kind][:3], KINDS[kind][:0]):
        scored = score_six(batch)
        table = pa.Table.from_pandas(scored[["score", "label"]]) if isinstance(scored, pd.DataFrame) else scored
        assert table.schema.field("score").type == pa.float64()
        assert table.schema.field("label").type == pa.int8()


@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:3], []])
def test_what_arrow_makes_of_a_dictionary_has_the_same_types(texts, score_six):
    scored = score_six({"text": as_objects(texts)})
    assert all(isinstance(column, np.ndarray) for column in scored.values())
    assert pa.array(scored["score"]).type == pa.float64()
    assert pa.array(scored["label"]).type == pa.int8()
    scored["score"][:1] = 0  # whoever gets it may write to it


@pytest.mark.parametrize(
    "texts",
    [
        *([], [None], [None, None], ["", None]),
        np.array([np.nan, np.nan]),
        np.array([], dtype=np.float64),
        np.array(["short", "longer"]),
        [*COMMENTS[:3], float("nan")],
    ],
    ids=repr,
)
def test_texts_may_be_all_missing_or_none_or_of_numpys_own_type(texts, score_six):
    expected = [isinstance(text, str) and bool(text) for text in texts]
    for batch in ({"text": texts}, pd.DataFrame({"text": texts})):
        assert [score is not None for score in cells(score_six(batch), "score")] == expected


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()], ids=str)
def test_texts_may_be_bytes(kind, score_six):
    texts = [text if text is None else text.encode() for text in ARROW_TEXTS]
    scored = score_six(pa.table({"text": pa.array(texts, kind)}))
    assert scored["score"].equals(score_six(KINDS["table"])["score"])


def test_a_series_becomes_its_scores(folder, score_six):
    series = pd.Series(as_objects(TEXTS), index=range(7, 7 + len(TEXTS)))
    scores = score_six(series)
    assert (scores.dtype, scores.name) == (np.float64, "score")
    assert scores.index.equals(series.index)
    expected = pd.Series(cells(score_six(KINDS["dictionary"]), "score"), series.index, dtype=np.float64, name="score")
    pd.testing.assert_series_equal(scores, expected)


def test_an_iterator_becomes_one_of_scores_as_they_are_asked_for(score_six):
    asked = []
    parts = (asked.append(number) or pd.Series(COMMENTS[number : number + 2]) for number in range(3))
    scores = score_six(parts)
    assert asked == []
    assert len(next(scores)) == 2
    assert asked == [0]
    assert len([*scores]) == 2


@pytest.mark.parametrize("beside", [["label"], ["Score", "label", "id"], ["insult", "insult_label", "SCORE", "score_"]])
def test_columns_that_are_there_stay_and_new_ones_give_way(beside, score_six):
    batch = pd.DataFrame({"text": COMMENTS[:2]} | dict.fromkeys(beside, "mine"))
    scored = score_six(batch)
    assert (scored[beside] == "mine").all(axis=None)
    added = scored.columns[1 + len(beside) :]
    assert [name.rstrip("_") for name in added] == COLUMNS
    assert len({name.casefold() for name in scored.columns}) == len(scored.columns)
    assert "score" not in batch.columns


def test_scores_are_those_of_the_command(folder, score, tmp_path):
    path = write_csv(tmp_path / "in.csv", ["id", "text"], [[number, text] for number, text in enumerate(COMMENTS)])
    assert (
        score("--input", path, "--prior", "0.02", "--toxic_label", "insult", model=folder) == 2
    )  # it has no base rate
    assert score("--input", path, "--toxic_label", "insult", model=folder) == 0
    expected = pq.read_table(tmp_path / "out" / "in.parquet").drop(["id"])
    found = score_batch(folder, "comment", toxic_label=["insult"])(pa.table({"comment": COMMENTS}))
    assert found.column_names == ["comment", *expected.column_names]
    for name in expected.column_names:
        assert found[name].to_pylist() == pytest.approx(expected[name].to_pylist(), abs=1e-6)


REFUSED = [
    (pd.DataFrame({"comment": ["secret"]}), "has no column `text`; it has comment"),
    (pd.DataFrame(), "has no column `text`; it has none"),
    (pd.DataFrame([["secret", "secret"]], columns=["text", "text"]), "has several columns `text`"),
    (pd.DataFrame({1: ["secret"]}), "it has 1"),
    (pa.table({"Text": ["secret"]}), "it has Text"),
    ({"words": np.array(["secret"])}, "it has words"),
    (pd.DataFrame({"text": [1, 2]}), "the column `text` holds no text but int64"),
    (pd.DataFrame({"text": ["secret", 7]}), "the column `text` holds not only text"),
    (pd.DataFrame({"text": [7, "secret"]}), "the column `text` holds not only text"),
    (pd.DataFrame({"text": ["secret \ud800", 7]}), "the column `text` holds not only text"),
    (pa.table({"text": [["secret"]]}), "the column `text` holds no text but list"),
    ({"text": np.array([["secret"]])}, "the column `text` holds not only text"),
    (pd.Series([1.5]), "the series holds no text but double"),
]


@pytest.mark.parametrize(("batch", "message"), REFUSED)
def test_what_holds_no_comments_is_refused_and_not_shown(batch, message, score_six, caplog):
    with pytest.raises(RequestError) as refused:
        score_six(batch)
    assert message in str(refused.value)
    assert "text_column" in str(refused.value)
    assert "secret" not in str(refused.value) + caplog.text
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


@pytest.mark.parametrize("batch", [COMMENTS[:2], "text", np.array(["text"]), None])
def test_another_kind_of_batch_is_an_error(batch, score_six):
    with pytest.raises(TypeError, match="a table or a series of comments, not a"):
        score_six(batch)


def test_a_model_that_does_not_exist_is_found_at_the_first_batch(tmp_path):
    score = score_batch(str(tmp_path / "none"))
    with pytest.raises(RequestError, match="none"):
        score(pd.Series(["text"]))


def test_a_process_loads_a_model_once(folder, monkeypatch):
    loaded = []
    scorer = Scorer(folder, runtime="torch", device="cpu")
    monkeypatch.setattr("toxicity.predict.scorer.Scorer", lambda *model: loaded.append(model) or scorer)
    monkeypatch.setattr(batches, "_load", batches.cache(batches._load.__wrapped__))
    chosen = score_batch("a", toxic_label=["insult"], prior=[0.1, 0.2])
    assert loaded == []
    # As each task of Spark, and each thread of an actor, has its own.
    copies = [pickle.loads(pickle.dumps(chosen)) for _ in range(4)]
    threads = [Thread(target=copy, args=(pd.Series(COMMENTS),)) for copy in copies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loaded == [("a", "main", None, None, ("insult",), None, (0.1, 0.2))]
    score_batch("b")(pd.Series(COMMENTS))
    assert len(loaded) == 2
    chosen(pd.Series(COMMENTS))
    assert len(loaded) == 2
    assert len(pickle.dumps(chosen)) < 1_000


def test_it_is_imported_without_torch_and_by_the_name_of_no_module():
    code = "import sys, toxicity.predict.batches, toxicity.predict as room; from toxicity.predict import score_batch;"
    code += "score_batch('a'); assert room.score_batch is score_batch; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "False\n"
