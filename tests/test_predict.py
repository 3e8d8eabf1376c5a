import json

import numpy as np
import pytest
from conftest import make_comments
from transformers import BertConfig, BertForSequenceClassification, pipeline

from toxicity.errors import RequestError
from toxicity.predict import Scorer

TEXTS = [text for text, _ in make_comments(70)]


@pytest.fixture
def model_dir(tmp_path, tiny_model, tokenizer):
    tiny_model.config.id2label, tiny_model.config.label2id = {0: "toxic"}, {"toxic": 0}
    tiny_model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def set_config(folder, **settings):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))


def test_scores_are_those_of_the_pipeline_in_the_order_of_the_texts(model_dir):
    scores = Scorer(str(model_dir), device="cpu")(TEXTS)
    expected = [row["score"] for row in pipeline("text-classification", str(model_dir), truncation=True)(TEXTS)]
    assert scores == pytest.approx(np.array(expected), abs=1e-6)
    assert scores.std() > 0.01


def test_what_the_run_wrote_into_the_config_is_honoured(model_dir):
    plain = Scorer(str(model_dir))
    assert (plain.temperature, plain.threshold, plain.thresholds, plain.max_seq_length) == (1.0, 0.5, {}, 64)
    settings = {"temperature": 2.0, "threshold": 0.7, "thresholds": {"0.8": 0.7, "0.9": 0.9}, "max_seq_length": 8}
    set_config(model_dir, toxicity=settings)
    scorer = Scorer(str(model_dir))
    assert (scorer.threshold, scorer.thresholds) == (0.7, {"0.8": 0.7, "0.9": 0.9})
    first_words = [" ".join(text.split()[:6]) for text in TEXTS[:5]]
    assert scorer(first_words) == pytest.approx(1 / (1 + np.exp(-plain.logits(first_words) / 2)), abs=1e-6)
    words = "thank you kind note about the local gardens trains"
    assert scorer.logits([words + " and you"]) == scorer.logits([words + " for the liar idiot"]), "cut after 8 tokens"
    assert plain.logits([words + " and you"]) != plain.logits([words + " for the liar idiot"])


@pytest.mark.parametrize("settings", ["high", {"temperature": "warm"}, {"thresholds": {"strict": 0.9}}])
def test_settings_of_others_that_mean_nothing_are_refused(model_dir, settings):
    set_config(model_dir, toxicity=settings)
    with pytest.raises(RequestError, match="holds under `toxicity` cannot be read"):
        Scorer(str(model_dir))


def test_no_texts_have_no_scores(model_dir):
    assert Scorer(str(model_dir))([]).shape == (0,)


def test_of_several_labels_toxicity_is_taken(tmp_path, tiny_config, tokenizer):
    two_labels = {"num_labels": 2, "id2label": {0: "x", 1: "Toxic"}, "label2id": {"x": 0, "Toxic": 1}}
    model = BertForSequenceClassification(BertConfig(**tiny_config.to_dict() | two_labels))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    inputs = tokenizer([TEXTS[0]], return_tensors="pt")
    other, toxic = model.eval()(**inputs).logits[0].tolist()
    assert Scorer(str(tmp_path)).logits(TEXTS[:1])[0] == pytest.approx(toxic, abs=1e-5)

    set_config(tmp_path, problem_type="single_label_classification")
    assert Scorer(str(tmp_path)).logits(TEXTS[:1])[0] == pytest.approx(toxic - other, abs=1e-5)
    softmax = pipeline("text-classification", str(tmp_path), top_k=None)(TEXTS[:1])[0]
    expected = next(row["score"] for row in softmax if row["label"] == "Toxic")
    assert Scorer(str(tmp_path))(TEXTS[:1])[0] == pytest.approx(expected, abs=1e-6)

    set_config(tmp_path, id2label={"0": "x", "1": "y"}, label2id={"x": 0, "y": 1})
    with pytest.raises(RequestError, match="none is called `toxic`"):
        Scorer(str(tmp_path))


def test_no_such_model(tmp_path):
    with pytest.raises(RequestError, match="a folder that a run left"):
        Scorer(str(tmp_path / "nowhere"))
