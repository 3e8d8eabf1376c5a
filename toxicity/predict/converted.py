"""Models of transformers converted to OpenVINO, once: they are kept in the cache of Hugging Face's libraries."""

from __future__ import annotations

import json
import logging
import os
import shutil
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from filelock import FileLock
from huggingface_hub import constants
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from toxicity.core.errors import RequestError, one_line
from toxicity.core.files import digest, folder_written_whole, write_text
from toxicity.predict.export.conversion import to_openvino
from toxicity.predict.openvino_runtime import OpenVinoModel, import_openvino

if TYPE_CHECKING:
    import openvino

# To be raised when `to_openvino` changes its result, so that older models are not used.
CACHE_FORMAT = 2
CONVERTING_PACKAGES = ("openvino", "transformers", "torch")
# Entries of a config that change nothing of what is converted.
NO_ARITHMETIC = ("_name_or_path", "toxicity")
# Those that were used last; each is as large as the model's weights in fp32.
MODELS_KEPT = 8
# The conversion is tried on batches of two shapes that it did not see: short, and as long as this at most.
LONGEST_TRIED = 1_024
TOLERANCE = 1e-3

logger = logging.getLogger(__name__)


def converted(
    classifier: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, weights_digest: str, longest: int
) -> openvino.Model:
    """A classifier in OpenVINO in fp32: from the cache, or converted now and kept there.

    The cache is the folder `toxicity/openvino` in `HF_ASSETS_CACHE`. Its key is a digest of weights, config and the
    versions of what converts. A model appears in it when it is complete; a second process that wants the same model
    waits for the first. Where the cache cannot be written, the model is converted in memory. Why a model cannot be
    converted is kept as well, in `KEY.txt`, so that the time is lost once.

    Args:
        classifier: in evaluation mode and not `padding_free`.
        weights_digest: of its weights.
        longest: most tokens that it will be given.

    Raises:
        RequestError: if OpenVINO is not installed, or cannot compute the model, with the reason.
    """
    openvino = import_openvino()
    versions = " ".join(f"{package} {version(package)}" for package in CONVERTING_PACKAGES)
    # Without calibration and thresholds, which do not change the logits.
    config = {name: value for name, value in classifier.config.to_dict().items() if name not in NO_ARITHMETIC}
    key = digest([f"{CACHE_FORMAT} {versions} {weights_digest} {json.dumps(config, sort_keys=True)}".encode()])
    cache = Path(constants.HF_ASSETS_CACHE) / "toxicity" / "openvino"
    path = cache / key / "openvino_model.xml"
    failure = path.parent.with_suffix(".txt")
    if (model := _read(path, failure)) is not None:
        return model
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / ".lock"):
            if (model := _read(path, failure)) is not None:
                return model
            logger.info(f"Converting the model to OpenVINO, once: it is kept in {path.parent}")
            try:
                model = _convert(classifier, tokenizer, longest)
            except RequestError as error:
                with suppress(OSError):
                    write_text(failure, str(error))
                raise
            with folder_written_whole(path.parent) as unfinished:
                openvino.save_model(model, unfinished / path.name, compress_to_fp16=False)
            _remove_oldest(cache)
            # From the file, so that the weights need not stay in memory beside those that OpenVINO makes of them.
            return _read(path, failure) or model
    except (OSError, RuntimeError) as error:  # the latter where OpenVINO cannot write
        logger.info(f"Converting the model to OpenVINO in memory: {cache} cannot be used ({one_line(error)}).")
        return _convert(classifier, tokenizer, longest) if model is None else model


def _read(path: Path, failure: Path) -> openvino.Model | None:
    """A model of the cache; None if it is not there, is damaged, or is removed at this moment.

    Raises:
        RequestError: if it could not be converted before, with the reason.
    """
    with suppress(OSError):
        raise RequestError(f"{failure.read_text(encoding='utf-8')} To try again, remove {failure}.")
    if not path.is_file():
        return None
    with suppress(OSError):
        os.utime(path.parent)
    try:
        return import_openvino().Core().read_model(path)
    except RuntimeError:
        return None


def _remove_oldest(cache: Path) -> None:
    """Remove the models that were not used for longest, and what a process that was killed left unfinished."""
    by_age = sorted((path for path in cache.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for path in by_age[:-MODELS_KEPT]:
        shutil.rmtree(path, ignore_errors=True)


def _convert(classifier: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, longest: int) -> openvino.Model:
    try:
        model = to_openvino(classifier, tokenizer)
        difference = _difference(classifier, model, min(longest, LONGEST_TRIED))
    except Exception as error:  # of any type: whatever the exporter or the tracer stumbles over
        reason = f"{type(error).__name__}: {one_line(error)}"
    else:
        if difference <= TOLERANCE:  # not NaN either
            return model
        reason = f"its logits would differ by {difference:.2g}"
    raise RequestError(f"OpenVINO cannot compute this model ({classifier.config.model_type}; {reason}).")


def _difference(classifier: PreTrainedModel, model: openvino.Model, longest: int) -> float:
    """The largest difference of a logit, as a part of the largest logit if that is above 1."""
    found = OpenVinoModel(model, classifier.config.num_labels, "no")
    largest = torch.zeros(())
    for rows, places in ((3, 5), (1, longest)):
        ids = torch.arange(rows * places).reshape(rows, places) % classifier.config.vocab_size
        mask = torch.ones_like(ids)
        mask[1:, places // 2 :] = 0
        with torch.inference_mode():
            expected = classifier(input_ids=ids, attention_mask=mask).logits.float()
        difference = (found(ids, mask) - expected).abs().max() / expected.abs().max().clamp(min=1)
        largest = torch.maximum(largest, difference)  # NaN if either is
    return float(largest)
