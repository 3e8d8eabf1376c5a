"""Submissions: of 2018 or 2019, as the model's labels and a `sample_submission.csv` have it."""

import gzip
import json
import zipfile

import fsspec
import pandas
import pytest
from builders import COMMENTS, files_in, write_csv, write_texts
from label_models import LABELS_2018, save_label_model

from toxicity.predict.__main__ import parse_arguments
from toxicity.predict.scorer import Scorer
from toxicity.predict.submission import Sample, submission_columns

LABELS_2019 = ("toxicity", "severe_toxicity", "obscene", "identity_attack", "insult", "threat", "sexual_explicit")
FORM_2018 = {"id": 0, "toxic": 1, "severe_toxic": 2, "obscene": 3, "threat": 4, "insult": 5, "identity_hate": 6}


@pytest.fixture(scope="module")
def six(tmp_path_factory, tiny_config, tokenizer):
    """A run of the six labels of 2018."""
    return save_label_model(tmp_path_factory.mktemp("six"), tiny_config, tokenizer)


def header_of(path):
    return path.read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("asked", "labels", "expected"),
    [
        (None, ("toxic",), {"id": 0, "prediction": 1}),
        (None, LABELS_2018, FORM_2018),
        (None, LABELS_2019, {"id": 0, "prediction": 1}),
        (None, ("target", *LABELS_2019[1:-1]), FORM_2018 | {"threat": 6, "identity_hate": 4}),
        (None, LABELS_2019[:-1], FORM_2018 | {"threat": 6, "identity_hate": 4}),
        (None, tuple(name.upper() for name in LABELS_2018), FORM_2018),
        (None, LABELS_2018[:5], {"id": 0, "prediction": 1}),
        (None, ("hate", "toxic"), {"id": 0, "prediction": 1}),
        (("id", "prediction"), LABELS_2018, {"id": 0, "prediction": 1}),
        (("threat", "id", "toxic"), LABELS_2018, {"threat": 4, "id": 0, "toxic": 1}),
        (
            ("id", "severe_toxicity", "identity_attack"),
            LABELS_2018,
            {"id": 0, "severe_toxicity": 2, "identity_attack": 6},
        ),
        (("Id", "hate", "x y"), ("hate", "X Y"), {"Id": 0, "hate": 1, "x y": 2}),
        (("id", "obscene"), ("Obscene", "obscene"), {"id": 0, "obscene": 2}),
        (("id", "prediction"), ("toxic", "prediction"), {"id": 0, "prediction": 2}),
    ],
)
def test_columns_by_what_is_asked_for_and_what_there_is(asked, labels, expected):
    columns, told = submission_columns(asked and Sample("s.csv", asked), labels)
    assert list(columns.items()) == list(expected.items())
    for name in expected:
        assert f"`{name}`" in told
    assert ("as s.csv asks for" if asked else "named as --submission FILE") in told


def test_what_is_told_names_the_label_where_the_column_has_another_name():
    _, told = submission_columns(None, LABELS_2019[:-1])
    assert "`toxic` (the label `toxicity`), `severe_toxic` (the label `severe_toxicity`), `obscene`, " in told
    assert "as the model has the six labels of the competition of 2018." in told
    _, told = submission_columns(None, LABELS_2019)
    assert "`id`, `prediction` (the label `toxicity`), as the model has sexual_explicit, as in 2019." in told
    _, told = submission_columns(None, ("toxic",))
    assert "`id`, `prediction` (the label `toxic`), as the model lacks some of the six labels of 2018." in told


def test_a_run_of_six_labels_writes_what_2018_asks_for(score, tmp_path, six, capsys):
    write_texts(tmp_path / "test.csv", [*COMMENTS, ""])
    flags = ("--submission", "--on_bad_rows", "score_null")
    assert score("--input", tmp_path / "test.csv", *flags, model=six) == 0
    assert capsys.readouterr().err.count("The submission has the columns") == 1
    lines = (tmp_path / "out" / "test.csv").read_text().splitlines()
    assert lines[0] == "id,toxic,severe_toxic,obscene,threat,insult,identity_hate"
    assert lines[-1] == "c50,,,,,,"
    frame = pandas.read_csv(tmp_path / "out" / "test.csv")
    for name, expected in Scorer(str(six)).by_label(COMMENTS).items():
        assert frame[name].to_numpy()[:50] == pytest.approx(expected, abs=0.01)
    job = json.loads((tmp_path / "out" / "manifest.json").read_text())["job"]
    assert (job["submission"], job["submission_columns"]) == (True, FORM_2018)


def test_six_labels_of_others_do_as_well(score, tmp_path, tiny_config, tokenizer):
    save_label_model(tmp_path / "m", tiny_config, tokenizer, calibrated=False)
    write_texts(tmp_path / "test.csv", COMMENTS[:5])
    assert score("--input", tmp_path / "test.csv", "--submission", model=tmp_path / "m") == 0
    frame = pandas.read_csv(tmp_path / "out" / "test.csv")
    found = Scorer(str(tmp_path / "m")).by_label(COMMENTS[:5])
    assert frame["identity_hate"].to_numpy() == pytest.approx(found["identity_attack"], abs=0.01)


def pack(kind, path):
    """Pack a file and remove it; returns the packed one."""
    packed = path.with_name(f"{path.name}.{kind}")
    if kind == "gz":
        packed.write_bytes(gzip.compress(path.read_bytes()))
    else:
        with zipfile.ZipFile(packed, "w") as archive:
            archive.write(path, path.name)
    path.unlink()
    return packed


@pytest.mark.parametrize("place", ["beside", "beside, packed", "beside the folder", "among", "named", "named among"])
def test_the_sample_submission_decides_wherever_it_is(score, tmp_path, six, capsys, place):
    (tmp_path / "in").mkdir()
    write_texts(tmp_path / "in" / "test.csv", COMMENTS[:5])
    name = "mine.csv" if "named" in place else "sample_submission.csv"
    folder = tmp_path if place == "named" else tmp_path / "in"
    sample = write_csv(folder / name, ["insult", "id", "prediction"], [[0.5, "c0", 0.5]])
    if place == "beside, packed":
        sample = pack("zip", sample)
    flags = ["--submission", sample] if "named" in place else ["--submission"]
    whole_folder = place in ("among", "named among")
    inputs = tmp_path / "in" if whole_folder else tmp_path / "in" / "test.csv"
    assert score("--input", inputs, *flags, model=six) == 0, capsys.readouterr().err
    assert sorted(files_in(tmp_path / "out")) == ["manifest.json", "test.csv"]
    assert header_of(tmp_path / "out" / "test.csv") == "insult,id,prediction"
    assert f"as {sample} asks for" in capsys.readouterr().err
    frame = pandas.read_csv(tmp_path / "out" / "test.csv")
    assert frame["id"].tolist() == [f"c{number}" for number in range(5)]
    found = Scorer(str(six)).by_label(COMMENTS[:5])
    assert frame["insult"].to_numpy() == pytest.approx(found["insult"], abs=0.01)
    assert frame["prediction"].to_numpy() == pytest.approx(found["toxic"], abs=0.01)


def test_a_sample_submission_elsewhere(score, tmp_path, six):
    memory = fsspec.filesystem("memory")
    memory.pipe("/kaggle/test.csv", write_texts(tmp_path / "test.csv", COMMENTS[:5]).read_bytes())
    memory.pipe("/kaggle/sample_submission.csv", b"id,threat\nc0,0.5\n")
    assert score("--input", "memory://kaggle", "--submission", model=six) == 0
    assert header_of(tmp_path / "out" / "test.csv") == "id,threat"
    flags = ("--submission", "memory://kaggle/sample_submission.csv")
    assert score("--input", tmp_path / "test.csv", *flags, model=six, output=tmp_path / "other") == 0
    assert (tmp_path / "other" / "test.csv").read_bytes() == (tmp_path / "out" / "test.csv").read_bytes()
    memory.rm("/kaggle", recursive=True)


def test_without_a_submission_such_a_file_is_an_input_like_any_other(score, tmp_path):
    write_texts(tmp_path / "sample_submission.csv", COMMENTS[:2])
    assert score("--input", tmp_path / "sample_submission.csv") == 0
    assert (tmp_path / "out" / "sample_submission.parquet").exists()


def test_a_sample_of_2019_gives_the_manifest_of_ever(score, tmp_path, six):
    write_texts(tmp_path / "test.csv", COMMENTS[:2])
    write_csv(tmp_path / "sample_submission.csv", ["id", "prediction"], [])
    assert score("--input", tmp_path / "test.csv", "--submission", model=six) == 0
    assert header_of(tmp_path / "out" / "test.csv") == "id,prediction"
    assert "submission_columns" not in json.loads((tmp_path / "out" / "manifest.json").read_text())["job"]


def test_the_ids_may_have_another_name(score, tmp_path, six):
    write_csv(tmp_path / "test.csv", ["comment_id", "text"], [[7, "one"]])
    sample = write_csv(tmp_path / "s.csv", ["comment_id", "threat"], [])
    flags = ("--submission", sample, "--id_column_name", "comment_id")
    assert score("--input", tmp_path / "test.csv", *flags, model=six) == 0
    assert (tmp_path / "out" / "test.csv").read_text().startswith("comment_id,threat\n7,0.")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            ["id", "toxic", "spam", "identity"],
            "asks for `spam`, `identity`, which the model has no label for; it has `toxic`",
        ),
        (["toxic", "threat"], "has the columns `toxic`, `threat`, and none of ids, `id`"),
        (["id", "toxic", "toxic"], "has the column `toxic` twice"),
    ],
)
def test_samples_that_cannot_be_followed(score, tmp_path, six, capsys, header, message):
    write_texts(tmp_path / "test.csv", COMMENTS[:2])
    write_csv(tmp_path / "sample_submission.csv", header, [])
    assert score("--input", tmp_path / "test.csv", "--submission", model=six) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_requests_that_cannot_be_followed(score, tmp_path, six, capsys):
    texts = write_texts(tmp_path / "test.csv", COMMENTS[:2])
    for folder, column in (("a", "toxic"), ("b", "threat")):
        (tmp_path / folder).mkdir()
        write_csv(tmp_path / folder / "sample_submission.csv", ["id", column], [])
    (tmp_path / "empty.csv").touch()
    for flags, message in (
        (["--submission", tmp_path / "none.csv"], "there is no file"),
        (["--submission", tmp_path / "empty.csv"], "is empty"),
        (["--submission", tmp_path / "*" / "sam*.csv"], "names 2 files: name one"),
        (["--submission", ""], "--submission '' names no file"),
        (["--submission", texts], "asks for `comment_text`, which the model has no label for"),
        ([tmp_path / "a" / "sample_submission.csv", "--submission"], None),
        ([write_texts(tmp_path / f / f"{f}.csv") for f in "ab"] + ["--submission"], "ask for different columns"),
    ):
        code = score("--input", write_texts(tmp_path / "comments.csv", COMMENTS[:2]), *flags, model=six)
        error = capsys.readouterr().err
        assert (code, "Traceback" in error) == (2 if message else 0, False), error
        assert (message or "") in error
    assert score("--input", tmp_path / "b" / "sample_submission.csv", "--submission", model=six) == 2
    assert "says how a submission looks: name the comments as --input, too" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], False),
        (["--submission"], True),
        (["--submission", "--on_bad_rows", "score_null"], True),
        (["--submission", "s.csv"], "s.csv"),
    ],
)
def test_the_flag_may_have_a_value(flags, expected):
    for order in ([*flags, "--input", "a.csv"], ["--input", "a.csv", *flags]):
        assert parse_arguments(["--model", "m", "--output", "out", *order]).submission == expected
