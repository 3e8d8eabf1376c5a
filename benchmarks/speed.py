"""Training and scoring real comments: this package against `transformers` as people use it.

    make bench-speed                              # 40 minutes on two cores
    python -m benchmarks.speed --quick            # minutes, to see that it works
    python -m benchmarks.speed --labels 7         # this package with 7 labels against itself with one
    python -m benchmarks.speed --model_shape bert-base --rows 8000     # on a GPU; random weights

Every round runs all contenders, one after the other, each in a process of its own: it trains one epoch on the same
rows and scores the same other rows. `hf_padded`, `hf_dynamic`, `hf_best` and `ours` use this package's settings of
allocator and threads, and the same precision; `published` and `pipeline` run with the defaults, in fp32. Round n has
seed n. `ours` takes the same optimiser steps as `hf_padded` and `hf_dynamic`; its AUC is compared with that of
`hf_padded`. Ratios are of the medians; above 1, this package is faster. The last line of standard output is the result
as JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path
from statistics import mean, median
from typing import Any

import datasets
import numpy as np
from datasets import Dataset

from benchmarks.baselines import CONTENDERS
from benchmarks.rounds import run_module
from benchmarks.sample import MAX_SEQ_LENGTH, sample_tokenizer
from benchmarks.task import Task, device, timed
from benchmarks.trainers import our_model
from toxicity.core.arguments import DataArguments
from toxicity.core.markdown import markdown_table
from toxicity.core.schema import TEXT
from toxicity.data.sources import labels_of, load_splits
from toxicity.data.tokenization import tokenize
from toxicity.hardware.machine import describe_machine
from toxicity.hardware.precision import fastest_precision
from toxicity.hardware.process import prepare_process
from toxicity.models.flops import Encoder, encoder_of

LABELS = {
    "published": "(a) one row at a time, padded to 220, plain loop, fp32",
    "hf_padded": "(b) HF Trainer, padded to 220",
    "hf_dynamic": "(c) HF Trainer, padded to the longest of a batch",
    "hf_best": "(d) HF Trainer, group_by_length, padded to the longest of a batch",
    "pipeline": "(e) transformers.pipeline, batches of 32, fp32",
    "ours": "(f) this package",
    "ours_one_share": "(g) this package, each batch as one share",
    "ours_compiled": "(h) this package, compiled",
    "ours_labels": "(i) this package, as many labels as --labels",
}
# The published way costs the same for every row, as all are padded to 220: it is timed on the first of them.
PUBLISHED_ROWS = 256


def main() -> None:
    """Run the benchmark and print its tables and its JSON line."""
    on_cpu = device().type == "cpu"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_500, help="comments to train on, and as many to score")
    parser.add_argument("--rounds", type=int, default=3, help="how often each contender runs")
    parser.add_argument("--growth_rows", type=int, nargs=2, default=(1_000, 100_000), help="few and many rows")
    parser.add_argument("--model_shape", choices=["minilm", "bert-base"], default="minilm")
    parser.add_argument("--config_overrides", help="for all contenders, as the flag of run_toxicity.py")
    parser.add_argument("--precision", choices=["no", "fp16", "bf16"], help="by default the best for this machine")
    parser.add_argument(
        "--contenders",
        nargs="+",
        choices=CONTENDERS,
        help="by default all that need no other flag, or with --labels `ours` and `ours_labels`",
    )
    parser.add_argument("--labels", type=int, default=1, help="of `ours_labels`, which train at once")
    parser.add_argument("--quick", action="store_true", help="few rows, one round: to see that it works")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rows, arguments.rounds, arguments.growth_rows = 96, 1, (1_000, 4_000)
    if arguments.contenders is None:
        # Elsewhere than on a CPU a batch is always one share.
        left_out = {"ours_compiled", "ours_labels"} | (set() if on_cpu else {"ours_one_share"})
        arguments.contenders = [name for name in LABELS if name not in left_out]
        if arguments.labels > 1:
            arguments.contenders = ["ours", "ours_labels"]
    prepare_process()
    datasets.disable_progress_bars()
    machine = describe_machine(device(), 1)
    precision = arguments.precision or fastest_precision(device())

    with tempfile.TemporaryDirectory() as folder:
        task = Task(folder, 0, precision, arguments.model_shape, arguments.config_overrides)
        tokens = prepare(Path(folder), arguments.rows)
        results: dict[str, list[dict[str, Any]]] = {name: [] for name in arguments.contenders}
        for round_number in range(1, arguments.rounds + 1):
            for name in arguments.contenders:
                print(f"round {round_number} of {arguments.rounds}: {LABELS[name]}", file=sys.stderr)
                labels = arguments.labels if name == "ours_labels" else 1
                results[name].append(run_contender(name, dataclasses.replace(task, seed=round_number, labels=labels)))
        scaling = measure_scaling(Path(folder), arguments.growth_rows) if arguments.labels == 1 else None
        encoder = encoder_of(our_model(task))

    table = summarise(results, tokens, encoder)
    print(
        f"{arguments.rows:,} comments to train on and as many to score, {tokens['train'] / arguments.rows:.1f} tokens "
        f"each on average, {arguments.model_shape}, {precision} on {machine['device_name']} "
        f"({machine['cpu_count']} cores, torch {machine['torch']}); medians of {arguments.rounds} rounds.\n"
    )
    print_table(table)
    found = ratios(table)
    if vs_one := found["training_labels_vs_one"]:
        print(f"\nThis package with {arguments.labels} labels trains at {vs_one:.3f} of its speed with one.\n")
    if scaling:
        print_growth(scaling)
    print(json.dumps(found | {"contenders": table, "growth": scaling, "machine": machine}))


def prepare(folder: Path, rows: int) -> dict[str, Any]:
    """Tokenise the rows and save them where the contenders load them from.

    Returns:
        Token counts of `train` and `validation`, without padding, and `tokenizer_seconds` of the latter.
    """
    splits = load_splits(DataArguments(dataset_name="sample", max_train_samples=rows, max_eval_samples=rows))
    tokenizer = sample_tokenizer()
    counts: dict[str, Any] = {}
    for name, split in (("train", splits.train), ("validation", splits.validation)):
        seconds, tokens = timed(
            lambda split=split: tokenize(split, tokenizer, MAX_SEQ_LENGTH, cache_dir=folder / "cache")
        )
        counts |= {name: int(tokens.lengths.sum()), "tokenizer_seconds": seconds}
        columns = {TEXT: split[TEXT][:], "labels": labels_of(split).astype(np.float32), **tokens.dataset[:]}
        dataset = Dataset.from_dict(columns)
        dataset.save_to_disk(folder / name)
        if name == "train":
            dataset.select(range(min(rows, PUBLISHED_ROWS))).save_to_disk(folder / "published")
    return counts


def run_contender(name: str, task: Task) -> dict[str, Any]:
    """Run one contender in a new process."""
    return run_module("benchmarks.baselines", name, str(task.save()))


def measure_scaling(folder: Path, sizes: tuple[int, int]) -> dict[str, float]:
    """Cost of each additional row: differences between few rows and many."""
    measured = []
    for rows in sizes:
        print(f"scaling: {rows:,} rows", file=sys.stderr)
        # The first call fills the token cache and is not counted.
        runs = [run_module("benchmarks.scaling", str(rows), str(folder / "scaling")) for _ in range(4)][1:]
        measured.append({name: median(run[name] for run in runs) for name in runs[0]})
    few, many = measured
    more_rows = many["rows"] - few["rows"]
    return {
        "few_rows": few["rows"],
        "many_rows": many["rows"],
        "loading_rate_ratio": many["loaded_rows_per_second"] / few["loaded_rows_per_second"],
        "scoring_rate_ratio": many["scored_rows_per_second"] / few["scored_rows_per_second"],
        "loaded_rows_per_second": many["loaded_rows_per_second"],
        "start_up_seconds_per_100000_rows": (many["start_up_seconds"] - few["start_up_seconds"]) / more_rows * 1e5,
        "memory_bytes_per_row": (many["memory_bytes"] - few["memory_bytes"]) / more_rows,
        "peak_memory_bytes_per_row": (many["peak_memory_bytes"] - few["peak_memory_bytes"]) / more_rows,
    }


def summarise(
    results: dict[str, list[dict[str, Any]]], tokens: dict[str, Any], encoder: Encoder
) -> dict[str, dict[str, float]]:
    """Medians over the rounds, by contender.

    `training_mfu` and `scoring_mfu` (model FLOPs utilisation) are FLOP/s on real tokens over the FLOP/s of matrix
    products in the same process and precision.
    """
    table = {}
    for name, rounds in results.items():
        row: dict[str, float] = {"peak_memory_bytes": max(run["peak_memory_bytes"] for run in rounds)}
        for phase, split, passes in (("training", "train", 3), ("scoring", "validation", 1)):
            if f"{phase}_seconds" not in rounds[0]:
                continue
            rows = rounds[0]["trained_rows" if phase == "training" else "scored_rows"]
            seconds = median(run[f"{phase}_seconds"] for run in rounds)
            row[f"{phase}_rows_per_second"] = rows / seconds
            # `published` has a part of the rows, and the peak was not measured in the fp32 of these two.
            if name not in ("published", "pipeline"):
                row[f"{phase}_tokens_per_second"] = tokens[split] / seconds
                flops = passes * encoder.forward_flops(rows, tokens[split])
                row[f"{phase}_mfu"] = median(flops / run[f"{phase}_seconds"] / run["peak"] for run in rounds)
        for key in ("auc", *(key for key in rounds[0] if "padding" in key)):
            if key in rounds[0]:
                row[key] = mean(run[key] for run in rounds)
        if name == "ours" and "tokenizer_seconds" in tokens:
            row["tokenizer_rows_per_second"] = rounds[0]["scored_rows"] / tokens["tokenizer_seconds"]
        table[name] = row
    return table


def ratios(table: dict[str, dict[str, float]]) -> dict[str, float | None]:
    """The first keys of the JSON line; None where a contender was left out.

    The pipeline starts from text, so it is compared with tokenising and scoring together.
    """
    ours = table.get("ours", {})

    def ratio(phase: str, other: str, of: str = "ours") -> float | None:
        rates = [table.get(name, {}).get(f"{phase}_rows_per_second") for name in (of, other)]
        return rates[0] / rates[1] if all(rates) else None

    with_tokenizer = None
    if ours and "pipeline" in table:
        ours_seconds = 1 / ours["scoring_rows_per_second"] + 1 / ours["tokenizer_rows_per_second"]
        with_tokenizer = 1 / ours_seconds / table["pipeline"]["scoring_rows_per_second"]
    return {
        "training_vs_hf_padded": ratio("training", "hf_padded"),
        "training_vs_hf_dynamic": ratio("training", "hf_dynamic"),
        "training_vs_hf_best": ratio("training", "hf_best"),
        "training_vs_published": ratio("training", "published"),
        "training_vs_one_share": ratio("training", "ours_one_share"),
        "scoring_vs_hf_padded": ratio("scoring", "hf_padded"),
        "scoring_vs_hf_dynamic": ratio("scoring", "hf_dynamic"),
        "scoring_vs_hf_best": ratio("scoring", "hf_best"),
        "scoring_vs_pipeline": with_tokenizer,
        "training_labels_vs_one": ratio("training", "ours", of="ours_labels"),
        "scoring_labels_vs_one": ratio("scoring", "ours", of="ours_labels"),
        "training_mfu": ours.get("training_mfu"),
        "scoring_mfu": ours.get("scoring_mfu"),
        # That of attention: linear layers compute none.
        "padding_share": ours.get("padding_attention"),
        "auc_difference": ours["auc"] - table["hf_padded"]["auc"] if ours and "hf_padded" in table else None,
    }


def print_table(table: dict[str, dict[str, float]]) -> None:
    """Print the contenders' results for people."""

    def cell(row: dict[str, float], key: str, form: str) -> str:
        return format(row[key], form) if key in row else ""

    rates = ("rows/s", "real tokens/s", "of matmul peak", "faster by")
    header = ("", f"train {rates[0]}", *rates[1:], f"score {rates[0]}", *rates[1:], "AUC", "peak memory, GB")
    lines = []
    faster = {key: ratio for key, ratio in ratios(table).items() if ratio is not None}
    for name, row in table.items():
        cells = [LABELS[name]]
        for phase in ("training", "scoring"):
            cells += [cell(row, f"{phase}_rows_per_second", ",.1f"), cell(row, f"{phase}_tokens_per_second", ",.0f")]
            cells += [cell(row, f"{phase}_mfu", ".2f"), cell(faster, f"{phase}_vs_{name}", ".2f")]
        cells += [cell(row, "auc", ".5f"), f"{row['peak_memory_bytes'] / 2**30:.2f}"]
        lines.append(cells)
    print(markdown_table(header, lines))
    if "ours" in table:
        shares = (
            f"{table['ours'][f'{phase}padding_{layers}']:.1%} {where}"
            for phase, layers, where in (
                ("", "linear", "of linear layers and"),
                ("", "attention", "of attention in training,"),
                ("scoring_", "linear", "and"),
                ("scoring_", "attention", "in scoring"),
            )
        )
        print(f"\nPadding, of the positions that this package computes: {' '.join(shares)}.")


def print_growth(scaling: dict[str, float]) -> None:
    """Print the results of `measure_scaling` for people."""
    sentences = (
        "\nFrom {few_rows:,.0f} to {many_rows:,.0f} rows, with a negligible model: loading runs at "
        "{loading_rate_ratio:.2f} of the rate ({loaded_rows_per_second:,.0f} rows/s), scoring at "
        "{scoring_rate_ratio:.2f}; start-up takes "
        "{start_up_seconds_per_100000_rows:+.2f} s per 100,000 rows; memory {memory_bytes_per_row:+.0f} bytes a row "
        "(its peak, while reading, {peak_memory_bytes_per_row:+.0f}).\n"
    )
    print(sentences.format(**scaling))


if __name__ == "__main__":
    main()
