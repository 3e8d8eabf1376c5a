"""What the benchmarks share: the sample's tokenizer and comments, and a model too small to be noticed."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from toxicity.core.arguments import SAMPLE_RECIPE, DataArguments, ModelArguments
from toxicity.models.classifier import SAMPLE_MODEL, load_tokenizer

# That of the published protocol.
MAX_SEQ_LENGTH = 220


def sample_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of the sample's model."""
    return load_tokenizer(ModelArguments(SAMPLE_MODEL), MAX_SEQ_LENGTH)[1]


def recipe_data() -> DataArguments:
    """The comments that the sample recipe trains and validates on."""
    recipe = yaml.safe_load(SAMPLE_RECIPE.read_text(encoding="utf-8"))
    return DataArguments(**{name: recipe[name] for name in ("dataset_name", "max_train_samples", "max_eval_samples")})


def tiny_bert(vocab_size: int) -> BertConfig:
    """Config of a model whose time and memory are negligible, to measure what is around the model."""
    return BertConfig(
        vocab_size=vocab_size,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        num_labels=1,
        problem_type="multi_label_classification",
    )


def save_tiny_model(folder: Path) -> Path:
    """Save a model of that config with the sample's tokenizer, and return the folder."""
    tokenizer = sample_tokenizer()
    torch.manual_seed(0)
    BertForSequenceClassification(tiny_bert(len(tokenizer))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
