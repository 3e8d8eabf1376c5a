"""The command line: requests that are refused before a model is loaded."""

import json
import subprocess
import sys
import textwrap

import pytest
from builders import COMMENTS, ROOT, write_texts
from transformers import BertConfig, BertForSequenceClassification

import toxicity.predict
from toxicity.core.errors import RequestError
from toxicity.data.readers.base import Layout
from toxicity.predict import score_shards
from toxicity.predict.__main__ import command, main


@pytest.mark.usefixtures("torch_build")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to score"),
        (["--input", "nowhere.csv"], "there is no file nowhere.csv"),
        (["--input", "-", "a.csv"], "nothing beside it"),
        (["--input", "zz9://a.csv"], "cannot reach zz9://a.csv"),
        (["--input", "a.csv", "--submission", "--output_format", "jsonl"], "a submission is a CSV file"),
        (["--input", "a.csv", "--outptu", "x"], "unrecognized arguments: --outptu"),
        (["--export", "onnx", "--input", "a.csv", "b.csv"], "measured on one --input"),
        (["--export", "onnx", "--mixed_precision", "no"], "--mixed_precision means nothing with --export"),
        (["--export", "onnx", "--on_bad_rows", "score_null"], "--on_bad_rows means nothing with --export"),
        (["--input", "a.csv", "--label_column_name", "x"], "--label_column_name means nothing without --export"),
        (["--input", "a.csv", "--delimiter", ";;"], "--delimiter ';;' is not one character between columns"),
        (
            ["--input", "a.csv", "--encoding", "utf8000"],
            "--encoding 'utf8000' is no character encoding that Python knows",
        ),
        (["--input", "-", "--encoding", "cp1252"], "mean nothing for lines on standard input"),
    ],
)
def test_bad_requests(score, capsys, arguments, message):
    assert score(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("name", "flags", "advice"),
    [
        ("scores.csv", [], "--output scores --output_format csv"),
        ("scores.tsv", [], "--output scores --output_format csv"),
        ("scores.csv.gz", [], "--output scores --output_format csv"),
        ("scores.PARQUET", [], "--output scores --output_format parquet"),
        ("scores.jsonl", [], "--output scores --output_format jsonl"),
        ("scores.json", [], "--output scores --output_format jsonl"),
        ("kaggle.csv", ["--submission"], "--output kaggle --submission"),
    ],
)
def test_the_output_is_a_folder(score, tmp_path, monkeypatch, capsys, name, flags, advice):
    monkeypatch.chdir(tmp_path)
    write_texts(tmp_path / "in.csv", COMMENTS[:2])
    assert score("--input", "in.csv", *flags, output=name) == 2
    error = capsys.readouterr().err
    assert f"--output {name} looks like a file" in error
    assert error.endswith(f"{advice}\n")
    # As it says, and a folder that has such a name is no mistake.
    assert score("--input", "in.csv", *advice.split()[2:], output=advice.split()[1]) == 0
    (tmp_path / name).mkdir()
    assert score("--input", "in.csv", *flags, output=name) == 0


@pytest.mark.parametrize(
    ("flags", "layout"),
    [
        ([], Layout(None, None, txt_holds_lines=True)),
        (["--delimiter", "tab", "--encoding", "Latin1"], Layout("\t", "iso8859-1", txt_holds_lines=False)),
        (["--delimiter", r"\t"], Layout("\t", None, txt_holds_lines=False)),
        (["--delimiter", ";"], Layout(";", None, txt_holds_lines=False)),
    ],
)
def test_the_layout_that_is_asked_for_reaches_the_reader_and_the_manifest(score, tmp_path, monkeypatch, flags, layout):
    layouts = []

    def read_windows(path, choose, rows, max_bytes, layout):
        layouts.append(layout)
        return original(path, choose, rows, max_bytes)

    original = score_shards.read_windows
    monkeypatch.setattr(score_shards, "read_windows", read_windows)
    write_texts(tmp_path / "in.csv", COMMENTS[:2])
    assert score("--input", tmp_path / "in.csv", *flags) == 0
    assert layouts == [layout]
    job = json.loads((tmp_path / "out" / "manifest.json").read_text())["job"]
    assert (job["delimiter"], job["encoding"]) == (layout.delimiter, layout.encoding)
    assert score("--input", tmp_path / "in.csv", "--delimiter", "|") == 2, "another job"


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_what_an_export_is_told(score, monkeypatch, runtime):
    from toxicity.predict.export import compare

    told = []
    monkeypatch.setattr(compare, "export_and_compare", lambda *arguments: told.append(arguments))
    flags = ["--input", "a.csv", "--delimiter", "tab", "--encoding", "latin-1", "--toxic_label", "hate", "1"]
    assert score("--export", runtime, *flags) == 0
    ((_, revision, _, labelled, toxic_label, asked),) = told
    assert (revision, toxic_label, asked) == ("main", ["hate", "1"], runtime)
    assert (labelled.train_file, labelled.delimiter, labelled.encoding) == ("a.csv", "\t", "iso8859-1")


def test_labels_that_are_asked_for_are_part_of_the_job(score, tmp_path, tiny_config, tokenizer, capsys):
    labels = {"num_labels": 3, "id2label": dict(enumerate(["hate", "offensive", "neither"])), "problem_type": None}
    BertForSequenceClassification(BertConfig(**tiny_config.to_dict() | labels)).save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    write_texts(tmp_path / "in.csv", COMMENTS[:3])
    asked = ["--input", tmp_path / "in.csv", "--toxic_label"]
    assert score(*asked[:2], model=tmp_path / "m") == 2
    assert "has the labels hate, offensive, neither" in capsys.readouterr().err
    assert score(*asked, "hate", "offensive", model=tmp_path / "m") == 0
    job = json.loads((tmp_path / "out" / "manifest.json").read_text())["job"]
    assert job["labels"] == {"toxic": [0, 1], "civil": [2], "subtypes": {}}
    assert score(*asked, "OFFENSIVE", "0", model=tmp_path / "m") == 0, "the same in other words"
    assert score(*asked, "hate", model=tmp_path / "m") == 2
    assert "scores of another job, with labels.toxic [0, 1] instead of [0]" in capsys.readouterr().err


@pytest.mark.usefixtures("torch_build")
def test_standard_input_is_for_one_process(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RequestError, match="read by one process alone: start it with python -m"):
        main(["--model", "m", "--input", "-", "--output", "out"])


def test_a_wrong_flag_exits_with_2_before_torch_is_loaded():
    code = """
        import sys
        from toxicity.predict.__main__ import command
        sys.argv[1:] = ["--modle", "x"]
        try:
            command()
        finally:
            assert "torch" not in sys.modules
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "--model" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_scorer_is_where_it_is_documented():
    from toxicity.predict.scorer import Scorer

    assert toxicity.predict.Scorer is Scorer
    with pytest.raises(AttributeError, match="has no attribute 'Scorrer'"):
        _ = toxicity.predict.Scorrer


def test_the_console_script_ends_with_the_code_of_a_refusal(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["toxicity-predict", "--model", "m", "--output", "scores"])
    with pytest.raises(SystemExit) as stop:
        command()
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: nothing to score")
