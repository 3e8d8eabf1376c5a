"""The measurements of a run that nobody made: rows of `benchmark.json`, and their parts."""

import copy
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
from datasets import Dataset

from toxicity.bench.runs import published_rows
from toxicity.core.schema import IDENTITIES, LABEL, TARGET, label_column
from toxicity.data.token_dataset import TokenRows
from toxicity.evaluation.calibration import Calibration
from toxicity.evaluation.identity_probe import TONES
from toxicity.evaluation.label_metrics import judge_labels
from toxicity.report.benchmark import build_benchmark
from toxicity.training.evaluate import Evaluation
from toxicity.training.resume import Checkpoints

LOG_HISTORY = [
    *({"loss": 0.7 - 0.05 * n, "learning_rate": 1e-4 / n, "step": 10 * n} for n in range(1, 9)),
    {"loss": float("nan"), "learning_rate": 0.0, "step": 90},
    {"eval_loss": 0.4, "eval_auc": 0.9, "step": 50},
    {"eval_loss": 0.3, "eval_auc": None, "step": 80},
    {"train_runtime": 1.0, "train_loss": 0.4, "step": 90},
]
CELLS = {"rows": 1234, "toxic_rows": 56, "subgroup_auc": 0.9, "bpsn_auc": 0.8, "bnsp_auc": 0.97}
UNDEFINED = {"rows": 4, "toxic_rows": 0, "subgroup_auc": None, "bpsn_auc": None, "bnsp_auc": 0.96}
BIAS = {
    "final_score": 0.93,
    **{"subgroup_auc": 0.91, "bpsn_auc": 0.85, "bnsp_auc": 0.97},
    "identities_counted": 8,
    "identities": {name: UNDEFINED if name == "jewish" else CELLS for name in IDENTITIES},
}
NOTHING_DEFINED = {
    **dict.fromkeys(["final_score", "subgroup_auc", "bpsn_auc", "bnsp_auc"]),
    "identities_counted": 0,
    "identities": {name: UNDEFINED | {"bnsp_auc": None} for name in IDENTITIES},
}
UNREACHED = dict.fromkeys(["threshold", "pipeline_threshold", "precision", "recall", "flagged"])
CALIBRATION = {
    "rows": 201,
    "base_rate": 0.2,
    "prior": None,
    "confidence": 0.9,
    "method": "temperature",
    "parameters": [1.31],
    "temperature": 1.31,
    "candidates": {
        "temperature": {"log_loss": 0.1, "gain": 0.1, "standard_error": 0.02},
        "beta": {"reason": "no map rises"},
    },
    "cross_validated": {"log_loss": {"before": 0.2, "after": 0.1}},
    "thresholds": [
        {
            "precision_target": 0.8,
            **{"threshold": 0.6, "pipeline_threshold": 0.65, "precision": 0.79, "recall": 0.5, "flagged": 0.05},
        },
        {"precision_target": 0.95, **UNREACHED, "reason": "no threshold has this precision"},
    ],
    "precision_target": 0.8,
    "threshold": 0.6,
}
PROBE = {
    "templates": 66,
    "texts": 1800,
    "thresholds": {"0.5": 0.3, "0.8": 0.6},
    "identities": {
        name: {
            "shift": 0.01 * place,
            "interval": [0.01 * place - 0.02, 0.01 * place + 0.02],
            "shift_by_tone": dict.fromkeys(TONES, 0.01 * place),
            "civil_texts": 100,
            "false_positive_rate": {"0.5": 0.1 * place / 9, "0.8": 0.0},
        }
        for place, name in enumerate(IDENTITIES)
    },
    "unmarked": {"mean_score": 0.1, "civil_texts": 100, "false_positive_rate": {"0.5": 0.0, "0.8": 0.0}},
    "largest_shift": ["psychiatric_or_mental_illness", 0.08],
}
SECONDS = {"training": 100.0, "inference": 4.0, "metrics": 0.5, "probe": 3.0}


def benchmark(auc: float | None = 0.968194, cache_hit: bool = False, evaluation=None, **protocol):
    """A run that measured its times and AUC, and nothing else; or what was measured in an evaluation."""
    protocol = {
        "recipe": "reference",
        "dataset": "train.csv",
        "model": "bert",
        "train_rows": 400,
        "validation_rows": 3,
        "max_seq_length": 220,
        "epochs": 1.0,
        "seed": 1,
        "mixed_precision": "no",
        **protocol,
    }
    trainer = SimpleNamespace(
        clock=SimpleNamespace(seconds=SECONDS),
        checkpoints=Checkpoints(Path("run"), tokenizing={"rows": 6, "seconds": 2.0, "cache_hit": cache_hit}),
        trained_rows_and_tokens=lambda: (400, 30_000),
        train_dataset=TokenRows.from_lists([[1]]),
        eval_dataset=SimpleNamespace(lengths=np.array([60, 40])),
    )
    splits = SimpleNamespace(validation=["one", "two"], dropped_rows={}, counterfactuals=None)
    encoder = SimpleNamespace(training_flops=lambda rows, tokens: 6e9, forward_flops=lambda rows, tokens: 2e7)
    evaluation = evaluation or Evaluation(
        np.zeros((2, 1), np.float32), {"auc": auc, "bias": None}, {LABEL: Calibration()}, None
    )
    return build_benchmark({"label": "p100"}, protocol, splits, trainer, encoder, evaluation)


def labelled_run(names, rows=800, shares=None, seed=0, identities=IDENTITIES):
    """A run of several labels: its validation rows, its evaluation and its benchmark.

    Nobody said of every tenth row whether it has the main label, and of other tenths for each further one. `shares` are
    those of the rows that have a label, 0.2 by default; 0.0 makes a label of one class.
    """
    rng = np.random.default_rng(seed)
    shares = shares or [0.2] * len(names)
    logits = np.empty((rows, len(names)), np.float32)
    targets = np.empty((rows, len(names)))
    for place, share in enumerate(shares):
        targets[:, place] = rng.random(rows) < share
        targets[place::10, place] = np.nan
        logits[:, place] = rng.normal(-3.5 + 4.2 * (targets[:, place] == 1), 1.4 + 0.1 * place)
    mentions = {name: np.where(rng.random(rows) < 0.1, 0.8, 0.0) for name in identities}
    metrics, calibrations = judge_labels(logits, targets, names, mentions, seed)
    probe = PROBE | ({"labels": dict.fromkeys(names, PROBE)} if len(names) > 1 else {})
    evaluation = Evaluation(logits, metrics, calibrations, probe)
    columns = pa.table(
        {
            "id": np.arange(rows),
            "text": [f"comment {row}, as somebody wrote it" for row in range(rows)],
            **{
                label_column(name) if place else TARGET: pa.array(targets[:, place], from_pandas=True)
                for place, name in enumerate(names)
            },
        }
    )
    protocol = {"validation_rows": rows, "labels": list(names), "dataset": "train.csv"}
    return Dataset(columns), evaluation, benchmark(evaluation=evaluation, **protocol)


def full_benchmark():
    """A run of the published protocol that measured all there is to measure."""
    row = benchmark(
        0.97,
        dataset="google/civil_comments",
        model="google-bert/bert-base-uncased",
        config_overrides=None,
        train_rows=1_000_000,
        validation_rows=500_000,
        validation_positives=40_000,
        mixed_precision="fp16",
        optimiser={"optim": "adamw_torch", "batch_size": 64, "learning_rate": 2e-5},
    )
    flagged = {"false_positive_rate": {"0.5": 0.25, "0.8": 0.125}}
    row["machine"] = {"label": "v100", "device_name": "Tesla V100"}
    row["metrics"] |= {
        **{"auc_interval": [0.9691, 0.9709], "average_precision": 0.8, "log_loss": 0.1},
        **{"brier_score": 0.02, "expected_calibration_error": 0.01},
        "bias": BIAS | {"identities_counted": 9, "final_score": 0.9312345, "bnsp_auc": None},
        "undefined": {"bias.identities.jewish.bpsn_auc": "0 toxic rows, fewer than 10"},
    }
    row["calibration"] = CALIBRATION
    row["probe"] = PROBE | {"identities": {name: cells | flagged for name, cells in PROBE["identities"].items()}}
    return row


def own_row(label="v100", epochs=1.0, **protocol):
    """A row of a run of ours on the published protocol."""
    row = copy.deepcopy(published_rows()[0])
    row["machine"] = {"label": label, "device_count": 1, "matmul_flops_per_second": 9e13}
    row["protocol"] |= {"epochs": epochs, "seed": 1234, "validation_positives": 39_921} | protocol
    row["metrics"] = {"auc": 0.9683, "bias": None}
    return row


def several_labels_row(*names):
    """A row of a run of ours with several labels, with what is read of them."""
    row = own_row(labels=list(names))
    sections = {name: {"rows": 400_000, "positives": 30_000, "auc": row["metrics"]["auc"]} for name in names}
    row["metrics"] |= {"labels": sections, "mean_auc": 0.975, "mean_auc_labels": len(names)}
    return row


def write_row(folder, name, row):
    path = folder / name / "report" / "benchmark.json"
    path.parent.mkdir(parents=True)
    path.write_text(row if isinstance(row, str) else json.dumps(row))
    return path


def without(row, part, key):
    row = copy.deepcopy(row)
    del row[part][key]
    return row


def changed(row, part, key, value):
    row = copy.deepcopy(row)
    row[part][key] = value
    return row
