"""Options that change what is learnt: auxiliary targets, weights, learning rates, passes, other models."""

import copy

import numpy as np
import pytest
import torch
from datasets import Dataset
from packed_models import packed_bert
from training_steps import auc_of, dataset_of, ids_of, weights_of
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    RobertaConfig,
    pipeline,
)

from toxicity.core.arguments import ModelArguments, ObjectiveArguments
from toxicity.core.errors import RequestError
from toxicity.core.schema import IDENTITIES, SUBTYPES
from toxicity.data.token_dataset import TokenRows
from toxicity.evaluation.metrics import ToxicityMetric
from toxicity.models.classifier import load_model, load_tokenizer, with_labels
from toxicity.training.targets import objective_of


def test_auxiliary_targets_teach_and_are_not_kept(make_trainer, model_of_three, tmp_path):
    trainer = make_trainer(
        copy.deepcopy(model_of_three), auxiliary=("insult", "male"), num_train_epochs=6, learning_rate=3e-3
    )
    trainer.train()
    teaching = trainer.model(torch.tensor([ids_of(trainer.eval_dataset)[0]])).logits
    assert teaching.shape == (1, 3)
    assert (teaching - model_of_three(torch.tensor([ids_of(trainer.eval_dataset)[0]])).logits).abs().min() > 0.1
    assert auc_of(trainer) > 0.9
    trainer.save_model()
    config = AutoConfig.from_pretrained(tmp_path / "run")
    assert (config.num_labels, config.id2label, config.architectures) == (
        1,
        {0: "toxic"},
        ["BertForSequenceClassification"],
    )
    saved = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run").eval()
    row = ids_of(trainer.eval_dataset)[0]
    assert saved(torch.tensor([row])).logits.item() == pytest.approx(
        trainer.score(trainer.eval_dataset)[0, 0], abs=1e-5
    )
    assert trainer.model.config.num_labels == 3
    classify = pipeline("text-classification", str(tmp_path / "run"))
    assert classify("you stupid liar")[0]["label"] == "toxic"


def biased_comments(rows, seed):
    """Columns of comments of which more are toxic where a man is mentioned; of their other words more are then mean."""
    rng = np.random.default_rng(seed)
    man = rng.random(rows) < 0.3
    toxic = rng.random(rows) < np.where(man, 0.6, 0.15)
    mean_words = rng.random((rows, 8)) < np.where(toxic, 0.5, 0.25)[:, None]
    texts = [
        " ".join([*np.where(words, "stupid", "kind"), "man" if mentioned else "note"])
        for words, mentioned in zip(mean_words, man, strict=True)
    ]
    columns = {name: np.zeros(rows) for name in (*SUBTYPES, *IDENTITIES)}
    return columns | {"text": texts, "target": toxic * 1.0, "male": man * 1.0, "insult": toxic * 0.8}


def test_weights_and_auxiliary_targets_trade_bnsp_for_more_of_bpsn(make_trainer, tiny_config, tokenizer):
    def bias_after_training(arguments):
        train, unseen = (Dataset.from_dict(biased_comments(2000, seed)) for seed in (0, 1))
        objective = objective_of(train, arguments)
        tokens, unseen_tokens = (
            dataset_of(tokenizer, zip(split["text"], split["target"], strict=True)) for split in (train, unseen)
        )
        torch.manual_seed(0)
        config = with_labels(tiny_config, ("toxic", *objective.names))
        trainer = make_trainer(
            packed_bert(config),
            dataset=tokens,
            objective=objective,
            per_device_train_batch_size=32,
            num_train_epochs=3,
        )
        trainer.train()
        return ToxicityMetric().compute(
            predictions=trainer.score(TokenRows(unseen_tokens)).ravel(),
            references=np.array(unseen["target"]),
            identities={"male": np.array(unseen["male"])},
        )["bias"]["identities"]["male"]

    plain = bias_after_training(ObjectiveArguments())
    fair = bias_after_training(ObjectiveArguments(identity_weights="any", auxiliary_targets=["subtypes", "identities"]))
    assert fair["bpsn_auc"] > plain["bpsn_auc"] + 0.05
    assert plain["bnsp_auc"] - 0.03 < fair["bnsp_auc"] < plain["bnsp_auc"]
    assert fair["subgroup_auc"] == pytest.approx(plain["subgroup_auc"], abs=0.01)


def test_training_with_auxiliary_targets_goes_on_where_it_was(make_trainer, model_of_three, tmp_path):
    options = {"auxiliary": ("insult", "male"), "layerwise_lr_decay": 0.5, "save_strategy": "steps"}
    whole = make_trainer(copy.deepcopy(model_of_three), **options, save_steps=3)
    whole.train()
    again = make_trainer(copy.deepcopy(model_of_three), **options, save_steps=100)
    again.train(str(tmp_path / "run" / "checkpoint-3"))
    assert torch.equal(weights_of(whole), weights_of(again))
    np.testing.assert_array_equal(whole.score(whole.eval_dataset), again.score(again.eval_dataset))


def test_it_stops_when_the_auc_gets_no_better(make_trainer):
    trainer = make_trainer(num_train_epochs=9, early_stopping_patience=2, learning_rate=0.0)
    trainer.train()
    assert trainer.state.epoch == 3
    assert trainer.state.best_metric == pytest.approx(auc_of(trainer))


def test_patience_goes_on_where_it_was(make_trainer, tmp_path):
    make_trainer(num_train_epochs=2, early_stopping_patience=3, learning_rate=0.0).train()
    again = make_trainer(num_train_epochs=9, early_stopping_patience=3, learning_rate=0.0)
    again.train(str(tmp_path / "run" / "checkpoint-16"))
    assert again.state.epoch == 4


def test_the_rate_of_the_head_is_the_one_that_is_asked_for(make_trainer):
    trainer = make_trainer(layerwise_lr_decay=0.5, lr_scheduler_type="constant", logging_steps=1)
    trainer.train()
    assert {entry["learning_rate"] for entry in trainer.state.log_history if "loss" in entry} == {1e-3}
    assert {group["lr"] for group in trainer.optimizer.param_groups} == {1e-3, 5e-4, 2.5e-4, 1.25e-4}


def test_later_epochs_train_on_fewer_civil_comments(make_trainer):
    # 16 toxic and 48 civil comments: 64 and then twice 16 + 12.
    trainer = make_trainer(num_train_epochs=3, later_negatives=0.25)
    trainer.train()
    assert trainer.state.global_step == (64 + 2 * 28) / 8
    assert trainer.trained_rows_and_tokens()[0] == 64 + 2 * 28


def test_the_bias_of_the_head_begins_at_the_log_odds(checkpoint):
    arguments = ModelArguments(str(checkpoint))
    config, _ = load_tokenizer(arguments, 32)
    model = load_model(arguments, config, ("insult",), np.array([0.2, 0.5]))
    np.testing.assert_allclose(model.classifier.bias.detach(), [np.log(0.25), 0], atol=1e-6)
    assert model.config.id2label == {0: "toxic", 1: "insult"}


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


OTHER_MODELS = {
    # Positions are counted from behind the padding id.
    "RoBERTa": RobertaConfig(**SMALL, max_position_embeddings=66, type_vocab_size=1),
    "DeBERTa-v3": DebertaV2Config(
        **SMALL,
        relative_attention=True,
        position_buckets=8,
        pos_att_type=["p2c", "c2p"],
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        position_biased_input=False,
        max_position_embeddings=64,
        pooler_hidden_size=32,
    ),
    "ModernBERT": ModernBertConfig(**SMALL, max_position_embeddings=64, local_attention=16),
    "DistilBERT": DistilBertConfig(dim=32, hidden_dim=64, n_layers=2, n_heads=2, max_position_embeddings=64),
    "ELECTRA": ElectraConfig(**SMALL, embedding_size=16, max_position_embeddings=64),
}


@pytest.mark.parametrize("name", OTHER_MODELS)
def test_other_models_train_and_score_as_alone(make_trainer, tmp_path, tokenizer, name):
    config = copy.deepcopy(OTHER_MODELS[name])
    config.vocab_size, config.pad_token_id = len(tokenizer), tokenizer.pad_token_id
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(tmp_path / name)
    tokenizer.save_pretrained(tmp_path / name)
    arguments = ModelArguments(str(tmp_path / name))
    config, _ = load_tokenizer(arguments, 64)
    model = load_model(arguments, config, ("insult",), np.array([0.25, 0.5]))
    trainer = make_trainer(
        model,
        auxiliary=("insult",),
        num_train_epochs=4,
        layerwise_lr_decay=0.9,
        train_sampling_strategy="random",
    )
    before = auc_of(trainer)
    trainer.train()
    assert auc_of(trainer) > max(before, 0.7)
    scores = trainer.score(trainer.eval_dataset)
    trainer.save_model()
    saved = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run").eval()
    with torch.no_grad():
        alone = [saved(torch.tensor([ids])).logits.item() for ids in ids_of(trainer.eval_dataset)]
    np.testing.assert_allclose(scores[:, 0], alone, atol=1e-4)


def test_a_model_that_overflows_is_not_trained_in_fp16(tmp_path, tokenizer):
    config = copy.deepcopy(OTHER_MODELS["DeBERTa-v3"])
    config.vocab_size = len(tokenizer)
    AutoModel.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    for precision in ("no", "bf16"):
        load_tokenizer(ModelArguments(str(tmp_path)), 32, precision)
    with pytest.raises(RequestError, match="fp16 .*--mixed_precision no"):
        load_tokenizer(ModelArguments(str(tmp_path)), 32, "fp16")
