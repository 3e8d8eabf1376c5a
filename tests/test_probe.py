import json
import subprocess
import sys
import types

import numpy as np
import pytest
from builders import ROOT

from toxicity.core.errors import RequestError
from toxicity.core.schema import IDENTITIES
from toxicity.evaluation.identity_probe import (
    describe_probe,
    probe,
)
from toxicity.probe import command, main

THRESHOLDS = {"0.5": 0.3, "0.8": 0.6}


class FakeScorer:
    """Takes the place of `toxicity.predict.Scorer`."""

    def __init__(self, model, revision="main", toxic_label=(), runtime=None):
        self.asked = revision, toxic_label, runtime
        if model != "runs/mine":
            raise RequestError(f"there is no model {model}")
        self.thresholds = THRESHOLDS

    def __call__(self, texts):
        return np.full(len(texts), 0.25)


@pytest.fixture
def fake_scorer(monkeypatch):
    monkeypatch.setitem(sys.modules, "toxicity.predict.scorer", types.SimpleNamespace(Scorer=FakeScorer))


def test_the_command_prints_the_table_and_ends_with_the_json(fake_scorer, capsys):
    main(["--model", "runs/mine"])
    printed = capsys.readouterr().out
    found = json.loads(printed.splitlines()[-1])
    assert found == probe(FakeScorer("runs/mine"), THRESHOLDS)
    assert describe_probe(found) in printed


def test_revision_labels_and_runtime_are_handed_on(fake_scorer, monkeypatch):
    asked = []
    monkeypatch.setattr("toxicity.probe.probe", lambda scorer, thresholds: asked.append(scorer.asked))
    with pytest.raises(SystemExit):
        main(["--model", "runs/mine", "--model_revision", "v2", "--toxic_label", "hate", "offensive"])
    with pytest.raises(SystemExit):
        main(["--model", "runs/mine", "--runtime", "torch"])
    assert asked == [("v2", ["hate", "offensive"], None), ("main", [], "torch")]


def test_a_model_that_is_not_there_is_refused(fake_scorer):
    with pytest.raises(RequestError, match="there is no model runs/none"):
        main(["--model", "runs/none"])


def test_a_model_whose_scores_are_no_numbers_fails(fake_scorer, monkeypatch, capsys):
    monkeypatch.setattr(FakeScorer, "__call__", lambda self, texts: np.full(len(texts), np.nan))
    with pytest.raises(SystemExit) as stop:
        main(["--model", "runs/mine"])
    assert stop.value.code == 1
    assert capsys.readouterr().out == ""


def test_the_console_script_ends_with_the_code_of_a_refusal(fake_scorer, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["toxicity-probe", "--model", "runs/none"])
    with pytest.raises(SystemExit) as stop:
        command()
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: there is no model runs/none\n"


@pytest.mark.usefixtures("torch_build")
def test_the_command_with_a_real_model(model_dir, capsys):
    main(["--model", str(model_dir), "--toxic_label", "0"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["largest_shift"][0] in IDENTITIES


def test_a_wrong_flag_exits_with_2_before_torch_is_loaded():
    code = (
        "import sys\nfrom toxicity.probe import main\ntry:\n    main(['--modle', 'x'])\n"
        "except SystemExit as stop:\n    assert 'torch' not in sys.modules\n    sys.exit(stop.code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--model" in done.stderr
    assert "Traceback" not in done.stderr
