"""Read models and tokenizers that somebody else may have made: weights from safetensors only, and no code of theirs."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_INDEX_NAME, WEIGHTS_NAME
from transformers.utils import logging as transformers_logging

from toxicity.core.errors import RequestError, one_line
from toxicity.models.packing import first_position

if TYPE_CHECKING:  # the code of models takes seconds to import, and a tokenizer needs none of it
    from transformers import PreTrainedModel

PICKLE_ENDINGS = ("bin", "pt", "pth", "ckpt", "pkl")
# Otherwise transformers has a bot on the Hub convert pickled weights, and uses the result, which nobody has reviewed.
os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "true"

# What lies in the folders of other libraries' models → what such a folder is, and what to do with it.
MODELS_OF_OTHERS = {
    "adapter_config.json": "is a PEFT adapter without the model that it adapts: merge the two with PEFT's "
    "`merge_and_unload()`, save the result and its tokenizer with `save_pretrained`, and name that folder",
    "model_head.pkl": "is a SetFit model, whose head is a pickle of scikit-learn: train a classifier from its encoder "
    "with run_toxicity.py --model_name_or_path, and name that one",
    "modules.json": "is an encoder of sentence-transformers, without a head that classifies: train one from it with "
    "run_toxicity.py --model_name_or_path, and name that one",
    "tf_model.h5": "holds weights of TensorFlow, which transformers no longer reads: convert them with a transformers "
    "before 5, by from_pretrained(..., from_tf=True) and save_pretrained",
    "flax_model.msgpack": "holds weights of Flax, which transformers no longer reads: convert them with a transformers "
    "before 5, by from_pretrained(..., from_flax=True) and save_pretrained",
    "*.ftz": "is a model of fastText, and not of transformers: name a folder with a config.json",
    "*.gguf": "is a model for llama.cpp, and not of transformers: name a folder with a config.json",
}
FASTTEXT_BEGINS = b"\xba\x16\x4f\x2f"

# Model types that were pretrained in bf16 or fp32, and of which some overflow in fp16 (microsoft/DeBERTa issue 77).
OVERFLOW_IN_FP16 = ("deberta", "deberta-v2", "t5", "mt5", "umt5")

logger = logging.getLogger(__name__)


@contextmanager
def load_errors_explained(name: str, advice: str = "") -> Iterator[None]:
    """Turn any error while a model is loaded into a `RequestError` of one line that ends with the advice."""
    try:
        yield
    except RequestError:
        raise
    except Exception as error:  # the type depends on which file is missing or damaged, and on the library that reads it
        path = Path(name)
        # Otherwise it is a model of transformers, and something in it is damaged.
        is_incomplete = not (path / "config.json").is_file() or not any(path.glob("model*.safetensors"))
        if is_incomplete and (of_others := _model_of_others(path)):
            raise RequestError(f"{name} {of_others}.") from error
        message = f"cannot load {name}: {type(error).__name__}: {one_line(error)} {advice}"
        raise RequestError(message.rstrip()) from error


def load_config_and_tokenizer(name: str, revision: str) -> tuple[PreTrainedConfig, PreTrainedTokenizerFast]:
    """Read a model's config and its fast tokenizer.

    Raises:
        RequestError: if the model has no fast tokenizer, or none at all.
        Exception: whatever transformers raises for missing or damaged files; see `load_errors_explained`.
    """
    config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
    no_tokenizer = (
        f"{name} has no tokenizer that can be read (a pickled one is not): save the one that the model was trained "
        "with into its folder, AutoTokenizer.from_pretrained(ORIGINAL).save_pretrained(FOLDER)."
    )
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, use_fast=True, trust_remote_code=False)
    except ValueError as error:
        if "backend tokenizer" not in str(error):
            raise
        raise RequestError(no_tokenizer) from error
    if not tokenizer.is_fast:
        raise RequestError(f"{name} has no fast tokenizer; choose a model that has.")
    # Where there are no files of one, transformers makes a tokenizer of the right kind that knows no words.
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise RequestError(no_tokenizer)
    return config, tokenizer


def load_classifier(
    name: str, revision: str, config: PreTrainedConfig, new_head: bool = False, padding_free: bool = True
) -> PreTrainedModel:
    """Read a model's weights, as fp32 whatever their type in the file, into a sequence classifier.

    Args:
        name: folder of a model, or its id on the Hub.
        revision: branch, tag or commit on the Hub.
        new_head: whether the classification head may be initialised at random, from torch's global generator, where the
            weights have none or one for other labels.
        padding_free: whether to extend the model to batches without padding, if that is known of its kind.

    Raises:
        RequestError: if the weights are pickled, or lack some parts of the model other than a new head.
        Exception: whatever transformers raises for missing or damaged files; see `load_errors_explained`.
    """
    # Here, as the code of models takes seconds to import.
    from transformers import AutoModelForSequenceClassification

    from toxicity.models.output_layer import compute_logits_in_fp32
    from toxicity.models.padding_free import can_be_packed, make_padding_free

    refuse_pickled_weights(name)
    verbosity = transformers_logging.get_verbosity()
    if new_head:
        # The library's own report on missing weights would alarm readers about it; the checks below replace it.
        transformers_logging.set_verbosity_error()
    try:
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            name,
            revision=revision,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=new_head,
        )
    except OSError as error:
        # What lies in a folder was seen before.
        if SAFE_WEIGHTS_NAME not in str(error) or Path(name).exists():
            raise
        conversion = _conversion(name, {"architectures": config.architectures}, revision)
        raise RequestError(f"cannot load {name}: OSError: {one_line(error)} {conversion}") from error
    finally:
        transformers_logging.set_verbosity(verbosity)
    missing = sorted(loading["missing_keys"])
    if missing and not new_head:
        if of_others := _model_of_others(Path(name)):
            raise RequestError(f"{name} {of_others}.")
        raise RequestError(
            f"{name} has no weights for {', '.join(missing[:4])}: it was not trained to classify comments. Train it, "
            "or name a model that was."
        )
    if untrained := [key for key in missing if key.startswith(f"{model.base_model_prefix}.")]:
        logger.warning(
            f"{name} lacks {len(untrained)} weights of the encoder, which start at random: {', '.join(untrained[:4])}"
        )
    if padding_free and can_be_packed(config):
        make_padding_free(model)
    elif padding_free:
        compute_logits_in_fp32(model)
    return model


def length_limit(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """The largest number of tokens that a model has positions for; a huge number if neither argument names a limit."""
    positions = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
    return min(positions - first_position(config), tokenizer.model_max_length)


def max_seq_length_of(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """The number of tokens to truncate comments to: that of the training run, else as many as the model can take.

    Raises:
        AttributeError, TypeError, ValueError: if the section `toxicity` of the config is not one of this package.
    """
    of_run = (getattr(config, "toxicity", None) or {}).get("max_seq_length")
    limit = length_limit(config, tokenizer)
    # A tokenizer without a length limit reports a far larger number than a million.
    return int(of_run or (limit if limit < 1_000_000 else 512))


def refuse_fp16(config: PreTrainedConfig, name: str, fix: str) -> None:
    """Raise a `RequestError` for a model that overflows in fp16; the message ends with the fix, and bf16 beside it."""
    if config.model_type in OVERFLOW_IN_FP16:
        raise RequestError(
            f"{name} is of the kind {config.model_type}, whose numbers can grow past what fp16 holds: {fix}, or in "
            "bf16 on a card that has it."
        )


def refuse_pickled_weights(name_or_path: str | Path) -> None:
    """Raise a `RequestError` for a folder whose weights are a pickle, which can contain code that runs on reading."""
    folder = Path(name_or_path)
    # The Trainer prefers an unsharded pickle to sharded safetensors.
    sharded = (folder / SAFE_WEIGHTS_INDEX_NAME).is_file() and not (folder / WEIGHTS_NAME).is_file()
    if not folder.is_dir() or sharded or (folder / SAFE_WEIGHTS_NAME).is_file():
        return
    pickles = [path.name for ending in PICKLE_ENDINGS for path in sorted(folder.glob(f"*model*.{ending}"))]
    if not pickles:
        return
    message = f"{folder} holds its weights as a pickle ({pickles[0]}), which can run code when it is read. "
    if not any((folder / name).is_file() for name in (WEIGHTS_NAME, WEIGHTS_INDEX_NAME)):
        raise RequestError(
            f"{message}If you trust it, read it with the program that wrote it, and save the model with "
            "`save_pretrained`, which writes safetensors."
        )
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = {}
    raise RequestError(message + _conversion(str(folder), config if isinstance(config, dict) else {}))


def _conversion(name: str, config: Mapping[str, Any], revision: str = "main") -> str:
    """Advice on how to convert pickled weights, with the command; a classifier keeps its head."""
    architectures = config.get("architectures") or []
    # Without the name of its class, labels of its own tell a classifier.
    is_classifier = any(str(kind).endswith("ForSequenceClassification") for kind in architectures) or (
        not architectures and bool(config.get("problem_type") or "id2label" in config)
    )
    model = "AutoModelForSequenceClassification" if is_classifier else "AutoModel"
    source = repr(name) if revision == "main" else f"{name!r}, revision={revision!r}"
    target = repr(f"{name if Path(name).is_dir() else Path(name).name}-safetensors")
    code = (
        f"from transformers import {model}, AutoTokenizer; "
        f"{model}.from_pretrained({source}).save_pretrained({target}); "
        f"AutoTokenizer.from_pretrained({source}).save_pretrained({target})"
    )
    # Plain where a shell takes it as it stands.
    command = shlex.quote(code) if re.search(r'["$`\\!]', code) else f'"{code}"'
    return f"If you trust them, convert pickled weights first, where it can do no harm: python -c {command}"


def _model_of_others(path: Path) -> str | None:
    """What a path that holds no model of transformers is, as the end of a sentence; None if that is not known."""
    if path.is_dir():
        return next((what for pattern, what in MODELS_OF_OTHERS.items() if any(path.glob(pattern))), None)
    if path.is_file():
        with path.open("rb") as file:
            fasttext = file.read(len(FASTTEXT_BEGINS)) == FASTTEXT_BEGINS
        kind = "*.ftz" if fasttext else f"*{path.suffix}"
        return MODELS_OF_OTHERS.get(kind, "is a file: name the folder that it lies in, with its config.json")
    return None
