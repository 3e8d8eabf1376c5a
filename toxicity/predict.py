"""Score comments with a trained model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import tokenizers
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from toxicity.batching import PaddingCollator, longest_first
from toxicity.console import printable
from toxicity.errors import RequestError
from toxicity.modeling import logits_of
from toxicity.tokenization import encode

ROWS_PER_BATCH = 32


class Scorer:
    """A trained model as a function: `Scorer(DIR)(["text", …])` gives calibrated probabilities of toxicity.

    `temperature` divides the logits before the sigmoid, `threshold` is the score from which a comment is called
    toxic, and `thresholds` holds one for each precision target that a threshold reached when the model was
    validated, keyed `"0.8"` and so on. All three, and `max_seq_length` (tokens), are what the run wrote to the
    model's `config.json`; for a model of somebody else they are 1, 0.5, empty, and the tokenizer's limit.

    Args:
        model_name_or_path: folder of a run, or a model on the Hub, with one label; of several the one called
            `toxic` or `toxicity` is taken. Of two that exclude each other it is the difference of their logits.
        revision: branch, tag or commit on the Hub.
        device: what to compute on, by default the accelerator if there is one.

    Raises:
        RequestError: for a model that cannot be loaded, or does not say which of its labels is toxicity.
    """

    def __init__(
        self, model_name_or_path: str, revision: str = "main", device: str | torch.device | None = None
    ) -> None:
        try:
            config = AutoConfig.from_pretrained(model_name_or_path, revision=revision)
            tokenizer = AutoTokenizer.from_pretrained(model_name_or_path, revision=revision, use_fast=True)
            model = AutoModelForSequenceClassification.from_pretrained(
                model_name_or_path, revision=revision, dtype=torch.float32, use_safetensors=True
            )
        except (OSError, ValueError) as error:
            raise RequestError(
                f"cannot load {model_name_or_path}: {str(error).splitlines()[0]} "
                "Name a folder that a run left, or a model on the Hub."
            ) from error
        if not tokenizer.is_fast:
            raise RequestError(f"{model_name_or_path} has no fast tokenizer; choose a model that has.")
        try:
            settings = getattr(config, "toxicity", None) or {}
            self.temperature = float(settings.get("temperature", 1.0))
            self.threshold = float(settings.get("threshold", 0.5))
            self.thresholds = {str(float(target)): float(t) for target, t in settings.get("thresholds", {}).items()}
            self.max_seq_length = int(settings.get("max_seq_length") or _length_limit(config, tokenizer))
        except (AttributeError, TypeError, ValueError) as error:
            raise RequestError(
                f"what the config.json of {model_name_or_path} holds under `toxicity` cannot be read: take it out."
            ) from error
        self._label = _toxic_label(config, model_name_or_path)
        self._two_classes = config.num_labels == 2 and config.problem_type != "multi_label_classification"
        self._backend = tokenizers.Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._backend.no_padding()
        self._backend.enable_truncation(self.max_seq_length, direction=tokenizer.truncation_side)
        self._id_type = np.min_scalar_type(max(self._backend.get_vocab().values()))
        self._collate = PaddingCollator(tokenizer.pad_token_id)
        self.device = torch.device(device or torch.accelerator.current_accelerator() or "cpu")
        self._model = model.eval().to(self.device)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Calibrated probabilities of toxicity, float64 `(rows,)`, in the order of `texts`."""
        return 1.0 / (1.0 + np.exp(-self.logits(texts).astype(np.float64) / self.temperature))

    @torch.inference_mode()
    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Logits of toxicity, float32 `(rows,)`, in the order of `texts`; the `pipeline` gives their sigmoid."""
        logits = np.empty(len(texts), dtype=np.float32)
        if not len(texts):
            return logits
        encoded, _ = encode(list(texts), self._backend, self._id_type)
        rows = encoded.column("input_ids").to_pylist()
        order = longest_first(encoded.column("length").to_numpy())
        for start in range(0, len(order), ROWS_PER_BATCH):
            batch = order[start : start + ROWS_PER_BATCH]
            inputs = self._collate([{"input_ids": rows[row], "labels": 0.0} for row in batch])
            del inputs["labels"]
            outputs = self._model(**{name: tensor.to(self.device) for name, tensor in inputs.items()})
            logits[batch] = self._toxicity(logits_of(outputs).float()).cpu().numpy()
        return logits

    def _toxicity(self, logits: torch.Tensor) -> torch.Tensor:
        toxic = logits[:, self._label]
        # The sigmoid of the difference is the softmax over both.
        return toxic - logits[:, 1 - self._label] if self._two_classes else toxic


def _length_limit(config: object, tokenizer: object) -> int:
    limit = min(getattr(config, "max_position_embeddings", math.inf), tokenizer.model_max_length)
    return 512 if limit > 1_000_000 else limit


def _toxic_label(config: object, name: str) -> int:
    """Which of the model's logits is toxicity's."""
    if config.num_labels == 1:
        return 0
    for label in ("toxic", "toxicity"):
        for index, known in config.id2label.items():
            if known.lower() == label:
                return int(index)
    raise RequestError(
        f"{name} has the labels {printable(', '.join(config.id2label.values()))}; none is called `toxic`."
    )
