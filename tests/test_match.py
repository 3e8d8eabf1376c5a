"""The command `python -m toxicity.match`."""

import json
import subprocess
import sys
import types

import numpy as np
import pandas as pd
import pytest
from builders import ROOT
from label_models import save_label_model

from toxicity.core.errors import RequestError, refusals_exit_cleanly
from toxicity.evaluation.threshold_matching import describe_matches, match_thresholds
from toxicity.match import main

ROWS = 400


class FakeScorer:
    """Takes the place of `toxicity.predict.Scorer`: scores are lower than the old ones."""

    labels = ("toxic", "insult", "obscene")

    def __init__(self, model, revision="main", toxic_label=(), runtime=None):
        self.asked = revision, toxic_label, runtime

    def by_label(self, texts):
        scores = np.array([int(text.split()[-1]) / ROWS / 2 for text in texts])
        return dict.fromkeys(self.labels, scores)


@pytest.fixture
def fake_scorer(monkeypatch):
    monkeypatch.setitem(sys.modules, "toxicity.predict.scorer", types.SimpleNamespace(Scorer=FakeScorer))


@pytest.fixture
def comments():
    rows = np.arange(ROWS)
    shuffled = np.random.default_rng(0).permutation(ROWS)
    old = pd.DataFrame({"id": rows, "text": [f"comment number {row}" for row in rows]})
    return old.assign(TOXICITY=rows / ROWS, INSULT=shuffled / ROWS, THREAT=0.5, toxic=np.where(rows % 7, rows > 250, 0))


@pytest.fixture
def old_scores(comments, tmp_path):
    comments.to_csv(tmp_path / "old.csv", index=False)
    return str(tmp_path / "old.csv")


def printed(capsys, *flags):
    main([*map(str, flags)])
    output = capsys.readouterr().out
    return output, json.loads(output.splitlines()[-1])["attributes"]


def test_the_command_prints_the_table_and_ends_with_the_json(fake_scorer, comments, old_scores, capsys):
    output, found = printed(capsys, "--old_scores", old_scores, "--model", "runs/mine")
    assert describe_matches(found) in output
    assert {name: result["label"] for name, result in found.items()} == {"TOXICITY": "toxic", "INSULT": "insult"}
    toxicity = found["TOXICITY"]["thresholds"]
    assert {old: each["share"] for old, each in toxicity.items()} == {"0.7": 0.3, "0.8": 0.2, "0.9": 0.1}
    for old, each in toxicity.items():
        assert each["threshold"] == pytest.approx(float(old) / 2, abs=1 / ROWS)
        assert each["agreement"]["kappa"] == 1
    assert abs(found["INSULT"]["spearman"]) < 0.2
    assert "That is low" in output


def test_it_can_be_asked_for_other_thresholds_and_a_picture(fake_scorer, old_scores, tmp_path, capsys):
    flags = "--thresholds", 0.35, "--output", tmp_path / "out", "--label_column_name", "toxic"
    _, found = printed(capsys, "--old_scores", old_scores, "--model", "runs/mine", *flags)
    assert json.loads((tmp_path / "out" / "thresholds.json").read_text()) == found
    assert {path.name for path in tmp_path.glob("out/*.png")} == {"TOXICITY.png", "INSULT.png"}
    assert [*found["TOXICITY"]["thresholds"]] == ["0.35"]
    assert 0 < found["TOXICITY"]["thresholds"]["0.35"]["precision"]["old"] < 1
    assert "precision" not in found["INSULT"]["thresholds"]["0.35"], "the label says toxic, not of what kind"


def test_new_scores_by_id_are_the_same_as_a_model(fake_scorer, comments, old_scores, tmp_path, capsys):
    _, expected = printed(capsys, "--old_scores", old_scores, "--model", "runs/mine")
    scores = FakeScorer("").by_label(comments["text"])
    new = pd.DataFrame({"id": comments["id"], "score": scores["toxic"], "label": 0, "insult": scores["insult"]})
    new[::-1].to_parquet(tmp_path / "new.parquet")
    _, found = printed(capsys, "--old_scores", old_scores, "--new_scores", tmp_path / "new.parquet")
    assert found.pop("TOXICITY") == expected.pop("TOXICITY") | {"label": "score"}
    assert found == expected


def test_a_label_that_is_called_as_an_attribute(fake_scorer, comments, tmp_path, capsys):
    comments.rename(columns={"TOXICITY": "perspective", "toxic": "toxicity"}).to_csv(tmp_path / "old.csv")
    flags = "--old_score_column_name", "perspective", "--label_column_name", "toxicity"
    _, found = printed(capsys, "--old_scores", tmp_path / "old.csv", "--model", "runs/mine", *flags)
    assert found["TOXICITY"] == {"label": "toxic"} | match_thresholds(
        comments["TOXICITY"].to_numpy(),
        FakeScorer("").by_label(comments["text"])["toxic"],
        [0.7, 0.8, 0.9],
        comments["toxic"].to_numpy(dtype=float),
    )


def test_revision_labels_and_runtime_are_handed_on(fake_scorer, monkeypatch, old_scores):
    asked = []
    monkeypatch.setattr(FakeScorer, "__init__", lambda scorer, *given, **named: asked.append((given, named)))
    flags = ["--model_revision", "v2", "--toxic_label", "hate", "off", "--runtime", "torch"]
    main(["--old_scores", old_scores, "--model", "runs/mine", *flags])
    assert asked == [(("runs/mine", "v2"), {"toxic_label": ["hate", "off"], "runtime": "torch"})]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "m", "--thresholds", "80"], "--thresholds 80: give scores above 0 and below 1, such as 0.8"),
        (["--model", "m", "--id_column_name", "key"], "--id_column_name means nothing with --model"),
        (["--model", "m", "--output", __file__], "is a file: name a folder"),
        (["--model", "m", "--encoding", "utf-9"], "no character encoding"),
        (["--model", "m", "--old_score_column_name", "THREAT", "--label_column_name", "none"], "no column none"),
        (["--new_scores", "n.csv", "--runtime", "torch"], "--runtime means nothing with --new_scores"),
        (["--new_scores", "n.csv", "--text_column_name", "a"], "--text_column_name means nothing with --new_scores"),
        (["--new_scores", "n.csv"], "there is no file n.csv"),
    ],
)
def test_what_cannot_work_is_refused_before_a_model_is_loaded(old_scores, flags, message):
    with pytest.raises(RequestError, match=message):
        main(["--old_scores", old_scores, *flags])


def test_a_model_without_any_of_the_attributes_is_refused(fake_scorer, comments, tmp_path):
    comments.drop(columns=["TOXICITY", "INSULT"]).to_csv(tmp_path / "old.csv")
    with pytest.raises(
        RequestError, match="old.csv has old scores for THREAT and runs/mine has new ones for TOXICITY,"
    ):
        main(["--old_scores", str(tmp_path / "old.csv"), "--model", "runs/mine"])


@pytest.mark.parametrize("flags", [[], ["--model", "m"], ["--old_scores", "o.csv"], ["--modle", "m"]])
def test_a_wrong_flag_exits_with_2_before_anything_is_loaded(flags):
    code = (
        "import sys\nfrom toxicity.core.errors import refusals_exit_cleanly\nfrom toxicity.match import main\n"
        "try:\n    with refusals_exit_cleanly():\n        main(sys.argv[1:])\n"
        "except SystemExit as stop:\n    assert not {'torch', 'pyarrow', 'datasets'} & {*sys.modules}\n"
        "    sys.exit(stop.code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *flags], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_refusal_is_a_line_and_exits_with_2(old_scores, capsys):
    with pytest.raises(SystemExit) as stop, refusals_exit_cleanly():
        main(["--old_scores", old_scores, "--new_scores", old_scores, "--id_column_name", "key"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_with_a_real_model_of_several_labels(tmp_path, tiny_config, tokenizer, old_scores, capsys):
    folder = save_label_model(tmp_path / "model", tiny_config, tokenizer, ("hate", "insult"))
    _, found = printed(capsys, "--old_scores", old_scores, "--model", folder, "--runtime", "torch")
    assert {name: result["label"] for name, result in found.items()} == {"TOXICITY": "hate", "INSULT": "insult"}
