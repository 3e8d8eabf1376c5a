import json
import logging

import numpy as np
import pandas as pd
import pytest

from toxicity.core.errors import RequestError
from toxicity.data.attribute_scores import join_scores, read_new_scores, read_old_scores

TEXTS = ["Good morning.", "You rotten liar!", "See the talk page.", "Shut up."]
OLD = pd.DataFrame(
    {"id": [7, 8, 9, 10], "text": TEXTS, "TOXICITY": [0.1, 0.9, 0.2, 0.8], "Insult": [0.0, 1.0, 0.1, 0.5]}
)
NEW = pd.DataFrame({"id": [10, 9, 8, 7], "score": [0.4, 0.3, 0.2, 0.1], "label": 0, "insult": [0.8, 0.7, 0.6, 0.5]})


def written(path, frame):
    writers = {".csv": frame.to_csv, ".parquet": frame.to_parquet}
    if path.suffix in writers:
        writers[path.suffix](path, index=False)
    else:
        frame.to_json(path, orient="records", lines=True)
    return str(path)


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_scores_of_each_attribute_with_the_comments(tmp_path, ending):
    found = read_old_scores(written(tmp_path / f"old.{ending}", OLD), with_text=True)
    assert found.texts == TEXTS
    assert found.scores["TOXICITY"].tolist() == OLD["TOXICITY"].tolist()
    assert found.scores["INSULT"].tolist() == OLD["Insult"].tolist()
    assert found.columns == {"TOXICITY": "TOXICITY", "INSULT": "Insult"}
    assert found.ids is found.toxic is None


def answer(**scores):
    return {name: {"summaryScore": {"value": score, "type": "PROBABILITY"}} for name, score in scores.items()}


def test_answers_of_perspective_in_lines_of_json(tmp_path, caplog):
    caplog.set_level(logging.INFO, "toxicity")
    path = tmp_path / "old.jsonl"
    lines = [
        {"text": "a", "attributeScores": answer(TOXICITY=0.9, PROFANITY=0.3), "languages": ["en"]},
        {
            "text": "b",
            "attributeScores": answer(TOXICITY=0.25) | {"SPAM": None, "THREAT": {}, "INSULT": {"spanScores": []}},
        },
        # As it answered where every score was below its threshold, and where it failed.
        {"text": "c", "languages": ["en"]},
        {"text": "d", "attributeScores": None},
        {"text": "e", "attributeScores": answer(PROFANITY=0.5)},
    ]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    found = read_old_scores(str(path), with_text=True)
    assert found.texts == ["a", "b", "e"]
    assert [*found.scores] == ["TOXICITY", "PROFANITY"]
    np.testing.assert_equal(found.scores["TOXICITY"], [0.9, 0.25, np.nan])
    np.testing.assert_equal(found.scores["PROFANITY"], [0.3, np.nan, 0.5])
    assert "Left out of old.jsonl: 2 rows without an old score" in caplog.text


def test_the_same_answers_as_pandas_makes_columns_of_them(tmp_path):
    frame = pd.json_normalize([{"text": "a", "attributeScores": answer(TOXICITY=0.9, SEVERE_TOXICITY=0.3)}])
    found = read_old_scores(written(tmp_path / "old.csv", frame), with_text=True)
    assert {name: scores.tolist() for name, scores in found.scores.items()} == {
        "TOXICITY": [0.9],
        "SEVERE_TOXICITY": [0.3],
    }


def test_columns_that_are_named(tmp_path):
    frame = pd.DataFrame({"said": ["a", "b"], "body": "x", "api": ["85%", "0,5"], "toxicity": ["yes", ""]})
    found = read_old_scores(written(tmp_path / "old.csv", frame), True, "said", None, "toxicity", "api")
    assert found.texts == ["a", "b"]
    assert found.scores["TOXICITY"].tolist() == [0.85, 0.5]
    np.testing.assert_equal(found.toxic, [1.0, np.nan])


def test_labels_are_read_as_those_to_train_on(tmp_path):
    frame = OLD.assign(verdict=["civil", "toxic", None, "toxic"])
    found = read_old_scores(written(tmp_path / "old.csv", frame), True, label_name="verdict")
    np.testing.assert_equal(found.toxic, [0.0, 1.0, np.nan, 1.0])
    shares = read_old_scores(
        written(tmp_path / "old.csv", OLD.assign(share=[0.1, 0.5, 0.6, 0])), True, label_name="share"
    )
    assert shares.toxic.tolist() == [0, 1, 1, 0]


def test_a_comment_without_a_score_may_lack_its_text(tmp_path):
    frame = OLD.assign(text=["a", "", "c", "d"], TOXICITY=[0.1, None, 0.2, 0.8], Insult=[0.1, None, 0.2, 0.8])
    assert read_old_scores(written(tmp_path / "old.csv", frame), True).texts == ["a", "c", "d"]


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (
            {"TOXICITY": [10, 90, 20, 80]},
            {},
            "column `TOXICITY`, `10` in row 1 is not .*: write 85 of a hundred as 0.85",
        ),
        ({"TOXICITY": [0.1, -0.1, 0.2, 0.3]}, {}, "`-0.1` in row 2 is not a share from 0 to 1"),
        ({"TOXICITY": ["high", "low", "low", "low"]}, {}, "`high` in row 1"),
        ({"TOXICITY": None, "Insult": None}, {}, "old.csv has no old score in any of its 4 rows"),
        ({"toxicity ": 0.5, "Toxicity": 0.5, "TOXICITY": ...}, {}, "may both be the TOXICITY: rename one of them"),
        (
            {"TOXICITY": ..., "Insult": ...},
            {},
            "no column of old scores, such as TOXICITY; it has .*old_score_column_name",
        ),
        ({}, {"score_name": "scor"}, "no column scor; .* right one with --old_score_column_name"),
        ({}, {"score_name": "TOXIC", "label_name": "x"}, "no column x; .*--label_column_name"),
        ({"text": ...}, {}, "--text_column_name"),
        (
            {"text": ["a", " ", "c", "d"]},
            {},
            "row 2: the text is blank. Bad rows in all: 1. Mend them or take them out",
        ),
        ({"x": [0.5, 7, 0.2, 0.1] * 1}, {"label_name": "x"}, "row 2: .* not from 0 to 1"),
        ({"x": ["a", "b", "c", "d"]}, {"label_name": "x"}, "nobody can tell what is toxic"),
    ],
)
def test_old_scores_that_cannot_be_used(tmp_path, change, arguments, message):
    dropped = [name for name, value in change.items() if value is ...]
    frame = OLD.assign(**{name: value for name, value in change.items() if value is not ...}).drop(columns=dropped)
    with pytest.raises(RequestError, match=message):
        read_old_scores(written(tmp_path / "old.csv", frame), with_text=True, **arguments)


def test_a_file_without_rows(tmp_path):
    with pytest.raises(RequestError, match="old.csv holds no rows"):
        read_old_scores(written(tmp_path / "old.csv", OLD[:0]), with_text=True)


def joined(tmp_path, old=OLD, new=NEW, id_name=None):
    return join_scores(
        read_old_scores(written(tmp_path / "old.csv", old), with_text=False, id_name=id_name),
        read_new_scores(written(tmp_path / "new.parquet", new), id_name),
    )


def test_old_and_new_scores_are_joined_by_id(tmp_path):
    old, new = joined(tmp_path)
    assert old.scores["TOXICITY"].tolist() == [0.1, 0.9, 0.2, 0.8]
    assert new.scores["TOXICITY"].tolist() == [0.1, 0.2, 0.3, 0.4]
    assert new.scores["INSULT"].tolist() == [0.5, 0.6, 0.7, 0.8]
    assert new.columns == {"TOXICITY": "score", "INSULT": "insult"}


@pytest.mark.parametrize(
    ("names", "attributes"),
    [
        ({"insult": "identity_hate"}, ["TOXICITY", "IDENTITY_ATTACK"]),
        ({"insult": "obscene"}, ["TOXICITY", "PROFANITY", "OBSCENE"]),
        ({"score": "TOXICITY", "insult": "SEXUALLY_EXPLICIT"}, ["TOXICITY", "SEXUALLY_EXPLICIT"]),
        ({"insult": "THREAT_EXPERIMENTAL"}, ["TOXICITY", "THREAT"]),
        ({"insult": "severe_toxic"}, ["TOXICITY", "SEVERE_TOXICITY"]),
    ],
)
def test_new_scores_by_the_names_of_labels_and_of_attributes(tmp_path, names, attributes):
    found = read_new_scores(written(tmp_path / "new.csv", NEW.rename(columns=names)))
    assert [*found.scores] == attributes


def test_a_folder_that_predict_wrote(tmp_path):
    written(tmp_path / "a.parquet", NEW[:2])
    written(tmp_path / "b.parquet", NEW[2:])
    (tmp_path / "manifest.json").write_text('{"shards": []}')
    assert read_new_scores(str(tmp_path)).ids.to_pylist() == [10, 9, 8, 7]


def test_ids_of_another_type_and_another_name(tmp_path):
    old = OLD.rename(columns={"id": "key"}).assign(text=...).drop(columns="text")
    new = NEW.assign(id=["10", "9", "8", "seven"])
    found, _ = joined(tmp_path, old, new, "key")
    assert found.ids.to_pylist() == [8, 9, 10]


def test_ids_of_one_side_are_told_and_left_out(tmp_path, caplog):
    old, new = joined(tmp_path, new=NEW.assign(id=[None, 9, 8, 100]))
    assert (old.scores["TOXICITY"].tolist(), new.scores["TOXICITY"].tolist()) == ([0.9, 0.2], [0.2, 0.3])
    assert "Left out of old.csv: 2 rows whose id is not in new.parquet" in caplog.text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ({"id": [1, 2, 3, 4]}, {}, "No id of old.csv, such as `1`, is in new.parquet, .* `10`. .*--id_column_name"),
        ({"id": [7, 7, 8, 9]}, {}, "old.csv: the id `7` is there more than once.* Keep one row of each id"),
        ({}, {"id": ["a", "a", "b", "c"]}, "new.parquet: the id `a` is there more than once"),
        ({"id": ...}, {}, "old.csv has no column `id`, .*--id_column_name.*--model"),
        ({}, {"id": ...}, "new.parquet has no ids; it has .*. Give --new_scores what toxicity.predict wrote"),
        ({}, {"score": ..., "insult": ...}, "new.parquet has no scores; it has"),
        ({}, {"score": [40, 30, 20, 10]}, "column `score`, `40` in row 1 is not"),
    ],
)
def test_scores_that_cannot_be_joined(tmp_path, old, new, message):
    frames = []
    for frame, change in ((OLD, old), (NEW, new)):
        dropped = [name for name, value in change.items() if value is ...]
        frames.append(frame.assign(**change).drop(columns=dropped) if not dropped else frame.drop(columns=dropped))
    with pytest.raises(RequestError, match=message):
        joined(tmp_path, *frames)
