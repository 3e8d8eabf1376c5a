"""What scores the shards of a job, wherever it runs: a model, what is asked of it, and the description of both."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import platform
from typing import Any, NamedTuple

import torch

from toxicity.evaluation.calibration import Calibration
from toxicity.evaluation.calibration_maps import RAW, TEMPERATURE
from toxicity.predict.exported import exported_file
from toxicity.predict.options import Options, options_for
from toxicity.predict.score_shards import BYTES_PER_WINDOW, ROWS_PER_WINDOW
from toxicity.predict.scorer import Scorer
from toxicity.predict.submission import Sample

SCORING_PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "pyarrow")


class Worker(NamedTuple):
    """A model that scores shards. `job` says everything that determines the bytes of the outputs, as JSON types."""

    scorer: Scorer
    options: Options
    job: dict[str, Any]


def load_worker(arguments: argparse.Namespace, sample: Sample | None, device: torch.device | None) -> Worker:
    """Load the model of a job.

    Args:
        arguments: the parsed command line.
        sample: the competition's sample of a submission, if there is one.
        device: the accelerator to use; None for the first one of this machine, or the processor if it has none.

    Raises:
        RequestError: if the model cannot be loaded, or does not have what the flags ask for.
    """
    scorer = Scorer(
        arguments.model,
        arguments.model_revision,
        None if computed_on_cpu(arguments) else device,
        arguments.mixed_precision,
        arguments.toxic_label or (),
        arguments.runtime,
        arguments.prior,
    )
    options = options_for(arguments, scorer, sample)
    return Worker(scorer, options, describe_job(arguments.model, scorer, options))


def computed_on_cpu(arguments: argparse.Namespace) -> bool:
    """Whether the model is computed on the CPU, even if there is a GPU: an export, and all that OpenVINO computes."""
    return arguments.runtime not in (None, "torch") or exported_file(arguments.model) is not None


def _beyond_temperature(calibration: Calibration) -> dict[str, Any]:
    """What makes scores of logits, where that is more than a temperature."""
    if calibration.method in (RAW, TEMPERATURE) and calibration.prior is None:
        return {}
    return {name: getattr(calibration, name) for name in ("method", "base_rate", "prior")} | {
        "parameters": list(calibration.parameters)
    }


def describe_job(model: str, scorer: Scorer, options: Options) -> dict[str, Any]:
    """Everything that determines the bytes of the outputs, for the manifest: model, settings and package versions."""
    packages = dict.fromkeys((*SCORING_PACKAGES, scorer.runtime))
    versions = {package: importlib.metadata.version(package) for package in packages}
    job = {
        "model": model,
        "revision": scorer.revision,
        "weights_xxh3": scorer.weights_digest,
        "tokenizer_xxh3": scorer.tokenizer_digest,
        "labels": {
            "toxic": list(scorer.labels.toxic),
            "civil": list(scorer.labels.civil),
            "subtypes": scorer.labels.subtypes,
        },
        "runtime": scorer.runtime,
        "device": scorer.device.type,
        "mixed_precision": scorer.mixed_precision,
        "max_seq_length": scorer.max_seq_length,
        "head_tail_truncation": scorer.head_tail_truncation,
        "temperature": scorer.temperature,
        "label_temperatures": {name: fitted.temperature for name, fitted in [*scorer.calibrations.items()][1:]},
        "calibrations": {
            name: told for name, found in scorer.calibrations.items() if (told := _beyond_temperature(found))
        },
        **dataclasses.asdict(options),
        "rows_per_window": ROWS_PER_WINDOW,
        "bytes_per_window": BYTES_PER_WINDOW,
        "tokens_per_batch": scorer.tokens_per_batch,
        "max_padding": scorer.max_padding,
        "versions": {"python": platform.python_version(), **versions},
    }
    # A job without other labels, explanations or a limit of padding is described as it was before there were any, so
    # that it can be gone on with.
    unused = {"explain": 0, "max_padding": None}
    return {name: value for name, value in job.items() if value != {} and (name not in unused or value != unused[name])}
