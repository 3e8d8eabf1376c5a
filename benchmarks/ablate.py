"""Ablation of the training options on the sample: one option at a time, three seeds.

    make ablate
    make ablate ABLATE_OPTIONS="--train_file train.csv --label_column_names toxic threat insult"    # several labels

Options that act in later epochs are measured on fewer comments and three epochs. Every seed is a round in which each
option trains once. The AUC is the mean over the seeds; the time is the median of the ratios to the run of the same seed
without the option. An option counts as better only if its mean gain exceeds the largest difference between two seeds,
with it or without. Finished runs are kept in `runs/ablate`, so that an interrupted ablation continues; remove the
folder to measure everything again, as after a change of the code. Flags that this command does not know are those of
`run_toxicity.py` for all runs. With several labels the AUC is their mean. The last line of standard output is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from statistics import mean, median
from typing import Any

import yaml

from toxicity.core.errors import RunFailure, refusals_exit_cleanly
from toxicity.core.markdown import Table, markdown_table

RECIPE = Path("recipes/sample.yaml")
SEEDS = (1, 2, 3)
NO_DROPOUT = "hidden_dropout_prob=0,attention_probs_dropout_prob=0"

# Warmup, linear decay and no options. Dropout of attention weights is off in all runs, as it is slow on a CPU.
PLAIN: dict[str, Any] = {
    "max_train_samples": 12_000,
    "max_eval_samples": 8_000,
    "max_seq_length": 220,
    "config_overrides": "attention_probs_dropout_prob=0",
    "num_train_epochs": 1,
    "learning_rate": 1e-4,
    "per_device_train_batch_size": 32,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0.06,
    "weight_decay": 0.01,
    "init_head_bias": False,
    "head_tail_truncation": False,
    "layerwise_lr_decay": 1,
    "later_negatives": 1,
    "counterfactuals": 0,
    "counterfactual_pairing": 0,
}
# The sample recipe, but for what it does to comments that name a group.
NO_COPIES = PLAIN | {"config_overrides": NO_DROPOUT, "max_seq_length": 512, "init_head_bias": True}
THREE_EPOCHS = PLAIN | {"max_train_samples": 2_000, "max_eval_samples": 4_000, "num_train_epochs": 3}
# What an option does to comments in other writing is measured on more of them than a run does.
REWRITTEN = {"robustness_rows": 2_000}
PLAIN_RUN, BEST_RUN = "plain", "the sample recipe"
BEST = NO_COPIES | {"counterfactuals": 8, "counterfactual_pairing": 0.8}
# The first run of each table is the one that the others are compared with.
TABLES: list[dict[str, dict[str, Any]]] = [
    {
        PLAIN_RUN: PLAIN,
        BEST_RUN: BEST,
        "no dropout": PLAIN | {"config_overrides": NO_DROPOUT},
        "no dropout, 512 tokens": PLAIN | {"config_overrides": NO_DROPOUT, "max_seq_length": 512},
        "head and tail": PLAIN | {"head_tail_truncation": True},
        "head bias": PLAIN | {"init_head_bias": True},
        "layer-wise decay 0.9": PLAIN | {"layerwise_lr_decay": 0.9},
        "balanced classes": PLAIN | {"positive_class_weight": ["balanced"]},
        "focal loss": PLAIN | {"focal_gamma": 2},
    },
    {
        "no copies": NO_COPIES | REWRITTEN,
        BEST_RUN: BEST,
        "copies": NO_COPIES | {"counterfactuals": 2},
        "identity rows": NO_COPIES | {"identity_rows": 0.1},
        "typos": NO_COPIES | REWRITTEN | {"augment_typos": 0.1},
    },
    {
        "three epochs": THREE_EPOCHS,
        "later negatives 0.5": THREE_EPOCHS | {"later_negatives": 0.5},
    },
]
RUNS = {name: flags for runs in TABLES for name, flags in runs.items()}


def main() -> None:
    """Train the runs that are missing, and print the tables and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/ablate"), help="where finished runs are kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS), help="by default all")
    parser.add_argument("--at_once", type=int, default=1, help="runs at the same time, each on its share of the cores")
    arguments, more = parser.parse_known_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    tables = [
        [first, *(name for name in others if name in arguments.runs)]
        for first, *others in TABLES
        if first == PLAIN_RUN or {first, *others} & set(arguments.runs)
    ]
    # A run may be in two tables.
    wanted = list(dict.fromkeys((name, seed) for seed in arguments.seeds for names in tables for name in names))

    free_cores = SimpleQueue()
    for cores in _shares_of_cores(arguments.at_once):
        free_cores.put(cores)

    def train(run: tuple[str, int]) -> dict[str, Any]:
        cores = free_cores.get()
        try:
            return result_of(*run, arguments.folder, cores, more)
        finally:
            free_cores.put(cores)

    with ThreadPoolExecutor(arguments.at_once) as pool:
        results = dict(zip(wanted, pool.map(train, wanted), strict=True))
    rows_of = [{name: [results[name, seed] for seed in arguments.seeds] for name in names} for names in tables]
    for rows in rows_of:
        first = next(iter(rows))
        flags = RUNS[first]
        print(
            f"{flags['max_train_samples']:,} comments to train on, {flags['max_eval_samples']:,} to validate on, "
            f"epochs: {flags['num_train_epochs']}, seeds: {', '.join(map(str, arguments.seeds))}"
            f"{'; all runs: ' if more else ''}{' '.join(more)}.\n"
        )
        header = ("", "AUC, mean", "of each seed", f"against {first}", "time", "largest shift, of each seed")
        print(f"{markdown_table(header, table(rows))}\n")
        if REWRITTEN.items() <= flags.items():
            rewritten = {name: results for name, results in rows.items() if REWRITTEN.items() <= RUNS[name].items()}
            print(f"Mean AUC of comments in other writing:\n\n{markdown_table(*rewritten_table(rewritten))}\n")
    print(json.dumps(summary(rows_of[0])))


def result_of(name: str, seed: int, folder: Path, cores: set[int] | None, more: Sequence[str] = ()) -> dict[str, Any]:
    """Train, or read the result from `folder` if this run was done before with the same flags and recipe.

    Args:
        name: of `RUNS`.
        seed: of the run.
        folder: where results are kept.
        cores: CPUs to run on; None for all.
        more: further flags and values.

    Returns:
        `auc` (of several labels the mean), `training_seconds`, `largest_shift` of the identity probe, None if it was
        not measured, and `rewritten_aucs`, by the name of the other writing, with the `flags`, the `recipe` and `more`
        that they belong to.

    Raises:
        RunFailure: if the run fails, with the end of its log.
    """
    flags = {**RUNS[name], "seed": seed}
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    stem = f"{name.replace(' ', '-')}-{seed}"
    kept = folder / f"{stem}.json"
    if kept.exists():
        result = json.loads(kept.read_text())
        if (result["flags"], result["recipe"], result.get("more", [])) == (flags, recipe, list(more)):
            return result
    print(f"seed {seed}: {name}\n", end="", file=sys.stderr)  # one write, as other threads print too
    command = [sys.executable, "-m", "accelerate.commands.launch", "--quiet", "--num_cpu_threads_per_process", "1"]
    command += ["--config_file", "accelerate_configs/cpu.yaml", "run_toxicity.py", str(RECIPE)]
    command += [*as_flags(flags), *more, "--output_dir", str(folder / stem)]
    if cores:
        # Sets the affinity of this thread, which the new process inherits.
        os.sched_setaffinity(0, cores)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunFailure(f"{' '.join(command)}\nended with exit code {done.returncode}: {done.stderr[-2000:]}")
    benchmark = json.loads(done.stdout.splitlines()[-1])
    metrics, rewritings = benchmark["metrics"], (benchmark.get("robustness") or {}).get("rewritings", {})
    result = {
        "flags": flags,
        "recipe": recipe,
        "more": list(more),
        "auc": metrics.get("mean_auc", metrics["auc"]),
        "training_seconds": benchmark["timing"]["training_seconds"],
        "largest_shift": ((benchmark.get("probe") or {}).get("largest_shift") or (None, None))[1],
        "rewritten_aucs": {name: found["auc"] for name, found in rewritings.items()},
    }
    kept.write_text(json.dumps(result))
    shutil.rmtree(folder / stem)
    return result


def as_flags(options: Mapping[str, Any]) -> list[str]:
    """Options as they are written on the command line."""
    values = {name: value if isinstance(value, list) else [value] for name, value in options.items()}
    return [part for name, parts in values.items() for part in (f"--{name}", *map(str, parts))]


def table(rows: Mapping[str, list[dict[str, Any]]]) -> list[tuple[str, ...]]:
    """One line per run: name, mean AUC, AUC of each seed, the gain over the first run, the ratio of times, and the
    largest shift of the identity probe for each seed.
    """
    first, plain = next(iter(rows.items()))
    lines = []
    for name, results in rows.items():
        gain, spread = _mean_auc(results) - _mean_auc(plain), max(_spread(results), _spread(plain))
        verdict = "within the spread" if abs(gain) <= spread else "better" if gain > 0 else "worse"
        against = f"± {spread:.5f}" if name == first else f"{gain:+.5f}, {verdict}"
        seeds = " ".join(f"{result['auc']:.5f}" for result in results)
        known = [result["largest_shift"] for result in results if result.get("largest_shift") is not None]
        shifts = " ".join(f"{shift:+.3f}" for shift in known)
        lines.append((name, f"{_mean_auc(results):.5f}", seeds, against, f"{_time_ratio(results, plain):.2f}", shifts))
    return lines


def rewritten_table(rows: Mapping[str, list[dict[str, Any]]]) -> Table:
    """One line per run: its name, and the mean AUC over the seeds in each other writing, with its spread."""
    names = list(next(iter(rows.values()))[0]["rewritten_aucs"])
    lines = []
    for run, results in rows.items():
        of_seeds = [[result["rewritten_aucs"][name] for result in results] for name in names]
        lines.append((run, *(f"{mean(aucs):.5f} ± {max(aucs) - min(aucs):.5f}" for aucs in of_seeds)))
    return Table(("", *names), lines)


def summary(rows: Mapping[str, list[dict[str, Any]]]) -> dict[str, float | None]:
    """The JSON line; the values of the sample recipe are None if it was not run."""
    plain, best = rows[PLAIN_RUN], rows.get(BEST_RUN)
    return {
        "plain_auc_mean": _mean_auc(plain),
        "best_auc_mean": best and _mean_auc(best),
        "auc_spread": _spread(plain),
        "best_time_vs_plain": best and _time_ratio(best, plain),
    }


def _mean_auc(results: list[dict[str, Any]]) -> float:
    return mean(result["auc"] for result in results)


def _spread(results: list[dict[str, Any]]) -> float:
    aucs = [result["auc"] for result in results]
    return max(aucs) - min(aucs)


def _time_ratio(results: list[dict[str, Any]], plain: list[dict[str, Any]]) -> float:
    pairs = zip(results, plain, strict=True)
    return median(result["training_seconds"] / other["training_seconds"] for result, other in pairs)


def _shares_of_cores(parts: int) -> list[set[int] | None]:
    if parts == 1 or not hasattr(os, "sched_getaffinity"):
        return [None] * parts
    cores = sorted(os.sched_getaffinity(0))
    return [set(cores[part::parts]) for part in range(parts)]


if __name__ == "__main__":
    with refusals_exit_cleanly():
        main()
