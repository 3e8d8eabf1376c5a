"""Models of runs with several labels: each has its own calibration, and any of them can be the main one."""

import json

import numpy as np
import pytest
import torch
from builders import make_comments
from label_models import LABELS_2018, calibration_of, save_label_model
from transformers import AutoModelForSequenceClassification

from toxicity.core.errors import RequestError
from toxicity.evaluation.calibration import Calibration
from toxicity.predict.scorer import Scorer

TEXTS = [text for text, _ in make_comments(20)]
NAMES = ("hate", "insult", "subtask_a")


def exact(folder, **options):
    return Scorer(str(folder), device="cpu", mixed_precision="no", **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_config, tokenizer):
    return save_label_model(tmp_path_factory.mktemp("labels"), tiny_config, tokenizer, NAMES)


@pytest.fixture(scope="module")
def expected(folder, tokenizer):
    """The probability of each label, as its own temperature makes it of the logits of transformers."""
    inputs = tokenizer(TEXTS, return_tensors="pt", padding=True)
    inputs.pop("token_type_ids", None)
    with torch.inference_mode():
        logits = AutoModelForSequenceClassification.from_pretrained(folder).eval()(**inputs).logits.numpy()
    temperatures = [calibration_of(number)["temperature"] for number in range(len(NAMES))]
    return dict(zip(NAMES, (1 / (1 + np.exp(-logits / temperatures))).T, strict=True))


@pytest.mark.parametrize("main", [None, "insult", "SUBTASK_A", "1"])
def test_any_label_is_the_main_one_if_asked_for_and_all_keep_their_calibration(folder, expected, main):
    scorer = exact(folder, toxic_label=main or ())
    name = {None: "hate", "insult": "insult", "SUBTASK_A": "subtask_a", "1": "insult"}[main]
    others = tuple(other for other in NAMES if other != name)
    assert scorer.subtypes == others
    assert tuple(scorer.calibrations) == (name, *others)
    for label, calibration in scorer.calibrations.items():
        assert calibration == Calibration.from_config(calibration_of(NAMES.index(label)))
    assert scorer.calibration == scorer.calibrations[name]
    assert (scorer.temperature, scorer.threshold, scorer.thresholds) == (
        scorer.calibration.temperature,
        scorer.calibration.threshold,
        scorer.calibration.thresholds,
    )
    assert scorer(TEXTS) == pytest.approx(expected[name], abs=1e-5)
    columns = scorer.probabilities(scorer.tokenize(TEXTS))
    assert columns == pytest.approx(np.stack([expected[label] for label in (name, *others)], axis=1), abs=1e-5)
    found = scorer.by_label(TEXTS)
    assert list(found) == [name, *others]
    assert np.stack(list(found.values()), axis=1).tolist() == columns.tolist()
    assert {name: scores.shape for name, scores in scorer.by_label([]).items()} == dict.fromkeys(found, (0,))


def test_models_of_others_have_their_subtypes_by_name_and_one_calibration(tmp_path, tiny_config, tokenizer):
    scorer = exact(save_label_model(tmp_path, tiny_config, tokenizer, calibrated=False))
    assert scorer.subtypes == ("severe_toxicity", "obscene", "identity_attack", "insult", "threat")
    assert scorer.calibrations == {"toxic": Calibration()}
    assert list(scorer.by_label(TEXTS)) == ["toxic", *scorer.subtypes]
    asked = exact(tmp_path, toxic_label="threat")
    assert asked.calibrations == {"threat": Calibration()}
    assert asked(TEXTS).tolist() == pytest.approx(scorer.by_label(TEXTS)["threat"].tolist(), abs=1e-6)


def test_one_label_is_found_by_its_name(model_dir):
    scorer = exact(model_dir)
    assert list(scorer.calibrations) == ["toxic"]
    (scores,) = scorer.by_label(TEXTS).values()
    assert scores.tolist() == scorer(TEXTS).tolist()


def test_added_classes_have_a_name_together(tmp_path, tiny_config, tokenizer):
    save_label_model(tmp_path, tiny_config, tokenizer, ("hate", "offensive", "neither"), calibrated=False)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"problem_type": "single_label_classification"}))
    assert list(exact(tmp_path, toxic_label=["offensive", "hate"]).by_label(TEXTS)) == ["hate or offensive"]


@pytest.mark.parametrize(
    "damage", [{"labels": {"toxic": {}}}, {"labels": "high"}, {"toxic_label": "hate"}, {"toxic_label": 3}], ids=str
)
def test_a_damaged_section_is_refused(tmp_path, tiny_config, tokenizer, damage):
    save_label_model(tmp_path, tiny_config, tokenizer, LABELS_2018, **damage)
    with pytest.raises(RequestError, match=r"holds under `toxicity` cannot be read: take it out"):
        exact(tmp_path)
