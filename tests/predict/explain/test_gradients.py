"""Integrated gradients: their sum is the difference of the logits, for every kind of encoder, on the tokens scored."""

import json
import logging

import numpy as np
import pytest
import torch
from families import ALL_FAMILIES, model_of
from scipy.special import logit
from transformers import AutoModelForSequenceClassification

from toxicity.core.errors import RequestError
from toxicity.data.encoding import token_ids
from toxicity.predict.explain import gradients
from toxicity.predict.explain.gradients import _of_words, _tokens, integrated_gradients
from toxicity.predict.scorer import Scorer

pytest.importorskip("captum", reason="the extra `explain` is not installed")

TEXT = "You are a stupid rotten liar and an unheardof idiot"


def exact(folder, **options):
    return Scorer(str(folder), device="cpu", runtime="torch", mixed_precision="no", **options)


@pytest.fixture
def save(tmp_path, tokenizer):
    """Save a tiny model of a kind with its tokenizer: call it with the kind and further options of its config."""

    def call(family, **options):
        first = {"pad_token_id": 0, "max_position_embeddings": 66, "initializer_range": 0.2}
        model = model_of(family, None, vocab_size=len(tokenizer), **(first | options))
        model.save_pretrained(tmp_path / family)
        tokenizer.save_pretrained(tmp_path / family)
        return tmp_path / family

    return call


def logits_of_text_and_padding(folder, tokenizer):
    """The logits of `TEXT`, and of padding between its special tokens, `(2, labels)`, as transformers computes them."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    ids = torch.tensor([tokenizer(TEXT)["input_ids"]])
    padding = torch.full_like(ids, tokenizer.pad_token_id)
    padding[0, [0, -1]] = ids[0, [0, -1]]
    with torch.inference_mode():
        embeddings = model.get_input_embeddings()(torch.cat([ids, padding]))
        return model(inputs_embeds=embeddings).logits


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_the_weights_add_up_to_the_difference_of_the_logits(save, tokenizer, family):
    names = {"id2label": {0: "nothate", 1: "hate"}, "label2id": {"nothate": 0, "hate": 1}}
    folder = save(family, problem_type="single_label_classification", **names)
    scorer = exact(folder)
    words = integrated_gradients(scorer, TEXT)
    assert [word.text for word in words] == TEXT.split()
    text, padding = (float(toxic - civil) for civil, toxic in logits_of_text_and_padding(folder, tokenizer))
    assert text == pytest.approx(logit(scorer([TEXT])[0]), abs=1e-4)
    difference = text - padding
    assert sum(word.weight for word in words) == pytest.approx(difference, abs=0.02 * max(1, abs(difference)))


def test_a_label_of_several_has_its_own_logit(save, tokenizer):
    names = {"id2label": {0: "toxic", 1: "insult"}, "label2id": {"toxic": 0, "insult": 1}}
    folder = save("bert", problem_type="multi_label_classification", **names)
    differences = -np.diff(logits_of_text_and_padding(folder, tokenizer).numpy(), axis=0)[0]
    for label, difference in zip([None, "insult"], differences.tolist(), strict=True):
        words = integrated_gradients(exact(folder), TEXT, label)
        assert sum(word.weight for word in words) == pytest.approx(difference, abs=0.02 * max(1, abs(difference)))


@pytest.mark.parametrize("head_tail", [False, True])
def test_the_tokens_are_those_that_are_scored(model_dir, head_tail):
    config = json.loads((model_dir / "config.json").read_text())
    settings = {"max_seq_length": 16, "head_tail_truncation": head_tail}
    (model_dir / "config.json").write_text(json.dumps(config | {"toxicity": settings}))
    scorer = exact(model_dir)
    long = " ".join(f"you{number}" for number in range(40)) + " are a stupid idiot"
    for text in (TEXT, long, "", "idiot"):
        tokens = _tokens(scorer._backend, text, head_tail)
        assert [token.id for token in tokens] == token_ids([text], scorer._backend, head_tail)[0][0]
        assert [token.special for token in tokens] == [True, *[False] * (len(tokens) - 2), True]
    seen = [word.text for word in integrated_gradients(scorer, long) if word.weight]
    assert "you0" in seen
    assert "you20" not in seen
    assert ("idiot" in seen) == head_tail


def test_a_token_of_several_words_is_shared_among_them():
    words = [(0, 3), (4, 6), (6, 7), (9, 12)]
    tokens = [((0, 2), 1.0), ((2, 4), 2.0), ((3, 7), 3.0), ((7, 9), 5.0), ((8, 12), 7.0)]
    assert _of_words(words, tokens).tolist() == [3.0, 2.0, 1.0, 7.0]
    assert _of_words(words, []).tolist() == [0.0] * 4


def test_a_sum_that_is_not_reached_is_told(save, monkeypatch, caplog):
    monkeypatch.setattr(gradients, "MOST_STEPS", gradients.FEWEST_STEPS)
    monkeypatch.setattr(gradients, "TOLERANCE", 1e-9)
    monkeypatch.setattr(gradients, "SMALL", 1e-9)
    with caplog.at_level(logging.WARNING):
        integrated_gradients(exact(save("bert", num_labels=1)), TEXT)
    assert "is in none of them" in caplog.text
    assert "idiot" not in caplog.text


def test_a_model_that_takes_no_embeddings_is_refused(save, monkeypatch):
    scorer = exact(save("bert", num_labels=1))

    def forward(*arguments, **options):
        raise NotImplementedError

    monkeypatch.setattr(scorer._batches.model, "forward", forward)
    with pytest.raises(RequestError, match="models of the kind bert take no embeddings: explain by occlusion"):
        integrated_gradients(scorer, TEXT)
