"""A trained model as a function: texts in, calibrated probabilities out, in their order."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import tokenizers
import torch
import xxhash
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
)

from toxicity.console import printable
from toxicity.cpu import use_faster_layers
from toxicity.errors import RequestError
from toxicity.hardware import fastest_precision
from toxicity.modeling import refuse_pickled_weights
from toxicity.schema import NAMES, SUBTYPES
from toxicity.scoring import score_rows
from toxicity.token_rows import TokenRows
from toxicity.tokenization import ROWS_PER_BATCH, encode
from toxicity.unpadded import PACKED_ATTENTION, layout_for, unpadded_class

ONNX_FILE = "model.onnx"

# Padding counted in. A processor is fastest while a batch stays in its cache, an accelerator when it is busy.
TOKENS_PER_BATCH_ON_CPU = 1_024
TOKENS_PER_BATCH = 65_536


class Scorer:
    """A trained model as a function: `Scorer(DIR)(["text", …])` gives calibrated probabilities of toxicity.

    `temperature` divides the logits before the sigmoid, `threshold` is the score from which a comment is called
    toxic, and `thresholds` holds one for each precision target that a threshold reached when the model was
    validated, keyed `"0.8"` and so on. All three, and `max_seq_length` (tokens), are what the run wrote to the
    model's `config.json`; for a model of somebody else they are 1, 0.5, empty, and the tokenizer's limit.
    `subtypes` are the canonical names of the kinds of toxicity that the model also has a label for.

    One scorer may be called from several threads at a time: nothing in it changes after it is made. The same texts,
    in the same order, get the same scores to the last bit on one machine with the same versions, whatever the
    number of threads; in other company a text's score moves by as much as its precision rounds.

    Args:
        model_name_or_path: folder of a run, or a model on the Hub, with one label; of several the one called
            `toxic` or `toxicity` is taken. Of two that exclude each other it is the difference of their logits.
            A folder that `--export onnx` made is computed by ONNX Runtime, on the CPU.
        revision: branch, tag or commit on the Hub.
        device: what to compute on, by default the accelerator if there is one.
        mixed_precision: `no` (fp32), `bf16` or `fp16`, by default the fastest that the device has instructions
            for. bf16 moved the scores of 2,000 comments of the sample by at most 0.013, made steps of them (348 that
            differ), and took 0.00001 off the AUC.

    Raises:
        RequestError: for a model that cannot be loaded, or does not say which of its labels is toxicity.
    """

    def __init__(
        self,
        model_name_or_path: str,
        revision: str = "main",
        device: str | torch.device | None = None,
        mixed_precision: str | None = None,
    ) -> None:
        try:
            config = AutoConfig.from_pretrained(model_name_or_path, revision=revision)
            tokenizer = AutoTokenizer.from_pretrained(model_name_or_path, revision=revision, use_fast=True)
            onnx_file = Path(model_name_or_path) / ONNX_FILE
            self.runtime = "onnxruntime" if onnx_file.is_file() else "torch"
            if self.runtime == "onnxruntime":
                self.device, self.mixed_precision = torch.device("cpu"), "no"
                self._model = _OnnxModel(onnx_file)
                self.weights_digest = _digest(path.read_bytes() for path in sorted(onnx_file.parent.glob("*.onnx*")))
            else:
                refuse_pickled_weights(model_name_or_path)
                self.device = torch.device(device or torch.accelerator.current_accelerator() or "cpu")
                self.mixed_precision = mixed_precision or fastest_precision(self.device)
                self._model = _load(model_name_or_path, revision, config).to(self.device)
                self.weights_digest = _digest(_bytes_of(self._model))
        except (OSError, ValueError) as error:
            raise RequestError(
                f"cannot load {model_name_or_path}: {str(error).splitlines()[0]} "
                "Name a folder that a run left, or a model on the Hub."
            ) from error
        if not tokenizer.is_fast:
            raise RequestError(f"{model_name_or_path} has no fast tokenizer; choose a model that has.")
        self.revision: str | None = getattr(config, "_commit_hash", None)
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
        self._labels = config.num_labels
        self._label = _toxic_label(config, model_name_or_path)
        self._two_classes = config.num_labels == 2 and config.problem_type != "multi_label_classification"
        self._subtype_labels = {} if self._two_classes else _subtype_labels(config)
        self.subtypes = tuple(self._subtype_labels)
        self._backend = tokenizers.Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._backend.no_padding()
        self._backend.enable_truncation(self.max_seq_length, direction=tokenizer.truncation_side)
        self._id_type = np.min_scalar_type(max(self._backend.get_vocab().values()))
        on_cpu = self.device.type == "cpu"
        self._tokens_per_batch = TOKENS_PER_BATCH_ON_CPU if on_cpu else TOKENS_PER_BATCH
        self._layout = layout_for(self._model, self.device, tokenizer.pad_token_id)
        if on_cpu and self.mixed_precision == "bf16":
            # Autocast would convert the weights again for every batch.
            self._model.to(torch.bfloat16)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Calibrated probabilities of toxicity, float64 `(rows,)`, in the order of `texts`."""
        return self.probabilities(self.tokenize(texts))[:, 0]

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Logits of toxicity, float32 `(rows,)`, in the order of `texts`; the `pipeline` gives their sigmoid."""
        return self._toxicity(self._logits(self.tokenize(texts)))

    def tokenize(self, texts: Sequence[str]) -> pa.Table:
        """Token ids, for `probabilities`: columns `input_ids` (list of unsigned integers) and `length` (int32)."""
        starts = range(0, max(1, len(texts)), ROWS_PER_BATCH)
        pieces = (list(texts[start : start + ROWS_PER_BATCH]) for start in starts)
        return pa.Table.from_batches([encode(piece, self._backend, self._id_type)[0] for piece in pieces])

    def probabilities(self, tokens: pa.Table) -> np.ndarray:
        """Score what `tokenize` gave.

        Returns:
            float64 `(rows, 1 + subtypes)`: the calibrated probability of toxicity, then the sigmoid of each subtype.

        Raises:
            FloatingPointError: if a score is not a number, as when fp16 overflows.
        """
        logits = self._logits(tokens)
        scaled = self._toxicity(logits).astype(np.float64) / self.temperature
        others = logits[:, list(self._subtype_labels.values())].astype(np.float64)
        probabilities = 1.0 / (1.0 + np.exp(-np.column_stack([scaled, others])))
        if np.isnan(probabilities).any():
            raise FloatingPointError(f"the model's scores are no numbers in precision {self.mixed_precision}")
        return probabilities

    def _logits(self, tokens: pa.Table) -> np.ndarray:
        """All logits, float32 `(rows, labels)`, in the order of the rows, computed longest first."""
        if not len(tokens):
            return np.empty((0, self._labels), dtype=np.float32)
        rows = TokenRows(datasets.Dataset(datasets.table.InMemoryTable(tokens)))
        with torch.inference_mode():
            return score_rows(
                self._model, rows, self._layout, self._tokens_per_batch, self.device, self._autocast
            ).numpy(force=True)

    def _autocast(self) -> AbstractContextManager:
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.mixed_precision)
        # On a CPU the weights themselves are bf16.
        on = dtype is not None and not (self.device.type == "cpu" and self.mixed_precision == "bf16")
        return torch.autocast(self.device.type, dtype) if on else nullcontext()

    def _toxicity(self, logits: np.ndarray) -> np.ndarray:
        toxic = logits[:, self._label]
        # The sigmoid of the difference is the softmax over both.
        return toxic - logits[:, 1 - self._label] if self._two_classes else toxic


def _load(name: str, revision: str, config: PreTrainedConfig) -> PreTrainedModel:
    unpadded = unpadded_class(config)
    model = (unpadded or AutoModelForSequenceClassification).from_pretrained(
        name,
        revision=revision,
        config=config,
        dtype=torch.float32,
        attn_implementation=PACKED_ATTENTION if unpadded else None,
        use_safetensors=True,
        trust_remote_code=False,
    )
    use_faster_layers(model)
    return model.eval()


class _OnnxModel(nn.Module):
    """An exported model, called as one of `transformers` is, on padded batches."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError as error:
            raise RequestError(f"{path} needs ONNX Runtime: pip install -r requirements-onnx.txt") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.eval()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        inputs = {"input_ids": input_ids.numpy(), "attention_mask": attention_mask.numpy()}
        return torch.from_numpy(self._session.run(["logits"], inputs)[0])


def _bytes_of(model: nn.Module) -> Iterator[bytes | np.ndarray]:
    for name, tensor in sorted(model.state_dict().items()):
        yield name.encode()
        yield tensor.cpu().contiguous().flatten().view(torch.uint8).numpy()


def _digest(parts: Iterable[bytes | np.ndarray]) -> str:
    digest = xxhash.xxh3_128()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _length_limit(config: PreTrainedConfig, tokenizer: Any) -> int:
    limit = min(getattr(config, "max_position_embeddings", math.inf), tokenizer.model_max_length)
    return 512 if limit > 1_000_000 else limit


def _toxic_label(config: PreTrainedConfig, name: str) -> int:
    """Which of the model's logits is toxicity's."""
    if config.num_labels == 1:
        return 0
    for label in ("toxic", "toxicity"):
        for index, known in config.id2label.items():
            if known.lower() == label:
                return int(index)
    labels = printable(", ".join(config.id2label.values()))
    raise RequestError(f"{name} has the labels {labels}; none is called `toxic`.")


def _subtype_labels(config: PreTrainedConfig) -> dict[str, int]:
    """Canonical name of each subtype the model has a label for → which of its logits that is."""
    indices = {label.lower(): int(index) for index, label in config.id2label.items()}
    found = {subtype: next((indices[name] for name in NAMES[subtype] if name in indices), None) for subtype in SUBTYPES}
    return {subtype: index for subtype, index in found.items() if index is not None}
