"""Read models and tokenizers that somebody else may have made: weights from safetensors only, and no code of theirs."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_NAME
from transformers.utils import logging as transformers_logging

from toxicity.core.errors import RequestError, one_line

if TYPE_CHECKING:  # the code of models takes seconds to import, and a tokenizer needs none of it
    from transformers import PreTrainedModel

PICKLE_ENDINGS = ("bin", "pt", "pth", "ckpt", "pkl")
# Otherwise transformers has a bot on the Hub convert pickled weights, and uses the result, which nobody has reviewed.
os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "true"

# In these models positions begin at `pad_token_id + 1`, so the first of their `max_position_embeddings` are never used.
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

logger = logging.getLogger(__name__)


@contextmanager
def load_errors_explained(name: str, advice: str = "") -> Iterator[None]:
    """Turn any error while a model is loaded into a `RequestError` of one line that ends with the advice."""
    try:
        yield
    except RequestError:
        raise
    except Exception as error:  # the type depends on which file is missing or damaged, and on the library that reads it
        hints = [_conversion(name)] if SAFE_WEIGHTS_NAME in str(error) else []
        parts = [f"cannot load {name}: {type(error).__name__}: {one_line(error)}", *hints, advice]
        raise RequestError(" ".join(filter(None, parts))) from error


def load_config_and_tokenizer(name: str, revision: str) -> tuple[PreTrainedConfig, PreTrainedTokenizerFast]:
    """Read a model's config and its fast tokenizer.

    Raises:
        RequestError: if the model has no fast tokenizer.
        Exception: whatever transformers raises for missing or damaged files; see `load_errors_explained`.
    """
    config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, use_fast=True, trust_remote_code=False)
    if not tokenizer.is_fast:
        raise RequestError(f"{name} has no fast tokenizer; choose a model that has.")
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
        padding_free: whether to use this package's class that computes without padding, if there is one for the config.

    Raises:
        RequestError: if the weights are pickled, or lack some parts of the model other than a new head.
        Exception: whatever transformers raises for missing or damaged files; see `load_errors_explained`.
    """
    from transformers import AutoModelForSequenceClassification

    from toxicity.models.padding_free import PACKED_ATTENTION, padding_free_class

    refuse_pickled_weights(name)
    own_class = padding_free_class(config) if padding_free else None
    verbosity = transformers_logging.get_verbosity()
    if new_head:
        # The library's own report on missing weights would alarm readers about it; the checks below replace it.
        transformers_logging.set_verbosity_error()
    try:
        model, loading = (own_class or AutoModelForSequenceClassification).from_pretrained(
            name,
            revision=revision,
            config=config,
            dtype=torch.float32,
            attn_implementation=PACKED_ATTENTION if own_class else None,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=new_head,
        )
    finally:
        transformers_logging.set_verbosity(verbosity)
    missing = sorted(loading["missing_keys"])
    if missing and not new_head:
        raise RequestError(
            f"{name} has no weights for {', '.join(missing[:4])}: it was not trained to classify comments. Train it, "
            "or name a model that was."
        )
    if untrained := [key for key in missing if key.startswith(f"{model.base_model_prefix}.")]:
        logger.warning(
            f"{name} lacks {len(untrained)} weights of the encoder, which start at random: {', '.join(untrained[:4])}"
        )
    return model


def length_limit(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """The largest number of tokens that a model has positions for; a huge number if neither argument names a limit."""
    positions = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
    if config.model_type in POSITIONS_AFTER_PADDING:
        positions -= config.pad_token_id + 1
    return min(positions, tokenizer.model_max_length)


def max_seq_length_of(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """The number of tokens to truncate comments to: that of the training run, else as many as the model can take.

    Raises:
        AttributeError, TypeError, ValueError: if the section `toxicity` of the config is not one of this package.
    """
    of_run = (getattr(config, "toxicity", None) or {}).get("max_seq_length")
    limit = length_limit(config, tokenizer)
    # A tokenizer without a length limit reports a far larger number than a million.
    return int(of_run or (limit if limit < 1_000_000 else 512))


def refuse_pickled_weights(name_or_path: str | Path) -> None:
    """Raise a `RequestError` for a folder whose weights are a pickle, which can contain code that runs on reading."""
    folder = Path(name_or_path)
    # The Trainer prefers an unsharded pickle to sharded safetensors.
    sharded = (folder / SAFE_WEIGHTS_INDEX_NAME).is_file() and not (folder / WEIGHTS_NAME).is_file()
    if not folder.is_dir() or sharded or (folder / SAFE_WEIGHTS_NAME).is_file():
        return
    pickles = [path.name for ending in PICKLE_ENDINGS for path in sorted(folder.glob(f"*model*.{ending}"))]
    if pickles:
        raise RequestError(
            f"{folder} holds its weights as a pickle ({pickles[0]}), which can run code when it is read. "
            f"{_conversion(str(folder))}"
        )


def _conversion(name: str) -> str:
    """Advice on how to convert pickled weights, with the command."""
    target = f"{name if Path(name).is_dir() else Path(name).name}-safetensors"
    code = (
        "from transformers import AutoModel, AutoTokenizer; "
        f"AutoModel.from_pretrained('{name}').save_pretrained('{target}'); "
        f"AutoTokenizer.from_pretrained('{name}').save_pretrained('{target}')"
    )
    return f'If you trust them, convert pickled weights first, where it can do no harm: python -c "{code}"'
