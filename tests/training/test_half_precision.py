"""Half precision in training: what is summed in fp32, what is said of overflow, and which precision is advised."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate.utils import FullyShardedDataParallelPlugin
from cards import A100, CARDS, V100, put_in

from toxicity.core.errors import RunFailure
from toxicity.training import evaluate as evaluate_module
from toxicity.training import trainer as trainer_module
from toxicity.training.accelerator import reduce_in_fp32


@pytest.mark.parametrize("version", [1, 2])
def test_fsdp_sums_gradients_in_fp32(make_trainer, version):
    plugin = FullyShardedDataParallelPlugin(fsdp_version=version)
    plugin.set_mixed_precision("bf16")
    trainer = make_trainer()
    trainer.accelerator.state.fsdp_plugin = plugin
    reduce_in_fp32(trainer.accelerator)
    policy = plugin.mixed_precision_policy
    assert (policy.param_dtype, policy.reduce_dtype) == (torch.bfloat16, torch.float32)
    if version == 2:
        assert policy.output_dtype == torch.float32


def test_fsdp_in_fp32_needs_no_policy(make_trainer):
    trainer = make_trainer()
    trainer.accelerator.state.fsdp_plugin = SimpleNamespace(mixed_precision_policy=None)
    reduce_in_fp32(trainer.accelerator)
    assert trainer.accelerator.state.fsdp_plugin.mixed_precision_policy is None


@pytest.mark.parametrize(
    ("card", "precision", "options", "parts", "tf32"),
    [
        (A100, "no", {}, "Computing in fp32, as the Accelerate config or its default says", True),
        (A100, "no", {"tf32": True}, "`mixed_precision: bf16` is the better choice here.", False),
        (A100, "bf16", {}, "Computing in bf16: its tensor cores multiply bf16", False),
        (A100, "fp16", {}, "`mixed_precision: bf16` is the better choice here.", False),
        (V100, "no", {}, "`mixed_precision: fp16` is the better choice here.", False),
        (CARDS["MI300X"], "no", {}, "`mixed_precision: bf16` is the better choice here.", False),
    ],
)
def test_tf32_is_named_where_fp32_is_chosen_on_a_card_that_has_it(
    make_trainer, monkeypatch, caplog, card, precision, options, parts, tf32
):
    trainer = make_trainer()
    device = put_in(monkeypatch, card)
    choices = SimpleNamespace(
        args=SimpleNamespace(
            device=device,
            tf32=options.get("tf32"),
            train_sampling_strategy="random",
            torch_compile=False,
            optim=trainer.args.optim,
        ),
        accelerator=SimpleNamespace(mixed_precision=precision),
        layout=trainer.layout,
        max_tokens=None,
        compiler={},
        model=None,
    )
    with caplog.at_level("INFO", logger="toxicity"):
        trainer_module.ToxicityTrainer._log_choices(choices)
    assert parts in caplog.text
    assert ("--tf32 true" in caplog.text) is tf32


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_overflow_during_training_are_named_with_the_fix(make_trainer, monkeypatch, caplog, value):
    trainer = make_trainer()
    logits = torch.zeros(64, 1)
    logits[5] = value
    monkeypatch.setattr(trainer, "_score_rows", lambda rows, on_batch: logits)
    monkeypatch.setattr(trainer.accelerator.state, "_mixed_precision", "fp16")
    metrics = trainer.evaluate()
    assert metrics["eval_auc"] is None
    assert "The scores of 1 of 64 comments are not finite numbers, as in fp16 they may overflow" in caplog.text
    assert "choose --mixed_precision no" in caplog.text


def test_no_best_weights_are_chosen_by_scores_that_overflow(make_trainer, monkeypatch):
    trainer = make_trainer(early_stopping_patience=1, eval_strategy="steps", eval_steps=2)
    monkeypatch.setattr(trainer, "_score_rows", lambda rows, on_batch: torch.full((64, 1), float("inf")))
    with pytest.raises(RunFailure, match="no AUC to choose the best weights by: the scores of 64 of 64 comments"):
        trainer.train()


def test_the_probe_does_not_take_overflow_for_certainty():
    calibration = SimpleNamespace(probability=lambda logits: 1 / (1 + np.exp(-logits)))
    found = evaluate_module._probabilities(np.array([[0.0], [np.inf], [-np.inf], [np.nan]]), [calibration])[:, 0]
    assert found[0] == 0.5
    assert np.isnan(found[1:]).all()
