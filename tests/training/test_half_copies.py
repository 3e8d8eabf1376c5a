"""Weights in half precision, in training and scoring on a GPU, told by trainers that believe to have one."""

import copy
from contextlib import nullcontext

import pytest
import torch
from packed_models import packed_bert

from toxicity.core.training_arguments import TrainingArguments
from toxicity.models import varlen_attention
from toxicity.models.half_weights import cast_once, encoder_layers
from toxicity.training.trainer import ToxicityTrainer

HALF = {"fp16": torch.float16, "bf16": torch.bfloat16, "no": None}


@pytest.fixture
def make_on(make_trainer, monkeypatch):
    """Make a trainer that takes its device for another one."""

    def make(device, *model, **options):
        # The Trainer is to ask for the true one once, as that sets its processes up.
        belief = property(lambda args: args._setup_devices and torch.device(device))
        monkeypatch.setattr(TrainingArguments, "device", belief)
        for name in ("_move_model_to_device", "_log_choices"):
            monkeypatch.setattr(ToxicityTrainer, name, lambda *args: None)
        monkeypatch.setattr("toxicity.training.trainer.choose_token_budget", lambda *args: 5_000)
        return make_trainer(*model, **options)

    return make


def converts_once(trainer):
    return [bool(layer._forward_pre_hooks) for layer in encoder_layers(trainer.model)] == [True] * 2


@pytest.mark.parametrize("precision", HALF)
@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_on_a_gpu_weights_are_converted_once(make_on, device, precision):
    trainer = make_on(device, precision=precision)
    assert converts_once(trainer) == (device == "cuda" and precision != "no")


@pytest.mark.parametrize("precision", HALF)
@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_a_copy_in_half_precision_scores(make_on, device, precision):
    trainer = make_on(device, precision=precision)
    scorer = trainer._scorer(trainer.eval_dataset)
    copied = HALF[precision] is not None and (device, precision) != ("cpu", "fp16")
    dtype = HALF[precision] if copied else torch.float32
    assert {weight.dtype for weight in scorer.model.base_model.parameters()} == {dtype}
    assert (scorer.model is trainer.model) == (not copied)
    assert (scorer.autocast is nullcontext) == copied
    assert {weight.dtype for weight in trainer.model.parameters()} == {torch.float32}


def test_training_and_scoring_may_take_attention_of_different_kinds(make_on, monkeypatch, tiny_config):
    config = copy.deepcopy(tiny_config)  # which all tests share
    config.attention_probs_dropout_prob = 0.1
    monkeypatch.setattr(varlen_attention, "_kernels", {})
    monkeypatch.setattr(varlen_attention, "fault_of", lambda *arguments: "wrong" if arguments[-1] else None)
    trainer = make_on("cuda", packed_bert(config), precision="fp16")
    trained, scored = trainer.data_collator.layout, trainer._scorer(trainer.eval_dataset).layout
    assert [trained.grouping, scored.grouping] == ["similar", "none"]
    assert trained.dtype == scored.dtype == torch.float16


@pytest.mark.parametrize("reason", ["is_fsdp_enabled", "torch_compile"])
def test_a_sharded_or_compiled_model_is_left_to_autocast(make_on, reason):
    trainer = make_on("cuda", precision="bf16")
    setattr(trainer if reason == "is_fsdp_enabled" else trainer.args, reason, True)
    assert trainer._half_precision is None
    scorer = trainer._scorer(trainer.eval_dataset)
    assert scorer.model is trainer.model
    assert scorer.autocast == trainer.accelerator.autocast


@pytest.mark.parametrize(
    ("device", "asked", "tokens"),
    [("cuda", None, 65_536), ("cuda", "auto", 65_536), ("cuda", "700", 5_000), ("cpu", "auto", 5_000)],
)
def test_scoring_has_a_budget_of_its_own_on_a_gpu(make_on, device, asked, tokens):
    """The budget of training is 5,000 tokens here."""
    trainer = make_on(device, max_tokens_per_batch=asked)
    assert trainer._scorer(trainer.eval_dataset).max_tokens == tokens
    trainer.is_fsdp_enabled = True
    assert trainer._scorer(trainer.eval_dataset).max_tokens == 5_000


OPTIONS = {
    "parts": {"max_tokens_per_batch": "60"},
    "accumulated": {"gradient_accumulation_steps": 2},
    "checkpointed": {"gradient_checkpointing": True},
}


@pytest.mark.parametrize("options", OPTIONS)
def test_training_gives_the_weights_that_autocast_gives(make_trainer, model_of_either_kind, options):
    weights = []
    for once in (False, True):
        trainer = make_trainer(
            copy.deepcopy(model_of_either_kind), precision="bf16", max_steps=3, seed=3, **OPTIONS[options]
        )
        if once:
            cast_once(trainer.model, torch.bfloat16)
        trainer.train()
        weights.append(trainer.model.state_dict())
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())
