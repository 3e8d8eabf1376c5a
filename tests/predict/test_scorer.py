import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from builders import make_comments
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    pipeline,
)

from toxicity.core.errors import RequestError
from toxicity.core.schema import SUBTYPES
from toxicity.models import pretrained
from toxicity.models.packing import fill_batches, longest_first
from toxicity.predict.scorer import Scorer

pytestmark = pytest.mark.usefixtures("torch_build")

TEXTS = [text for text, _ in make_comments(70)]


def exact(folder):
    return Scorer(str(folder), device="cpu", mixed_precision="no")


def logits(scorer, texts):
    """The logits of toxicity, before calibration."""
    scores = scorer(texts)
    return np.log(scores / (1 - scores)) * scorer.temperature


def set_config(folder, **settings):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))


def test_scores_are_those_of_the_pipeline_in_the_order_of_the_texts(model_dir):
    scores = Scorer(str(model_dir), device="cpu", mixed_precision="no")(TEXTS)
    expected = [row["score"] for row in pipeline("text-classification", str(model_dir), truncation=True)(TEXTS)]
    assert scores == pytest.approx(np.array(expected), abs=1e-6)
    assert scores.std() > 0.01


def test_what_the_run_wrote_into_the_config_is_honoured(model_dir):
    plain = exact(model_dir)
    assert (plain.temperature, plain.threshold, plain.thresholds, plain.max_seq_length) == (1.0, 0.5, {}, 64)
    settings = {"temperature": 2.0, "threshold": 0.7, "thresholds": {"0.8": 0.7, "0.9": 0.9}, "max_seq_length": 8}
    set_config(model_dir, toxicity=settings)
    scorer = exact(model_dir)
    assert (scorer.threshold, scorer.thresholds) == (0.7, {"0.8": 0.7, "0.9": 0.9})
    first_words = [" ".join(text.split()[:6]) for text in TEXTS[:5]]
    assert scorer(first_words) == pytest.approx(1 / (1 + np.exp(-logits(plain, first_words) / 2)), abs=1e-6)
    words = "thank you kind note about the local gardens trains"
    assert scorer([words + " and you"]) == scorer([words + " for the liar idiot"]), "cut after 8 tokens"
    assert plain([words + " and you"]) != plain([words + " for the liar idiot"])


@pytest.mark.parametrize("settings", ["high", {"temperature": "warm"}, {"thresholds": {"strict": 0.9}}])
def test_settings_of_others_that_mean_nothing_are_refused(model_dir, settings):
    set_config(model_dir, toxicity=settings)
    with pytest.raises(RequestError, match="holds under `toxicity` cannot be read"):
        Scorer(str(model_dir))


def test_no_texts_have_no_scores(model_dir):
    assert exact(model_dir)([]).shape == (0,)


def test_of_several_labels_toxicity_is_taken(tmp_path, tiny_config, tokenizer):
    two_labels = {"num_labels": 2, "id2label": {0: "x", 1: "Toxic"}, "label2id": {"x": 0, "Toxic": 1}}
    model = BertForSequenceClassification(BertConfig(**tiny_config.to_dict() | two_labels))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    inputs = tokenizer([TEXTS[0]], return_tensors="pt")
    other, toxic = model.eval()(**inputs).logits[0].tolist()
    assert logits(exact(tmp_path), TEXTS[:1])[0] == pytest.approx(toxic, abs=1e-5)

    set_config(tmp_path, problem_type="single_label_classification")
    assert logits(exact(tmp_path), TEXTS[:1])[0] == pytest.approx(toxic - other, abs=1e-5)
    softmax = pipeline("text-classification", str(tmp_path), top_k=None)(TEXTS[:1])[0]
    expected = next(row["score"] for row in softmax if row["label"] == "Toxic")
    assert exact(tmp_path)(TEXTS[:1])[0] == pytest.approx(expected, abs=1e-6)

    set_config(tmp_path, id2label={"0": "x", "1": "y"}, label2id={"x": 0, "y": 1})
    with pytest.raises(RequestError, match="do not say which of them mean toxic: .* with --toxic_label NAME"):
        exact(tmp_path)


def test_of_exclusive_classes_the_probabilities_of_those_that_are_named_are_added(tmp_path, tiny_config, tokenizer):
    names = ["hate", "offensive", "neither"]
    classes = {"num_labels": 3, "id2label": dict(enumerate(names)), "problem_type": None}
    model = BertForSequenceClassification(BertConfig(**tiny_config.to_dict() | classes))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    softmax = pipeline("text-classification", str(tmp_path), top_k=None)(TEXTS[:1])[0]
    expected = {row["label"]: row["score"] for row in softmax}

    def score(toxic_label):
        return Scorer(str(tmp_path), device="cpu", mixed_precision="no", toxic_label=toxic_label)(TEXTS[:1])[0]

    assert score("hate") == pytest.approx(expected["hate"], abs=1e-6)
    assert score(["offensive", "0"]) == pytest.approx(expected["hate"] + expected["offensive"], abs=1e-6)
    assert score("LABEL_2") == pytest.approx(expected["neither"], abs=1e-6)
    with pytest.raises(RequestError, match="has the labels hate, offensive, neither, .* --toxic_label NAME"):
        score(())


def test_one_text_is_no_list_of_texts(model_dir):
    with pytest.raises(TypeError, match=r"give \[text\] instead of text"):
        exact(model_dir)("one comment")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_damaged_model(model_dir, name):
    (model_dir / name).write_bytes((model_dir / name).read_bytes()[:50])
    with pytest.raises(RequestError, match="cannot load .*a folder that a run left") as refusal:
        exact(model_dir)
    assert len(str(refusal.value).splitlines()) == 1


def test_an_error_without_a_message(model_dir, monkeypatch):
    def fail(*_, **__):
        raise OSError

    monkeypatch.setattr(pretrained.AutoConfig, "from_pretrained", fail)
    with pytest.raises(RequestError, match="cannot load .*OSError"):
        exact(model_dir)


def test_what_transformers_says_of_weights_that_do_not_fit_is_let_through(model_dir, monkeypatch):
    monkeypatch.setattr("transformers.utils.logging.set_verbosity_error", lambda: pytest.fail("silenced"))
    set_config(model_dir, id2label={str(index): str(index) for index in range(6)}, label2id={})
    with pytest.raises(RequestError, match="cannot load .*model: RuntimeError: .*mismatch"):
        exact(model_dir)


def test_a_model_that_was_not_trained_to_classify(checkpoint):
    with pytest.raises(RequestError, match="no weights for classifier.bias, classifier.weight: it was not trained"):
        exact(checkpoint)


def test_without_a_limit_of_the_tokenizer_the_model_has_one(tmp_path, tiny_config, tokenizer):
    config = RobertaConfig(**{name: value for name, value in tiny_config.to_dict().items() if name != "model_type"})
    config.pad_token_id = 1
    RobertaForSequenceClassification(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | {"model_max_length": None}))
    scorer = exact(tmp_path)
    assert scorer.max_seq_length == 62, "of 64 positions two are before the first"
    assert np.isfinite(scorer([" ".join(TEXTS)])).all()


def test_no_such_model(tmp_path):
    with pytest.raises(RequestError, match="a folder that a run left"):
        exact(tmp_path / "nowhere")


def test_bf16_scores_are_near_those_of_fp32(model_dir):
    near = Scorer(str(model_dir), device="cpu", mixed_precision="bf16")(TEXTS)
    assert near == pytest.approx(exact(model_dir)(TEXTS), abs=0.02)
    assert (near != exact(model_dir)(TEXTS)).any()


def test_subtypes_are_the_labels_of_that_name_in_any_edition(tmp_path, tiny_config, tokenizer):
    names = ["male", "severe_toxic", "toxicity", "Insult"]
    labels = {
        "num_labels": 4,
        "id2label": dict(enumerate(names)),
        "label2id": {name: i for i, name in enumerate(names)},
    }
    model = BertForSequenceClassification(BertConfig(**tiny_config.to_dict() | labels))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    set_config(tmp_path, toxicity={"temperature": 2.0})
    scorer = exact(tmp_path)
    assert scorer.subtypes == ("severe_toxicity", "insult")
    assert set(scorer.subtypes) <= set(SUBTYPES)
    logits = model.eval()(**tokenizer([TEXTS[0]], return_tensors="pt")).logits[0].detach().numpy()
    scaled = np.array([logits[2] / 2, logits[1], logits[3]])
    assert scorer.probabilities(scorer.tokenize(TEXTS[:1]))[0] == pytest.approx(1 / (1 + np.exp(-scaled)), abs=1e-5)


def test_many_threads_get_what_one_gets(model_dir):
    scorer = Scorer(str(model_dir), device="cpu")
    requests = [TEXTS[start:] + TEXTS[:start] for start in range(0, 64, 2)]
    expected = [scorer(texts) for texts in requests]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(scorer, requests))
    for scores, alone in zip(found, expected, strict=True):
        assert scores.tolist() == alone.tolist()


def test_the_number_of_threads_changes_no_bit(model_dir):
    scorer, scores = Scorer(str(model_dir), device="cpu"), {}
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            scores[threads] = scorer(TEXTS).tolist()
    finally:
        torch.set_num_threads(before)
    assert scores[1] == scores[2] == scores[3]


def test_weights_are_told_apart(model_dir):
    before = exact(model_dir).weights_digest
    assert before == exact(model_dir).weights_digest
    model = BertForSequenceClassification.from_pretrained(model_dir)
    with torch.no_grad():
        model.classifier.bias += 1e-3
    model.save_pretrained(model_dir)
    assert exact(model_dir).weights_digest != before


def test_texts_without_a_table_get_the_same_scores(model_dir):
    scorer = exact(model_dir)
    assert scorer.probabilities(scorer.rows(TEXTS)).tolist() == scorer.probabilities(scorer.tokenize(TEXTS)).tolist()
    assert scorer.probabilities(scorer.rows([])).shape == (0, 1)
    with pytest.raises(TypeError, match="takes a list of texts"):
        scorer.rows("one text")


def test_what_no_stream_is_of_use_to_has_one(model_dir):
    assert Scorer(str(model_dir), device="cpu", streams=4).streams == 1


@given(
    st.lists(st.integers(1, 220), max_size=200),
    st.integers(1, 2000),
    st.one_of(st.none(), st.integers(0, 100)),
)
def test_batches_hold_every_row_once_and_are_no_larger_than_asked(lengths, tokens, padding):
    order = longest_first(lengths)
    parts = fill_batches(np.array(lengths, dtype=np.int32)[order], tokens, padded=True, max_padding=padding)
    batches = [order[part] for part in parts]
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        places = len(batch) * max(lengths[row] for row in batch)
        assert len(batch) == 1 or places <= tokens
        assert padding is None or places - sum(lengths[row] for row in batch) <= padding
    longest = [max(lengths[row] for row in batch) for batch in batches]
    assert longest == sorted(longest, reverse=True)
