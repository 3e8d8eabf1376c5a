import json
import re
import subprocess
import sys
import types

import numpy as np
import pytest
from builders import ROOT
from label_models import calibration_of, save_label_model

from toxicity.core.errors import RequestError
from toxicity.core.schema import IDENTITIES
from toxicity.evaluation.calibration import Calibration
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
        self.calibrations = {name: Calibration(thresholds=THRESHOLDS) for name in self.labels}

    labels = ("toxic",)

    def by_label(self, texts):
        return {name: np.full(len(texts), 0.25) for name in (*self.labels, "a subtype without a calibration")}


def nothing(texts):
    """Scores that are no numbers."""
    return {"toxic": np.full(len(texts), np.nan)}


@pytest.fixture
def fake_scorer(monkeypatch):
    monkeypatch.setitem(sys.modules, "toxicity.predict.scorer", types.SimpleNamespace(Scorer=FakeScorer))


def test_the_command_prints_the_table_and_ends_with_the_json(fake_scorer, capsys):
    main(["--model", "runs/mine"])
    printed = capsys.readouterr().out
    found = json.loads(printed.splitlines()[-1])
    assert found == probe(lambda texts: np.full(len(texts), 0.25), THRESHOLDS)
    assert describe_probe(found) in printed


def test_every_label_of_a_run_is_probed(fake_scorer, monkeypatch, capsys):
    monkeypatch.setattr(FakeScorer, "labels", ("hate", "insult"))
    main(["--model", "runs/mine"])
    printed = capsys.readouterr().out
    found = json.loads(printed.splitlines()[-1])
    one = probe(lambda texts: np.full(len(texts), 0.25), THRESHOLDS)
    assert found == one | {"labels": {"hate": one, "insult": one}}
    assert describe_probe(found) in printed
    assert re.search(r"\| Identity +\| `hate` \| `insult` \|", printed)


def test_revision_labels_and_runtime_are_handed_on(fake_scorer, monkeypatch):
    asked = []
    monkeypatch.setattr(FakeScorer, "by_label", lambda scorer, texts: asked.append(scorer.asked) or nothing(texts))
    with pytest.raises(SystemExit):
        main(["--model", "runs/mine", "--model_revision", "v2", "--toxic_label", "hate", "offensive"])
    with pytest.raises(SystemExit):
        main(["--model", "runs/mine", "--runtime", "torch"])
    assert asked == [("v2", ["hate", "offensive"], None), ("main", [], "torch")]


def test_a_model_that_is_not_there_is_refused(fake_scorer):
    with pytest.raises(RequestError, match="there is no model runs/none"):
        main(["--model", "runs/none"])


def test_a_model_whose_scores_are_no_numbers_fails(fake_scorer, monkeypatch, capsys):
    monkeypatch.setattr(FakeScorer, "by_label", lambda scorer, texts: nothing(texts))
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


def test_the_command_with_a_real_model_of_several_labels(tmp_path, tiny_config, tokenizer, capsys):
    folder = save_label_model(tmp_path, tiny_config, tokenizer, ("hate", "threat"))
    main(["--model", str(folder), "--toxic_label", "threat", "--runtime", "torch"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(found["labels"]) == ["threat", "hate"]
    for number, name in enumerate(("hate", "threat")):
        assert found["labels"][name]["thresholds"] == calibration_of(number)["thresholds"]
    assert found["identities"] == found["labels"]["threat"]["identities"]


def test_a_run_with_thresholds_for_a_recall_and_for_a_share_flagged_is_probed_at_them(
    tmp_path, tiny_config, tokenizer, capsys
):
    thresholds = {"0.9": 0.9, "recall=0.95": 0.2, "flagged=0.02": 0.95}
    folder = save_label_model(tmp_path, tiny_config, tokenizer, ("toxic",), thresholds=thresholds)
    main(["--model", str(folder), "--runtime", "torch"])
    printed = capsys.readouterr().out
    found = json.loads(printed.splitlines()[-1])
    assert found["thresholds"] == thresholds
    assert "At the threshold of 0.900 for precision 0.9" in printed
    for told in ("0.200 for recall 0.95", "0.950 for at most 2 % flagged", "Flagged (recall 0.95)"):
        assert told in printed


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
