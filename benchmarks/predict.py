"""Scoring files of real comments: this package against the `pipeline` of transformers, its own bare loop, and int8.

    make bench-predict

All contenders score the same comments, those that the sample recipe validates on, in every round, one after the other;
ratios are of the medians, above 1 where this package is faster. Models are loaded before the clock starts. Memory is
the peak of a process of its own that scores a CSV file with a model so small that nothing else is in the picture.
The last line of standard output is the result as JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import datasets
import pandas
import pyarrow as pa
import pyarrow.csv
import torch
from sklearn.metrics import roc_auc_score
from transformers import BertConfig, BertForSequenceClassification, pipeline
from transformers.utils import logging as transformers_logging

from benchmarks.resident import peak_mb_of_a_process
from benchmarks.rounds import time_in_rounds
from toxicity.core.arguments import DataArguments, ModelArguments
from toxicity.core.errors import RequestError, refusals_exit_cleanly
from toxicity.core.schema import ID, TEXT
from toxicity.data.sources import labels_of, load_splits, read_sample
from toxicity.hardware.cpu import prepare_cpu
from toxicity.models.classifier import SAMPLE_MODEL, load_tokenizer
from toxicity.predict.export.onnx import FORMS, SAMPLE, export
from toxicity.predict.job import describe_job
from toxicity.predict.ledger import Ledger
from toxicity.predict.progress import Progress
from toxicity.predict.score_shards import Options, score_shards
from toxicity.predict.scorer import Scorer
from toxicity.predict.shards import list_shards

# Of the model that is weighed; the others say it themselves.
MAX_SEQ_LENGTH = 220
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
    parser.add_argument("--memory_rows", type=int, nargs="+", default=MEMORY_ROWS, help="sizes of file to weigh")
    arguments = parser.parse_args()
    if not (Path(arguments.model) / "config.json").is_file():
        raise RequestError(f"there is no trained model in {arguments.model}: run `make demo` first, it takes minutes.")
    prepare_cpu(scoring=True)
    datasets.disable_progress_bars()
    transformers_logging.disable_progress_bar()

    with tempfile.TemporaryDirectory() as folder:
        result, seconds = measure(Path(folder), arguments.model, arguments.rows, arguments.rounds)
        peaks = {rows: peak_memory_mb(Path(folder), rows) for rows in arguments.memory_rows}
    result["peak_memory_growth_mb"] = peaks[max(peaks)] - peaks[min(peaks)]
    print(f"{arguments.rows:,} comments, medians of {arguments.rounds} rounds\n")
    print("| | rows/s |\n|---|---|")
    for name, times in seconds.items():
        print(f"| {CONTENDERS[name]} | {arguments.rows / median(times):,.0f} |")
    print("\n| rows in the file | peak memory, MB |\n|---|---|")
    for rows, peak in peaks.items():
        print(f"| {rows:,} | {peak:,.0f} |")
    print(json.dumps(result))


def measure(folder: Path, model: str, rows: int, rounds: int) -> tuple[dict[str, float | None], dict[str, list[float]]]:
    """Measure all but memory.

    Args:
        folder: an empty one, for files and the export.
        model: folder of a trained model.
        rows: comments to score.
        rounds: how often each contender runs.

    Returns:
        The ratios of the contract, those of int8 None where ONNX is not installed, and seconds of each round by
        contender.
    """
    validation = load_splits(DataArguments(**SAMPLE)).validation.select(range(rows))
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

    medians = {name: median(times) for name, times in seconds.items()}
    result = {
        "vs_pipeline": medians["pipeline"] / medians["ours"],
        "vs_scoring_loop": medians["loop"] / medians["ours"],
        "int8_vs_torch": None,
        "int8_auc_loss": None,
    }
    if "int8" in scorers:
        exact, small = (
            roc_auc_score(labels, scorer.probabilities(tokens)[:, 0])
            for scorer in (scorers.get("fp32", scorers["loop"]), scorers["int8"])
        )
        result["int8_vs_torch"] = min(medians[name] for name in ("loop", "fp32") if name in medians) / medians["int8"]
        result["int8_auc_loss"] = float(exact - small)
    return result, seconds


def score_file(path: Path, scorer: Scorer, folder: Path) -> None:
    """What `python -m toxicity.predict` does when the model is loaded."""
    shutil.rmtree(folder, ignore_errors=True)
    options = Options(scorer.threshold, "parquet", on_bad_rows="score_null")
    shards = list_shards([str(path)])
    ledger = Ledger(folder, describe_job("model", scorer, options))
    ledger.start()
    outcomes = score_shards(shards, scorer, ledger, options, Progress(shards[0].bytes or 0))
    assert set(outcomes.values()) == {None}
    ledger.finish({})


def score_with_pipeline(path: Path, classify: Callable[..., list[dict[str, object]]], output: Path) -> None:
    """What the documentation of transformers has one do."""
    frame = pandas.read_csv(path)
    results = classify(frame[TEXT].tolist(), truncation=True)  # where the run that saved the tokenizer cut them
    frame["score"] = [result["score"] for result in results]
    frame[[ID, "score"]].to_parquet(output)


def peak_memory_mb(folder: Path, rows: int) -> float:
    """Peak resident memory of a process of its own that scores a CSV file of so many of the sample's comments."""
    print(f"memory: {rows:,} rows", file=sys.stderr)
    write_large_csv(folder / f"large-{rows}.csv", rows)
    return peak_mb_of_a_process(_score_with_a_small_model, str(folder), rows)


def write_large_csv(path: Path, rows: int) -> None:
    """The sample's comments, repeated."""
    texts = read_sample().table[TEXT].combine_chunks()
    schema = pa.schema({ID: pa.int64(), TEXT: texts.type})
    with pyarrow.csv.CSVWriter(path, schema) as writer:
        for start in range(0, rows, len(texts)):
            part = texts[: rows - start]
            writer.write_table(pa.table([pa.array(range(start, start + len(part))), part], schema=schema))


def _score_with_a_small_model(folder: str, rows: int) -> None:
    prepare_cpu(scoring=True)
    torch.set_num_threads(1)  # two would only wait for each other over products this small
    transformers_logging.disable_progress_bar()
    _, tokenizer = load_tokenizer(ModelArguments(SAMPLE_MODEL), MAX_SEQ_LENGTH)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        num_labels=1,
        problem_type="multi_label_classification",
    )
    model = Path(folder) / f"tiny-{rows}"
    BertForSequenceClassification(config).save_pretrained(model)
    tokenizer.save_pretrained(model)
    score_file(Path(folder) / f"large-{rows}.csv", Scorer(str(model), device="cpu"), Path(folder) / f"scores-{rows}")


if __name__ == "__main__":
    with refusals_exit_cleanly():
        main()
