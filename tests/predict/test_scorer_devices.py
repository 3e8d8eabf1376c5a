"""What a `Scorer` computes on and in: the device, its precision, and what is said where neither fits."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from builders import make_comments
from cards import CARDS, CUDA_130, GIB, NO_CARD, V100, put_in
from families import model_of
from transformers import PreTrainedModel

from toxicity.core.errors import RequestError
from toxicity.predict.scorer import Scorer

TEXTS = [text for text, _ in make_comments(8)]


@pytest.fixture
def on(monkeypatch):
    """Call it with a card: from then on this machine has it, and models stay where they are."""

    def call(card):
        monkeypatch.setattr(PreTrainedModel, "to", lambda self, *args, **kwargs: self)
        return put_in(monkeypatch, card)

    return call


@pytest.fixture
def deberta_dir(tmp_path, tokenizer, tiny_config):
    model = model_of("deberta-v2", vocab_size=tiny_config.vocab_size, num_labels=1)
    model.config.id2label, model.config.label2id = {0: "toxic"}, {"toxic": 0}
    model.save_pretrained(tmp_path / "deberta")
    tokenizer.save_pretrained(tmp_path / "deberta")
    return str(tmp_path / "deberta")


PRECISIONS = {"P100": "fp16", "V100": "fp16", "T4": "fp16", "A100": "bf16", "H100": "bf16", "RTX 5090": "bf16"}
PRECISIONS |= {"MI300X": "bf16", "unknown kind": "no", "Apple GPU": "no"}


@pytest.mark.parametrize("name", PRECISIONS)
def test_the_fastest_precision_is_chosen(on, model_dir, name):
    on(CARDS[name])
    assert Scorer(str(model_dir)).mixed_precision == PRECISIONS[name]


@pytest.mark.parametrize(("name", "precision"), [("V100", "no"), ("P100", "no"), ("A100", "bf16")])
def test_a_model_that_overflows_in_fp16_is_not_scored_in_it(on, deberta_dir, name, precision, caplog):
    device = on(CARDS[name])
    with caplog.at_level("INFO", logger="toxicity"):
        assert Scorer(deberta_dir, device=device).mixed_precision == precision
    said = "Scoring in fp32, as models of the kind deberta-v2 can overflow in fp16." in caplog.text
    assert said is (precision == "no")
    with pytest.raises(RequestError, match=r"deberta-v2, whose .* score it in fp32 \(mixed_precision no\), or in bf16"):
        Scorer(deberta_dir, device=device, mixed_precision="fp16")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hidden", "Working on the processor: CUDA_VISIBLE_DEVICES='' hides the Tesla V100-SXM2-16GB"),
        (
            "driver too old",
            "Working on the processor: torch 2.7.1+cu126, built for CUDA 12.6, cannot use the Tesla",
        ),
        ("build for CPUs", "Working on the processor: torch 2.13.0+cpu is a build for CPUs"),
    ],
)
def test_a_card_that_is_not_used_is_named_with_the_reason(on, model_dir, name, message, caplog):
    on(CARDS[name])
    assert Scorer(str(model_dir)).device.type == "cpu"
    assert [message in record.getMessage() for record in caplog.records] == [True]
    caplog.clear()
    Scorer(str(model_dir), device="cpu")
    on(NO_CARD)
    Scorer(str(model_dir))
    assert not caplog.records


def test_a_card_without_kernels_is_refused(on, model_dir):
    on(replace(V100, architectures=CUDA_130))
    with pytest.raises(RequestError, match="no kernels for the Tesla V100.*make setup GPU=v100"):
        Scorer(str(model_dir))


def test_a_card_without_bf16_is_not_asked_for_it(on, model_dir):
    on(V100)
    with pytest.raises(RequestError, match=r"Tesla V100-SXM2-16GB \(sm_70\) has no bf16.*Leave mixed_precision out"):
        Scorer(str(model_dir), mixed_precision="bf16")
    for name in ("A100", "MI300X"):
        on(CARDS[name])
        assert Scorer(str(model_dir), mixed_precision="bf16").mixed_precision == "bf16"


def no_room(*_, **__):
    raise torch.OutOfMemoryError("CUDA out of memory.")


def test_a_card_that_others_have_filled_is_refused(model_dir, monkeypatch):
    device = put_in(monkeypatch, replace(V100, free=GIB // 2))
    monkeypatch.setattr(PreTrainedModel, "to", no_room)
    with pytest.raises(RequestError, match=r"no room for this model on the Tesla V100.*0\.5 of its 16\.0.*nvidia-smi"):
        Scorer(str(model_dir), device=device)


def test_a_single_comment_that_does_not_fit_is_refused(model_dir, monkeypatch):
    scorer = Scorer(str(model_dir), device="cpu", mixed_precision="no")
    monkeypatch.setattr(scorer._batches.model, "forward", no_room)
    with pytest.raises(RequestError, match="no room for a batch of comments: CUDA out of memory"):
        scorer(TEXTS)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("precision", "fix"),
    [
        ("no", " in fp32: the model's weights are damaged"),
        ("bf16", " in bf16: the model's weights are damaged"),
        ("fp16", ", as in fp16 they may overflow: choose --mixed_precision no, or bf16 on a card that has it"),
    ],
)
def test_scores_that_are_no_numbers_are_not_passed_on(model_dir, monkeypatch, value, precision, fix):
    scorer = Scorer(str(model_dir), device="cpu", mixed_precision=precision)
    logits = np.zeros((8, 1), dtype=np.float32)
    logits[3] = value
    monkeypatch.setattr(type(scorer._batches), "score", lambda self, rows: torch.from_numpy(logits))
    with pytest.raises(RequestError, match=f"the scores of 1 of 8 comments are not finite numbers{fix}"):
        scorer(TEXTS)


@pytest.mark.usefixtures("torch_build")
def test_infinite_weights_reach_nobody(model_dir):
    scorer = Scorer(str(model_dir), device="cpu", mixed_precision="no")
    with torch.no_grad():
        scorer._batches.model.classifier.bias.fill_(float("inf"))
    with pytest.raises(RequestError, match="8 of 8 comments are not finite"):
        scorer(TEXTS)
