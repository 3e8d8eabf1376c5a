"""`Scorer`: a trained model as a function from texts to calibrated probabilities of toxicity."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from toxicity.core import distributed
from toxicity.core.errors import RequestError, one_line
from toxicity.core.files import digest
from toxicity.data.encoding import ROWS_PER_ENCODE, encode, token_ids, truncating_backend
from toxicity.data.token_dataset import TokenRows
from toxicity.evaluation.calibration import Calibration
from toxicity.hardware.availability import require_bf16, require_kernels_for, unused_gpu
from toxicity.hardware.memory import full_card_explained
from toxicity.hardware.precision import compute_capability, fastest_precision, precision_name, torch_dtype
from toxicity.models.cpu_layers import use_faster_layers
from toxicity.models.labels import labels_in
from toxicity.models.padding_free import layout_for
from toxicity.models.pretrained import (
    OVERFLOW_IN_FP16,
    load_classifier,
    load_config_and_tokenizer,
    load_errors_explained,
    max_seq_length_of,
    refuse_fp16,
)
from toxicity.models.scoring import BatchScorer, in_half, scoring_tokens, why_not_finite
from toxicity.predict.converted import converted
from toxicity.predict.exported import exported_file, runtime_of
from toxicity.predict.onnx_runtime import OnnxModel
from toxicity.predict.openvino_runtime import OpenVinoModel

# Tokens of a batch: with 4,096 or 1,024 the demo's model was slower by up to a tenth.
OPENVINO_TOKENS = 2_048
RUNTIME_NAMES = {"torch": "torch", "openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}

logger = logging.getLogger(__name__)


class Scorer:
    """A trained model as a function: `Scorer(DIR)(["text", …])` returns calibrated probabilities of toxicity.

    One scorer may be called from several threads at a time, as it never changes after its construction. The same texts
    in the same order get identical scores on one machine with the same package versions, whatever the number of
    threads. Together with other texts, a text's score may differ by a rounding error of the precision; with an export
    that quantises to int8 while it computes by more, as the largest number of a batch then sets the steps.

    Args:
        model_name_or_path: folder of a run, or a model on the Hub. If it has several labels, the one called `toxic` or
            `toxicity` is used, or of two exclusive classes the one that only can be it (`hate` beside `nothate`).
            Exports of `--export` or `optimum` are computed on the CPU, by OpenVINO (`openvino_model.xml`) or ONNX
            Runtime (`model.onnx`, in the precision it was exported in).
        revision: branch, tag or commit on the Hub.
        device: what to compute on; by default the accelerator if there is one, else the CPU, and a log line says why
            where this machine has a GPU.
        mixed_precision: `no` (fp32), `bf16` or `fp16`; by default the fastest that the device supports natively, but
            fp32 in place of fp16 for models that overflow in it. On 2,000 comments of the sample, bf16 changed the
            scores by at most 0.013 and the AUC by 0.00005.
        toxic_label: name or index of the label that means toxic, where the names do not say it (`LABEL_1`). Of
            exclusive classes (hate, offensive, neither) also a sequence of several, whose probabilities are added.
        runtime: `torch`, `openvino` or `onnxruntime` (for exports alone); by default that of an export, else on a
            processor OpenVINO if it is installed and can compute the model (see `converted`), else torch.

    Attributes:
        temperature: number that logits are divided by before the sigmoid; 1 for models that no run of this package
            wrote. A run wrote it to the model's `config.json`, with what follows.
        threshold: score from which a comment is labelled toxic; 0.5 for other models.
        thresholds: thresholds that were fitted for a precision, by that precision, `"0.8"` and so on.
        max_seq_length: number of tokens that texts are truncated to; for other models the tokenizer's limit.
        head_tail_truncation: whether a long text keeps its beginning and its end (see `data.encoding.encode`).
        subtypes: canonical names of the subtypes of toxicity that the model has labels for.

    Raises:
        RequestError: for a model that cannot be loaded, was not trained to classify, or has labels of which it is not
            known which are toxic; for a device that torch cannot use or that other processes have filled; and for
            a precision that the model overflows in, or an export cannot be computed in.
    """

    def __init__(
        self,
        model_name_or_path: str,
        revision: str = "main",
        device: str | torch.device | None = None,
        mixed_precision: str | None = None,
        toxic_label: str | Sequence[str] = (),
        runtime: str | None = None,
    ) -> None:
        exported = exported_file(model_name_or_path)
        runtime_of_export = runtime_of(exported) if exported else None
        _require_runtime(model_name_or_path, runtime_of_export, runtime)
        on_cpu = (runtime_of_export or runtime) not in (None, "torch")
        self.device = torch.device(device or ("cpu" if on_cpu else distributed.accelerator()) or "cpu")
        if not device and not on_cpu and self.device.type == "cpu" and (reason := unused_gpu()):
            logger.warning(f"Working on the processor: {reason}")
        if on_cpu and self.device.type != "cpu":
            raise RequestError(
                f"{RUNTIME_NAMES[runtime_of_export or runtime]} computes on the CPU only: leave device out, or choose "
                "the runtime torch for a model that is no export."
            )
        require_kernels_for(self.device)
        with load_errors_explained(model_name_or_path, "Name a folder that a run left, or a model on the Hub."):
            config, tokenizer = load_config_and_tokenizer(model_name_or_path, revision)
            self.runtime = runtime_of_export or runtime or self._fastest_runtime(mixed_precision)
            self.mixed_precision = self._precision(mixed_precision, config, model_name_or_path)
            self._read_settings(config, tokenizer, model_name_or_path)
            if exported:
                model = self._read_export(exported, config.num_labels)
            else:
                model = self._load_model(model_name_or_path, revision, config, tokenizer, runtime)
        self.revision: str | None = getattr(config, "_commit_hash", None)
        chosen = (toxic_label,) if isinstance(toxic_label, str) else toxic_label
        self.labels = labels_in(config, model_name_or_path, chosen)
        self.subtypes = tuple(self.labels.subtypes)
        self._backend = truncating_backend(tokenizer, self.max_seq_length)
        self.tokenizer_digest = digest([self._backend.to_str().encode()])
        self._id_type = np.min_scalar_type(max(self._backend.get_vocab().values()))
        self.tokens_per_batch = scoring_tokens(self.device)
        dtype = torch_dtype(self.mixed_precision)
        layout = layout_for(model, self.device, tokenizer.pad_token_id, dtype)
        autocast = nullcontext
        if self.runtime == "openvino":
            self.tokens_per_batch = OPENVINO_TOKENS
            layout = replace(layout, few_sizes_up_to=self.max_seq_length)
        elif self.device.type == "cpu" and dtype == torch.float16:
            autocast = partial(torch.autocast, "cpu", dtype)
        elif dtype != torch.float32:
            model = in_half(model, dtype)
        self._batches = BatchScorer(model, layout, self.device, self.tokens_per_batch, autocast)

    def _fastest_runtime(self, mixed_precision: str | None) -> str:
        """What computes a model that is no export fastest: OpenVINO, where it (not a mere folder) is installed."""
        on_cpu = self.device.type == "cpu" and mixed_precision != "fp16"
        return "openvino" if on_cpu and getattr(find_spec("openvino"), "origin", None) else "torch"

    def _read_export(self, path: Path, labels: int) -> nn.Module:
        # With the weights that lie beside it: those of OpenVINO always, those of ONNX where it is large.
        files = f"{path.name}*" if self.runtime == "onnxruntime" else f"{path.stem}.*"
        self.weights_digest = digest(file.read_bytes() for file in sorted(path.parent.glob(files)))
        if self.runtime == "onnxruntime":
            return OnnxModel(path, labels)
        return OpenVinoModel(path, labels, self.mixed_precision)

    def _load_model(
        self,
        name: str,
        revision: str,
        config: PreTrainedConfig,
        tokenizer: PreTrainedTokenizerBase,
        runtime: str | None,
    ) -> nn.Module:
        """Load the weights for the runtime; for torch where OpenVINO was not asked for, and cannot compute them."""
        classifier = load_classifier(name, revision, config, padding_free=self.runtime == "torch").eval()
        self.weights_digest = digest(_bytes_of(classifier))
        if self.runtime == "openvino":
            try:
                openvino_model = converted(classifier, tokenizer, self.weights_digest, self.max_seq_length)
                model = OpenVinoModel(openvino_model, config.num_labels, self.mixed_precision)
            except Exception as error:  # of any type: OpenVINO was not asked for, and torch can do it
                if runtime:
                    raise
                refused = isinstance(error, RequestError)
                reason = error if refused else f"OpenVINO failed ({type(error).__name__}: {one_line(error)})."
                logger.info(f"Scoring with torch: {reason}")
                self.runtime = "torch"
                classifier = load_classifier(name, revision, config).eval()
            else:
                if not runtime:
                    precision = precision_name(self.mixed_precision)
                    logger.info(f"Scoring with OpenVINO {version('openvino')} in {precision} (or --runtime torch)")
                return model
        use_faster_layers(classifier)
        with full_card_explained(self.device, "this model"):
            return classifier.to(self.device)

    def _precision(self, asked: str | None, config: PreTrainedConfig, name: str) -> str:
        """The precision to compute in: the one asked for, else the fastest that the model does not overflow in."""
        if self.runtime == "onnxruntime":  # an export has its own, whatever it is
            if asked:
                raise RequestError(
                    f"{name} is an export: ONNX Runtime computes it in the precision that it was exported in. Leave "
                    "mixed_precision out."
                )
            return "no"
        if self.runtime == "openvino" and asked == "fp16":
            raise RequestError("OpenVINO computes in fp32 or bf16 on the CPU: choose mixed_precision no or bf16.")
        if asked == "fp16":
            refuse_fp16(config, name, "score it in fp32 (mixed_precision no)")
        if asked == "bf16" and self.device.type == "cuda":
            card = torch.cuda.get_device_name(self.device), compute_capability(self.device)
            require_bf16(*card, "Leave mixed_precision out, which chooses the fastest one that it has.")
        precision = asked or fastest_precision(self.device)
        if precision == "fp16" and config.model_type in OVERFLOW_IN_FP16:
            logger.info(f"Scoring in fp32, as models of the kind {config.model_type} can overflow in fp16.")
            return "no"
        return precision

    def _read_settings(self, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
        """Read what the training run wrote about scoring into the section `toxicity` of the config."""
        try:
            settings = getattr(config, "toxicity", None) or {}
            self.calibration = Calibration.from_config(settings)
            self.head_tail_truncation = bool(settings.get("head_tail_truncation", False))
            self.max_seq_length = max_seq_length_of(config, tokenizer)
        except (AttributeError, TypeError, ValueError) as error:
            raise RequestError(
                f"what the config.json of {name} holds under `toxicity` cannot be read: take it out."
            ) from error
        self.temperature, self.threshold = self.calibration.temperature, self.calibration.threshold
        self.thresholds = self.calibration.thresholds

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Calibrated probabilities of toxicity, float64 `(rows,)`, in the order of `texts`.

        Raises what `tokenize` and `probabilities` raise.
        """
        _require_list(texts)
        if len(texts) > ROWS_PER_ENCODE:
            return self.probabilities(self.tokenize(texts))[:, 0]
        # Without a table, which takes a good part of the time that one comment does.
        ids, _ = token_ids(list(texts), self._backend, self.head_tail_truncation)
        return self._probabilities(TokenRows.from_lists(ids))[:, 0]

    def tokenize(self, texts: Sequence[str]) -> pa.Table:
        """Tokenise texts for `probabilities`: columns `input_ids` (list of unsigned integers) and `length` (int32).

        Raises:
            TypeError: for one text instead of a list of them.
        """
        _require_list(texts)
        starts = range(0, max(1, len(texts)), ROWS_PER_ENCODE)
        chunks = (list(texts[start : start + ROWS_PER_ENCODE]) for start in starts)
        return pa.Table.from_batches(
            [encode(chunk, self._backend, self._id_type, self.head_tail_truncation)[0] for chunk in chunks]
        )

    def probabilities(self, tokens: pa.Table) -> np.ndarray:
        """Score texts that were tokenised by `tokenize`.

        Returns:
            float64 `(rows, 1 + subtypes)`: the calibrated probability of toxicity, then the sigmoid of each subtype.

        Raises:
            RequestError: if a logit is not a finite number, as when fp16 overflows, or if the device has no room.
        """
        return self._probabilities(TokenRows(tokens))

    def _probabilities(self, rows: TokenRows) -> np.ndarray:
        if not len(rows):
            return np.empty((0, 1 + len(self.subtypes)))
        with torch.inference_mode(), full_card_explained(self.device, "a batch of comments"):
            logits = self._batches.score(rows).numpy(force=True)
        # Before the sigmoid, which makes 0 or 1 of an infinite one.
        if reason := why_not_finite(logits, self.mixed_precision):
            raise RequestError(reason)
        selected = self.labels.pick(logits)
        # The temperature was fitted for toxicity only.
        probabilities = Calibration().probability(selected)
        probabilities[:, 0] = self.calibration.probability(selected[:, 0])
        return probabilities


def _require_list(texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise TypeError("a Scorer takes a list of texts: give [text] instead of text")


def _require_runtime(name: str, runtime_of_export: str | None, runtime: str | None) -> None:
    """Refuse a runtime that cannot compute a model, as it is another one's export, or no export."""
    if runtime not in (None, *RUNTIME_NAMES):
        raise RequestError(f"there is no runtime {runtime}: choose {', '.join(RUNTIME_NAMES)}.")
    if runtime_of_export and runtime not in (None, runtime_of_export):
        raise RequestError(
            f"{name} is an export, which {RUNTIME_NAMES[runtime_of_export]} computes: leave runtime out, or name the "
            "model that it was made of."
        )
    if runtime == "onnxruntime" and not runtime_of_export:
        raise RequestError(
            f"ONNX Runtime computes exports, and {name} is none: write one with python -m toxicity.predict --model "
            f"{name} --export onnx --output FOLDER, and name FOLDER/fp32 or FOLDER/int8."
        )


def _bytes_of(model: nn.Module) -> Iterator[bytes | np.ndarray]:
    for name, tensor in sorted(model.state_dict().items()):
        yield name.encode()
        yield tensor.cpu().contiguous().flatten().view(torch.uint8).numpy()
