"""`Scorer`: a trained model as a function from texts to calibrated probabilities of toxicity."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from toxicity.core import distributed
from toxicity.core.errors import RequestError, one_line
from toxicity.core.files import digest
from toxicity.core.wanted import priors_of, require_shares
from toxicity.data.encoding import ROWS_PER_ENCODE, encode, token_ids, truncating_backend
from toxicity.data.token_dataset import TokenRows
from toxicity.evaluation.calibration import Calibration
from toxicity.hardware.availability import require_kernels_for, unused_gpu
from toxicity.hardware.memory import full_card_explained
from toxicity.hardware.precision import precision_name, torch_dtype
from toxicity.models.cpu_layers import use_faster_layers
from toxicity.models.labels import calibrations_in, labels_in
from toxicity.models.padding_free import layout_for
from toxicity.models.pretrained import (
    load_classifier,
    load_config_and_tokenizer,
    load_errors_explained,
    max_seq_length_of,
)
from toxicity.models.scoring import BatchScorer, in_half, scoring_tokens, why_not_finite
from toxicity.predict.converted import converted
from toxicity.predict.exported import exported_file, runtime_of
from toxicity.predict.onnx_runtime import OnnxModel
from toxicity.predict.openvino_runtime import OpenVinoModel
from toxicity.predict.runtimes import RUNTIME_NAMES, fastest_runtime, precision_of, require_runtime

# Tokens of a batch: with 4,096 or 1,024 the demo's model was slower by up to a tenth.
OPENVINO_TOKENS = 2_048
OPENVINO_PADDING = 24  # tokens that cost as much as one more batch; without it, 64 comments took a quarter longer

logger = logging.getLogger(__name__)


class Scorer:
    """A trained model as a function: `Scorer(DIR)(["text", …])` returns calibrated probabilities of toxicity.

    One scorer may be called from several threads at a time, as it never changes after its construction. The same texts
    in the same order get identical scores on one machine with the same package versions, whatever the number of
    threads. Together with other texts, a text's score may differ by a rounding error of the precision; with an export
    that quantises to int8 while it computes by more, as the largest number of a batch then sets the steps.

    Args:
        model_name_or_path: folder of a run, or a model on the Hub. If it has several labels, the main one of its run is
            used, else the one called `toxic` or `toxicity`, or of two exclusive classes the one that only can be it
            (`hate` beside `nothate`). Exports of `--export` or `optimum` are computed on the CPU, by OpenVINO
            (`openvino_model.xml`) or ONNX Runtime (`model.onnx`, in the precision it was exported in).
        revision: branch, tag or commit on the Hub.
        device: what to compute on; by default the accelerator if there is one, else the CPU, and a log line says why
            where this machine has a GPU.
        mixed_precision: `no` (fp32), `bf16` or `fp16`; by default the fastest that the device supports natively, but
            fp32 in place of fp16 for models that overflow in it. On 2,000 comments of the sample, bf16 changed the
            scores by at most 0.013 and the AUC by 0.00005.
        toxic_label: name or index of the label that means toxic, where the names do not say it (`LABEL_1`), or that
            is to be the main one in place of the run's. Of exclusive classes (hate, offensive, neither) also a sequence
            of several, whose probabilities are added.
        prior: share of toxic comments, above 0 and below 1, where the scores are to be used, for which probabilities
            and thresholds are adjusted, so that the same comments are labelled: that of the main label, or one for
            each, in the order of `probabilities`. Only for models of runs that wrote the `base_rate` of their scores.
        runtime: `torch`, `openvino` or `onnxruntime` (for exports alone); by default that of an export, else on a
            processor OpenVINO if it is installed and can compute the model (see `converted`), else torch.
        streams: most threads that OpenVINO serves at a time, each with its part of the cores. The attribute says how
            many there are: no more than cores, and 1 with another runtime.

    Attributes:
        temperature: number that logits are divided by before the sigmoid; 1 for models that no run of this package
            wrote, or that are calibrated in another way (`calibrations[…].method`). A run wrote it to the model's
            `config.json`, with what follows.
        threshold: score from which a comment is labelled toxic; 0.5 for other models.
        thresholds: thresholds for a precision, by that precision, `"0.8"` and so on, and those that were asked for by
            what for, such as `"recall=0.95"`.
        calibrations: these three of each label that has its own, by name, in the order of `probabilities`. A run with
            several labels wrote them for all; other models have them for the first alone.
        max_seq_length: number of tokens that texts are truncated to; for other models the tokenizer's limit.
        head_tail_truncation: whether a long text keeps its beginning and its end (see `data.encoding.encode`).
        subtypes: names of the other labels: of a model of a run with several labels as the run named them, in their
            order; of other models the canonical names of the subtypes of toxicity that they have labels for.

    Raises:
        RequestError: for a model that cannot be loaded, was not trained to classify, or has labels of which it is not
            known which are toxic; for a device that torch cannot use or that other processes have filled; and for
            a precision that the model overflows in, or an export cannot be computed in; and for a prior that is no
            share, or of a model that does not have its `base_rate`.
    """

    def __init__(
        self,
        model_name_or_path: str,
        revision: str = "main",
        device: str | torch.device | None = None,
        mixed_precision: str | None = None,
        toxic_label: str | Sequence[str] = (),
        runtime: str | None = None,
        prior: float | Sequence[float] | None = None,
        streams: int = 1,
    ) -> None:
        given = [prior] if isinstance(prior, float | int) else prior
        require_shares(given)
        exported = exported_file(model_name_or_path)
        runtime_of_export = runtime_of(exported) if exported else None
        require_runtime(model_name_or_path, runtime_of_export, runtime)
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
            self.runtime = runtime_of_export or runtime or fastest_runtime(self.device, mixed_precision)
            self.mixed_precision = precision_of(self.runtime, self.device, mixed_precision, config, model_name_or_path)
            self.streams = min(streams, torch.get_num_threads())
            calibration, of_labels = self._read_settings(config, tokenizer, model_name_or_path)
            if exported:
                model = self._read_export(exported, config.num_labels)
            else:
                model = self._load_model(model_name_or_path, revision, config, tokenizer, runtime)
        self.revision: str | None = getattr(config, "_commit_hash", None)
        chosen = (toxic_label,) if isinstance(toxic_label, str) else toxic_label
        self.labels = labels_in(config, model_name_or_path, chosen)
        self.subtypes = tuple(self.labels.subtypes)
        main = " or ".join(str(config.id2label[index]) for index in self.labels.toxic)
        self.calibration = of_labels.get(main, calibration)
        self.calibrations = {main: self.calibration}
        self.calibrations |= {label: of_labels[label] for label in self.subtypes if label in of_labels}
        for label, share in zip([*self.calibrations], priors_of(given, len(self.calibrations)), strict=True):
            if share is not None:
                self.calibrations[label] = self.calibrations[label].for_prior(share)
        self.calibration = self.calibrations[main]
        self.temperature, self.threshold = self.calibration.temperature, self.calibration.threshold
        self.thresholds = self.calibration.thresholds
        self._backend = truncating_backend(tokenizer, self.max_seq_length)
        self.tokenizer_digest = digest([self._backend.to_str().encode()])
        self._id_type = np.min_scalar_type(max(self._backend.get_vocab().values()))
        self.tokens_per_batch, self.max_padding = scoring_tokens(self.device), None
        dtype = torch_dtype(self.mixed_precision)
        layout = layout_for(model, self.device, tokenizer.pad_token_id, dtype)
        autocast = nullcontext
        if self.runtime == "openvino":
            self.tokens_per_batch, self.max_padding = OPENVINO_TOKENS, OPENVINO_PADDING
            layout = replace(layout, few_sizes_up_to=self.max_seq_length)
        elif self.device.type == "cpu" and dtype == torch.float16:
            autocast = partial(torch.autocast, "cpu", dtype)
        elif dtype != torch.float32:
            model = in_half(model, dtype)
        self.streams, padding = self.streams if self.runtime == "openvino" else 1, self.max_padding
        self._batches = BatchScorer(model, layout, self.device, self.tokens_per_batch, autocast, max_padding=padding)

    def _read_export(self, path: Path, labels: int) -> nn.Module:
        # With the weights that lie beside it: those of OpenVINO always, those of ONNX where it is large.
        files = f"{path.name}*" if self.runtime == "onnxruntime" else f"{path.stem}.*"
        self.weights_digest = digest(file.read_bytes() for file in sorted(path.parent.glob(files)))
        if self.runtime == "onnxruntime":
            return OnnxModel(path, labels)
        return OpenVinoModel(path, labels, self.mixed_precision, self.streams)

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
                model = OpenVinoModel(openvino_model, config.num_labels, self.mixed_precision, self.streams)
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

    def _read_settings(
        self, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, name: str
    ) -> tuple[Calibration, dict[str, Calibration]]:
        """Read what the training run wrote about scoring into the section `toxicity` of the config.

        Returns the calibration of the model, and that of each of several labels.
        """
        try:
            settings = getattr(config, "toxicity", None) or {}
            found = Calibration.from_config(settings), calibrations_in(config)
            self.head_tail_truncation = bool(settings.get("head_tail_truncation", False))
            self.max_seq_length = max_seq_length_of(config, tokenizer)
        except (AttributeError, TypeError, ValueError) as error:
            raise RequestError(
                f"what the config.json of {name} holds under `toxicity` cannot be read: take it out."
            ) from error
        return found

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Calibrated probabilities of toxicity, float64 `(rows,)`, in the order of `texts`.

        Raises what `tokenize` and `probabilities` raise.
        """
        few = len(texts) <= ROWS_PER_ENCODE
        return self.probabilities(self.rows(texts) if few else self.tokenize(texts))[:, 0]

    def by_label(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Probabilities of all labels by name, the main one first, each as `__call__` returns them.

        `calibrations` says from which one on a label is there: `scorer.calibrations["insult"].threshold`.
        """
        columns = np.ascontiguousarray(self.probabilities(self.tokenize(texts)).T)
        main, *_ = self.calibrations
        return dict(zip((main, *self.subtypes), columns, strict=True))

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

    def rows(self, texts: Sequence[str]) -> TokenRows:
        """The same as `tokenize` for few texts: without a table, which takes a good part of the time of one text."""
        _require_list(texts)
        return TokenRows.from_lists(token_ids(list(texts), self._backend, self.head_tail_truncation)[0])

    def probabilities(self, tokens: pa.Table | TokenRows) -> np.ndarray:
        """Score texts that were tokenised by `tokenize` or `rows`.

        Returns:
            float64 `(rows, 1 + subtypes)`: the calibrated probability of toxicity, then that of each of `subtypes`, or
            its sigmoid, where nothing was fitted to it.

        Raises:
            RequestError: if a logit is not a finite number, as when fp16 overflows, or if the device has no room.
        """
        rows = tokens if isinstance(tokens, TokenRows) else TokenRows(tokens)
        if not len(rows):
            return np.empty((0, 1 + len(self.subtypes)))
        with torch.inference_mode(), full_card_explained(self.device, "a batch of comments"):
            logits = self._batches.score(rows).numpy(force=True)
        # Before the sigmoid, which makes 0 or 1 of an infinite one.
        if reason := why_not_finite(logits, self.mixed_precision):
            raise RequestError(reason)
        return self.probabilities_of(logits)

    def probabilities_of(self, logits: np.ndarray) -> np.ndarray:
        """What `probabilities` returns for logits of the model, float `(rows, labels)`."""
        selected = self.labels.pick(logits)
        probabilities = Calibration().probability(selected)
        for column, calibration in enumerate(self.calibrations.values()):
            probabilities[:, column] = calibration.probability(selected[:, column])
        return probabilities


def _require_list(texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise TypeError("a Scorer takes a list of texts: give [text] instead of text")


def _bytes_of(model: nn.Module) -> Iterator[bytes | np.ndarray]:
    for name, tensor in sorted(model.state_dict().items()):
        yield name.encode()
        yield tensor.cpu().contiguous().flatten().view(torch.uint8).numpy()
