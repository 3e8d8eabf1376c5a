import copy
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from builders import make_comments
from sklearn.metrics import roc_auc_score
from torch import nn
from training_steps import auc_of, ids_of, weights_of
from transformers import (
    set_seed,
)

from toxicity.core.arguments import ModelArguments
from toxicity.models.classifier import load_model, load_tokenizer
from toxicity.training import trainer as trainer_module


class TupleModel(nn.Module):
    """A classifier that returns its logits as a tuple, as `return_dict=False` and scripted models do."""

    def __init__(self, model, extra=()):
        super().__init__()
        self.model = model
        self.extra = extra

    def forward(self, input_ids, attention_mask=None):
        return (self.model(input_ids=input_ids, attention_mask=attention_mask).logits, *self.extra)


def test_it_learns(make_trainer):
    trainer = make_trainer(num_train_epochs=6)
    before = auc_of(trainer)
    trainer.train()
    after = auc_of(trainer)
    assert after > 0.99 > before


def test_scores_come_back_in_dataset_order(make_trainer, tiny_model, tokenizer):
    trainer = make_trainer(per_device_eval_batch_size=5)
    logits = trainer.score(trainer.eval_dataset)
    tiny_model.eval()
    with torch.no_grad():
        one_by_one = [tiny_model(torch.tensor([ids])).logits.item() for ids in ids_of(trainer.eval_dataset)]
    assert np.unique(np.round(one_by_one, 5)).size > 50
    np.testing.assert_allclose(logits[:, 0], one_by_one, atol=1e-5)
    evaluated = trainer.evaluate()["eval_auc"]
    assert evaluated == pytest.approx(roc_auc_score(trainer.eval_dataset.targets["labels"], one_by_one))
    assert (
        trainer.predict(trainer.eval_dataset).label_ids.ravel().tolist()
        == trainer.eval_dataset.targets["labels"].tolist()
    )


def test_texts_are_scored_as_the_dataset_of_them_is(make_trainer, tokenizer):
    tokenizer.model_max_length = 64
    trainer = make_trainer(per_device_eval_batch_size=5)
    texts = [text for text, _ in make_comments(64)]
    np.testing.assert_allclose(trainer.score_texts(texts), trainer.score(trainer.eval_dataset), atol=1e-5)


@pytest.mark.parametrize("extra", [(), (torch.zeros(1),)], ids=["one element", "two elements"])
def test_a_model_that_returns_a_tuple_trains_and_scores_like_any_other(make_trainer, tiny_model, extra):
    plain, wrapped = make_trainer(), make_trainer(TupleModel(copy.deepcopy(tiny_model), extra))
    for trainer in (plain, wrapped):
        trainer.train()
    assert torch.equal(weights_of(plain), weights_of(wrapped))
    np.testing.assert_array_equal(plain.score(plain.eval_dataset), wrapped.score(wrapped.eval_dataset))


@pytest.mark.parametrize("strategy", ["random", "group_by_length"])
def test_a_run_resumed_in_mid_epoch_ends_with_the_same_weights(make_trainer, checkpoint, strategy):
    arguments = ModelArguments(str(checkpoint), config_overrides="hidden_dropout_prob=0.1")
    config, _ = load_tokenizer(arguments, 64)

    def trainer():
        set_seed(1)
        return make_trainer(
            load_model(arguments, config),
            train_sampling_strategy=strategy,
            num_train_epochs=2,
            save_strategy="steps",
            save_steps=5,
            max_tokens_per_batch="150",
        )

    whole = trainer()
    whole.train()
    resumed = trainer()
    resumed.train(resume_from_checkpoint=f"{whole.args.output_dir}/checkpoint-5")
    assert resumed.state.global_step == whole.state.global_step == 16
    assert torch.equal(weights_of(whole), weights_of(resumed))


def test_a_budget_that_was_measured_stays_what_it_was_when_a_run_is_resumed(make_trainer, caplog):
    before, resumed, smaller, asked = (make_trainer(max_tokens_per_batch=budget) for budget in ["auto"] * 3 + ["100"])
    before.data_collator.max_tokens = resumed.max_tokens - 100
    counts = before.counts()
    resumed.restore_counts(counts)
    assert resumed.max_tokens == before.max_tokens
    smaller.data_collator.max_tokens = before.max_tokens // 2
    smaller.restore_counts(counts)
    assert smaller.max_tokens == before.max_tokens // 2
    assert "will not be the same to the last bit" in caplog.text
    asked.restore_counts(counts)
    assert asked.max_tokens == 100
    assert "max_tokens" not in make_trainer().counts()


def test_the_same_seed_gives_the_same_weights(make_trainer):
    runs = []
    for seed in (1, 1, 2):
        trainer = make_trainer(seed=seed)
        trainer.train()
        runs.append(weights_of(trainer))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize(("precision", "scaled"), [("no", False), ("bf16", False), ("fp16", True)])
def test_precision_comes_from_the_accelerate_config(make_trainer, precision, scaled):
    trainer = make_trainer(precision=precision, num_train_epochs=6)
    dtypes = set()
    trainer.model.bert.encoder.layer[0].intermediate.register_forward_hook(lambda *args: dtypes.add(args[-1].dtype))
    trainer.train()
    assert trainer.accelerator.mixed_precision == precision
    assert dtypes == {{"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]}
    assert {parameter.dtype for parameter in trainer.model.parameters()} == {torch.float32}
    assert (trainer.accelerator.scaler is not None) == scaled
    if scaled:
        assert trainer.accelerator.scaler.get_scale() > 1.0
    assert trainer.score(trainer.eval_dataset).dtype == np.float32
    assert auc_of(trainer) > 0.95


@pytest.mark.parametrize(("scale", "moved"), [(2.0**10, True), (2.0**60, False)])
def test_the_gradient_scaler_passes_over_an_overflow(make_trainer, scale, moved):
    trainer = make_trainer(precision="fp16", max_steps=1)
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    before = weights_of(trainer).clone()
    trainer.train()
    assert torch.equal(before, weights_of(trainer)) != moved
    assert trainer.accelerator.scaler.get_scale() == (scale if moved else scale / 2)


def test_the_clock_of_training_stands_still_for_evaluation_and_checkpoints(make_trainer, monkeypatch):
    trainer = make_trainer(eval_strategy="epoch", save_strategy="epoch")

    def slow(*args, **kwargs):
        time.sleep(0.5)

    monkeypatch.setattr(trainer, "_save_optimizer_and_scheduler", slow)
    monkeypatch.setattr(trainer_module, "label_aucs", lambda *args: slow() or {"auc": 0.5})
    started = time.perf_counter()
    trainer.train()
    took = time.perf_counter() - started
    assert trainer.clock.seconds["checkpoint"] > 0.5
    assert trainer.clock.seconds["metrics"] > 0.5
    assert 0 < trainer.clock.seconds["training"] < took - 1.0


def test_rows_and_tokens_are_counted_without_padding(make_trainer):
    trainer = make_trainer(num_train_epochs=2, per_device_train_batch_size=12)
    trainer.train()
    assert trainer.trained_rows_and_tokens() == [2 * 64, 2 * trainer.train_dataset.lengths.sum()]


def test_progress_is_logged_where_bars_are_off(make_trainer, caplog, monkeypatch):
    monkeypatch.setattr("toxicity.training.callbacks.LogLines.SECONDS_BETWEEN_LINES", 0.0)
    trainer = make_trainer(logging_steps=4, eval_strategy="epoch")
    with caplog.at_level("INFO", logger="toxicity"):
        trainer.train()
        trainer.score(trainer.eval_dataset)
    assert "Training: step 4 of 8" in caplog.text
    assert "Scoring: batch 2 of 6" in caplog.text
    assert "Evaluation at step 8: {'eval_loss': " in caplog.text
    assert "'eval_auc': " in caplog.text


def test_choices_are_explained(make_trainer, model_of_either_kind, caplog, monkeypatch):
    monkeypatch.setattr("toxicity.hardware.precision.has_bf16_instructions", lambda: True)
    with caplog.at_level("INFO", logger="toxicity"):
        trainer = make_trainer(
            model_of_either_kind, precision="bf16", max_tokens_per_batch="auto", train_sampling_strategy="random"
        )
    assert "Computing in bf16: this processor has bf16 instructions." in caplog.text
    assert f"{torch.get_num_threads()} threads for " in caplog.text
    assert f"attention: {'packed' if trainer.layout.packed else 'sdpa'}; adamw" in caplog.text
    how = "without padding" if trainer.layout.packed else "padded to the longest of a batch"
    assert f"{how}, at most 16,384 tokens at a time" in caplog.text
    assert ("group_by_length is faster" in caplog.text) is not trainer.layout.packed
    with caplog.at_level("INFO", logger="toxicity"):
        trainer = make_trainer(precision="no")
    assert "`mixed_precision: bf16` is the better choice here" in caplog.text
    caplog.clear()
    trainer.layout = replace(trainer.layout, packed=True, grouping="similar")
    with caplog.at_level("INFO", logger="toxicity"):
        trainer._log_choices()
    assert "Comments are computed padded to the longest of each group of similar length;" in caplog.text


def test_noise_in_the_embeddings_reaches_models_of_either_kind(make_trainer, model_of_either_kind):
    weights = []
    for alpha in (None, 50.0):
        set_seed(0)
        trainer = make_trainer(copy.deepcopy(model_of_either_kind), max_steps=2, neftune_noise_alpha=alpha)
        trainer.train()
        weights.append(weights_of(trainer))
    assert not torch.equal(*weights)
    assert weights[1].isfinite().all()
