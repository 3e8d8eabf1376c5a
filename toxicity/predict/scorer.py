"""A trained model as a function: texts in, calibrated probabilities out, in their order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import pyarrow as pa
import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from toxicity.core import distributed
from toxicity.core.errors import RequestError, one_line
from toxicity.core.files import digest
from toxicity.data.encoding import ROWS_PER_ENCODE, encode, truncating_backend
from toxicity.data.token_dataset import TokenRows
from toxicity.evaluation.calibration import Calibration
from toxicity.hardware.precision import fastest_precision
from toxicity.models.classifier import length_limit, refuse_pickled_weights
from toxicity.models.cpu_layers import use_faster_layers
from toxicity.models.labels import labels_in
from toxicity.models.padding_free import PACKED_ATTENTION, layout_for, unpadded_class
from toxicity.models.scoring import in_bfloat16, score_rows
from toxicity.predict.onnx_runtime import OnnxModel, exported_file

# What a tokenizer gives as its limit when it knows of none is larger by far.
NO_LIMIT = 1_000_000
# A processor is fastest while a batch stays in its cache, an accelerator when it is busy.
TOKENS_PER_BATCH_ON_CPU = 8_192
TOKENS_PER_BATCH = 65_536


class Scorer:
    """A trained model as a function: `Scorer(DIR)(["text", …])` gives calibrated probabilities of toxicity.

    `temperature` divides the logits before the sigmoid, `threshold` is the score from which a comment is called
    toxic, and `thresholds` holds one for each precision target that a threshold reached when the model was
    validated, keyed `"0.8"` and so on. All three, `max_seq_length` (tokens) and `head_tail_truncation` are what the
    run wrote to the model's `config.json`; for a model of somebody else they are 1, 0.5, empty, the tokenizer's limit,
    and False.
    `subtypes` are the canonical names of the kinds of toxicity that the model also has a label for.

    One scorer may be called from several threads at a time: nothing in it changes after it is made. The same texts,
    in the same order, get the same scores to the last bit on one machine with the same versions, whatever the
    number of threads; in other company a text's score moves by as much as its precision rounds. That of an int8 export
    moves by more: each layer's inputs are rounded in steps that the largest one in the batch sets.

    Args:
        model_name_or_path: folder of a run, or a model on the Hub, with one label; of several the one called
            `toxic` or `toxicity` is taken. Of two that exclude each other it is the difference of their logits.
            A folder that `--export onnx` made is computed by ONNX Runtime, on the CPU, as it was exported.
        revision: branch, tag or commit on the Hub.
        device: what to compute on, by default the accelerator if there is one.
        mixed_precision: `no` (fp32), `bf16` or `fp16`, by default the fastest that the device has instructions
            for. bf16 moved the scores of 2,000 comments of the sample by at most 0.013, and their AUC by 0.00005.

    Raises:
        RequestError: for a model that cannot be loaded, was not trained to classify, or does not say which of its
            labels is toxicity, and for a device or precision that an export cannot be computed in.
    """

    def __init__(
        self,
        model_name_or_path: str,
        revision: str = "main",
        device: str | torch.device | None = None,
        mixed_precision: str | None = None,
    ) -> None:
        onnx_file = exported_file(model_name_or_path)
        self.runtime = "torch" if onnx_file is None else "onnxruntime"
        if onnx_file is None:
            refuse_pickled_weights(model_name_or_path)
            self.device = torch.device(device or distributed.accelerator() or "cpu")
            self.mixed_precision = mixed_precision or fastest_precision(self.device)
        elif mixed_precision or torch.device(device or "cpu").type != "cpu":
            raise RequestError(
                f"{model_name_or_path} is an export: ONNX Runtime computes it on the CPU, in the precision that it was "
                "exported in. Leave device and mixed_precision out."
            )
        else:
            self.device, self.mixed_precision = torch.device("cpu"), "no"
        try:
            config = AutoConfig.from_pretrained(model_name_or_path, revision=revision, trust_remote_code=False)
            tokenizer = AutoTokenizer.from_pretrained(
                model_name_or_path, revision=revision, use_fast=True, trust_remote_code=False
            )
            if onnx_file is None:
                self._model = _load(model_name_or_path, revision, config).to(self.device)
                self.weights_digest = digest(_bytes_of(self._model))
            else:
                self._model = OnnxModel(onnx_file)
                self.weights_digest = digest(path.read_bytes() for path in sorted(onnx_file.parent.glob("*.onnx*")))
        except RequestError:
            raise
        except Exception as error:  # what is raised depends on which file is missing or damaged, and who reads it
            raise RequestError(
                f"cannot load {model_name_or_path}: {type(error).__name__}: {one_line(error)} "
                "Name a folder that a run left, or a model on the Hub."
            ) from error
        if not tokenizer.is_fast:
            raise RequestError(f"{model_name_or_path} has no fast tokenizer; choose a model that has.")
        self.revision: str | None = getattr(config, "_commit_hash", None)
        self._take_settings(config, tokenizer, model_name_or_path)
        self.labels = labels_in(config, model_name_or_path)
        self.subtypes = tuple(self.labels.subtypes)
        self._backend = truncating_backend(tokenizer, self.max_seq_length)
        self.tokenizer_digest = digest([self._backend.to_str().encode()])
        self._id_type = np.min_scalar_type(max(self._backend.get_vocab().values()))
        on_cpu = self.device.type == "cpu"
        self.tokens_per_batch = TOKENS_PER_BATCH_ON_CPU if on_cpu else TOKENS_PER_BATCH
        self._layout = layout_for(self._model, self.device, tokenizer.pad_token_id)
        if on_cpu and self.mixed_precision == "bf16":
            self._model = in_bfloat16(self._model, self._layout)

    def _take_settings(self, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
        """What the run found out about its own scores."""
        try:
            settings = getattr(config, "toxicity", None) or {}
            self.calibration = Calibration.from_config(settings)
            limit = length_limit(config, tokenizer)
            self.head_tail_truncation = bool(settings.get("head_tail_truncation", False))
            self.max_seq_length = int(settings.get("max_seq_length") or (limit if limit < NO_LIMIT else 512))
        except (AttributeError, TypeError, ValueError) as error:
            raise RequestError(
                f"what the config.json of {name} holds under `toxicity` cannot be read: take it out."
            ) from error

    @property
    def temperature(self) -> float:
        """What logits are divided by before the sigmoid."""
        return self.calibration.temperature

    @property
    def threshold(self) -> float:
        """The score from which a comment is called toxic."""
        return self.calibration.threshold

    @property
    def thresholds(self) -> Mapping[str, float]:
        """Scores by the precision that they were fitted for, `"0.8"` and so on."""
        return self.calibration.thresholds

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Calibrated probabilities of toxicity, float64 `(rows,)`, in the order of `texts`.

        Raises:
            TypeError: for one text instead of a list of them.
            FloatingPointError: if a score is not a number, as when fp16 overflows.
        """
        return self.probabilities(self.tokenize(texts))[:, 0]

    def tokenize(self, texts: Sequence[str]) -> pa.Table:
        """Token ids, for `probabilities`: columns `input_ids` (list of unsigned integers) and `length` (int32).

        Raises:
            TypeError: for one text instead of a list of them.
        """
        if isinstance(texts, str):
            raise TypeError("a Scorer takes a list of texts: give [text] instead of text")
        starts = range(0, max(1, len(texts)), ROWS_PER_ENCODE)
        pieces = (list(texts[start : start + ROWS_PER_ENCODE]) for start in starts)
        return pa.Table.from_batches(
            [encode(piece, self._backend, self._id_type, self.head_tail_truncation)[0] for piece in pieces]
        )

    def probabilities(self, tokens: pa.Table) -> np.ndarray:
        """Score what `tokenize` gave.

        Returns:
            float64 `(rows, 1 + subtypes)`: the calibrated probability of toxicity, then the sigmoid of each subtype.

        Raises:
            FloatingPointError: if a score is not a number, as when fp16 overflows.
        """
        if not len(tokens):
            return np.empty((0, 1 + len(self.subtypes)))
        rows = TokenRows.from_table(tokens)
        with torch.inference_mode():
            logits = score_rows(
                self._model, rows, self._layout, self.tokens_per_batch, self.device, self._autocast
            ).numpy(force=True)
        picked = self.labels.pick(logits)
        # Only toxicity was calibrated.
        probabilities = Calibration().probability(picked)
        probabilities[:, 0] = self.calibration.probability(picked[:, 0])
        if np.isnan(probabilities).any():
            raise FloatingPointError(f"the model's scores are no numbers in precision {self.mixed_precision}")
        return probabilities

    def _autocast(self) -> AbstractContextManager:
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.mixed_precision)
        # On a CPU the weights themselves are bf16.
        on = dtype is not None and not (self.device.type == "cpu" and self.mixed_precision == "bf16")
        return torch.autocast(self.device.type, dtype) if on else nullcontext()


def _load(name: str, revision: str, config: PreTrainedConfig) -> PreTrainedModel:
    unpadded = unpadded_class(config)
    model, loading = (unpadded or AutoModelForSequenceClassification).from_pretrained(
        name,
        revision=revision,
        config=config,
        dtype=torch.float32,
        attn_implementation=PACKED_ATTENTION if unpadded else None,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    if missing := sorted(loading["missing_keys"]):
        raise RequestError(
            f"{name} has no weights for {', '.join(missing[:4])}: it was not trained to classify comments. Train it, "
            "or name a model that was."
        )
    use_faster_layers(model)
    return model.eval()


def _bytes_of(model: nn.Module) -> Iterator[bytes | np.ndarray]:
    for name, tensor in sorted(model.state_dict().items()):
        yield name.encode()
        yield tensor.cpu().contiguous().flatten().view(torch.uint8).numpy()
