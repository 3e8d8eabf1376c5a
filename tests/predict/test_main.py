"""The command line: requests that are refused before a model is loaded."""

import subprocess
import sys
import textwrap

import pytest
from builders import ROOT

import toxicity.predict
from toxicity.core.errors import RequestError
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
    ],
)
def test_bad_requests(score, capsys, arguments, message):
    assert score(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


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
