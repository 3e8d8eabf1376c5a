"""Scoring files of real comments: this package against the `pipeline` of transformers, its own bare loop, and int8.

    make bench-predict

Every round runs all contenders, one after the other, on the same comments: the validation rows of the sample recipe.
Ratios are of the medians; above 1, this package is faster. Models are loaded before the clock starts. Memory is the
peak of a new process that scores a CSV file with a model whose own memory is negligible. The last line of standard
output is the result as JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import datasets
import pandas
import pyarrow as pa
import pyarrow.csv
import torch
from sklearn.metrics import roc_auc_score
from transformers import BertForSequenceClassification, pipeline
from transformers.utils import logging as transformers_logging

from benchmarks.memory import peak_mb_in_new_process
from benchmarks.rounds import time_in_rounds
from benchmarks.sample import recipe_data, sample_tokenizer, tiny_bert
from toxicity.core.errors import RequestError, refusals_exit_cleanly
from toxicity.core.markdown import markdown_table
from toxicity.core.schema import ID, TEXT
from toxicity.data.sources import labels_of, load_splits, read_sample
from toxicity.hardware.process import prepare_process
from toxicity.predict.export.onnx import FORMS, export
from toxicity.predict.job import describe_job
from toxicity.predict.ledger import Ledger
from toxicity.predict.progress import Progress
from toxicity.predict.score_shards import Options, score_shards
from toxicity.predict.scorer import Scorer
from toxicity.predict.shards import list_shards

PIPELINE_BATCH_SIZE = 32
MEMORY_ROWS = (10_000, 100_000, 1_000_000)

CONTENDERS = {
    "ours": "this package, file to file",
    "pipeline": f"`pipeline(batch_size={PIPELINE_BATCH_SIZE})`, file to file",
    "loop": "this package's loop alone: token ids in, scores out",
    "fp32": "the loop in fp32",
    "int8": "the loop with the int8 export, in ONNX Runtime",
}


def main() -> None:
    """Run the benchmark and print its tables and its JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="runs/sample", help="folder of a trained model; `make demo` makes one")
    parser.add_argument("--rows", type=int, default=2_000, help="comments to score, 2,000 at most")
    parser.add_argument("--rounds", type=int, default=3, help="how often each contender runs")
    parser.add_argument("--memory_rows", type=int, nargs="+", default=MEMORY_ROWS, help="rows of the files")
    arguments = parser.parse_args()
    if not (Path(arguments.model) / "config.json").is_file():
        raise RequestError(f"there is no trained model in {arguments.model}: run `make demo` first, it takes minutes.")
    prepare_process(scoring=True)
    datasets.disable_progress_bars()
    transformers_logging.disable_progress_bar()

    with tempfile.TemporaryDirectory() as folder:
        result, seconds = measure(Path(folder), arguments.model, arguments.rows, arguments.rounds)
        peaks = {rows: peak_memory_mb(Path(folder), rows) for rows in arguments.memory_rows}
    result["peak_memory_growth_mb"] = peaks[max(peaks)] - peaks[min(peaks)]
    print(f"{arguments.rows:,} comments, medians of {arguments.rounds} rounds\n")
    rates = [(CONTENDERS[name], f"{arguments.rows / taken:,.0f}") for name, taken in seconds.items()]
    print(markdown_table(("", "rows/s"), rates) + "\n")
    memory = [(f"{rows:,}", f"{peak:,.0f}") for rows, peak in peaks.items()]
    print(markdown_table(("rows in the file", "peak memory, MB"), memory))
    print(json.dumps(result))


def measure(folder: Path, model: str, rows: int, rounds: int) -> tuple[dict[str, float | None], dict[str, float]]:
    """Measure everything but memory.

    Args:
        folder: an empty folder, for files and the export.
        model: folder of a trained model.
        rows: number of comments to score.
        rounds: how often each contender runs.

    Returns:
        The keys of the JSON line, those of int8 None if ONNX is not installed, and the median seconds by contender.
    """
    validation = load_splits(recipe_data()).validation.select(range(rows))
    labels, texts = labels_of(validation), validation[TEXT][:]
    pyarrow.csv.write_csv(pa.table({ID: pa.array(range(rows)), TEXT: pa.array(texts)}), folder / "comments.csv")

    scorers = {"loop": Scorer(model), "fp32": Scorer(model, mixed_precision="no")}
    if scorers["loop"].mixed_precision == "no":
        del scorers["fp32"]
    try:
        export(model, "main", {form: folder / "onnx" / form for form in FORMS})
        scorers["int8"] = Scorer(str(folder / "onnx" / "int8"))
    except RequestError as error:
        print(f"int8 is left out: {error}", file=sys.stderr)
    classify = pipeline("text-classification", model, batch_size=PIPELINE_BATCH_SIZE)
    tokens = scorers["loop"].tokenize(texts)

    contenders: dict[str, Callable[[], object]] = {
        "ours": lambda: score_file(folder / "comments.csv", scorers["loop"], folder / "ours"),
        "pipeline": lambda: score_with_pipeline(folder / "comments.csv", classify, folder / "theirs.parquet"),
        **{name: lambda scorer=scorer: scorer.probabilities(tokens) for name, scorer in scorers.items()},
    }
    for scorer in scorers.values():  # what is made on first use
        scorer(texts[:32])
    seconds, _ = time_in_rounds(contenders, CONTENDERS, rounds)

    result = {
        "vs_pipeline": seconds["pipeline"] / seconds["ours"],
        "vs_scoring_loop": seconds["loop"] / seconds["ours"],
        "int8_vs_torch": None,
        "int8_auc_loss": None,
    }
    if "int8" in scorers:
        exact, small = (
            roc_auc_score(labels, scorer.probabilities(tokens)[:, 0])
            for scorer in (scorers.get("fp32", scorers["loop"]), scorers["int8"])
        )
        result["int8_vs_torch"] = min(seconds[name] for name in ("loop", "fp32") if name in seconds) / seconds["int8"]
        result["int8_auc_loss"] = float(exact - small)
    return result, seconds


def score_file(path: Path, scorer: Scorer, folder: Path) -> None:
    """Score a CSV file as `python -m toxicity.predict` does once the model is loaded."""
    shutil.rmtree(folder, ignore_errors=True)
    options = Options(scorer.threshold, "parquet", on_bad_rows="score_null")
    shards = list_shards([str(path)])
    ledger = Ledger(folder, describe_job("model", scorer, options))
    ledger.start()
    outcomes = score_shards(shards, scorer, ledger, options, Progress(shards[0].bytes or 0))
    assert set(outcomes.values()) == {None}
    ledger.finish({})


def score_with_pipeline(path: Path, classify: Callable[..., list[dict[str, object]]], output: Path) -> None:
    """Score a CSV file as the documentation of transformers shows it."""
    frame = pandas.read_csv(path)
    results = classify(frame[TEXT].tolist(), truncation=True)  # at the length of the run that saved the tokenizer
    frame["score"] = [result["score"] for result in results]
    frame[[ID, "score"]].to_parquet(output)


def peak_memory_mb(folder: Path, rows: int) -> float:
    """Peak memory in MiB of a new process that scores a CSV file of `rows` comments of the sample."""
    print(f"memory: {rows:,} rows", file=sys.stderr)
    write_large_csv(folder / f"large-{rows}.csv", rows)
    return peak_mb_in_new_process(_score_with_tiny_model, str(folder), rows)


def write_large_csv(path: Path, rows: int) -> None:
    """Write `rows` comments: those of the sample, repeated."""
    texts = read_sample().table[TEXT].combine_chunks()
    schema = pa.schema({ID: pa.int64(), TEXT: texts.type})
    with pyarrow.csv.CSVWriter(path, schema) as writer:
        for start in range(0, rows, len(texts)):
            part = texts[: rows - start]
            writer.write_table(pa.table([pa.array(range(start, start + len(part))), part], schema=schema))


def _score_with_tiny_model(folder: str, rows: int) -> None:
    prepare_process(scoring=True)
    torch.set_num_threads(1)  # matrices this small gain nothing from a second thread
    transformers_logging.disable_progress_bar()
    tokenizer = sample_tokenizer()
    torch.manual_seed(0)
    model = Path(folder) / f"tiny-{rows}"
    BertForSequenceClassification(tiny_bert(len(tokenizer))).save_pretrained(model)
    tokenizer.save_pretrained(model)
    score_file(Path(folder) / f"large-{rows}.csv", Scorer(str(model), device="cpu"), Path(folder) / f"scores-{rows}")


if __name__ == "__main__":
    with refusals_exit_cleanly():
        main()
