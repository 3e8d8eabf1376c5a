"""The contenders of `benchmarks.predict`: ways to score the same comments, each run in a process of its own.

    python -m benchmarks.scoring_contenders NAME TASK.json

A contender loads its model and warms up before the clock starts: a loop with all comments, as OpenVINO compiles its
kernels anew for shapes it has not seen. It prints one JSON line: `runtime` (what computed),
`settings` (those that were found the fastest), `rows`, and in seconds what applies of `loop` (token ids in, scores out,
longest first), `short` (the same with 6 tokens a comment) and `file` (from a CSV file to a Parquet file); of one
comment alone `p50_ms` and `p99_ms`. Its scores lie in the folder of the task as `NAME.npy`, float64, NaN for comments
that it did not score.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engines import ENGINES, tuned
from benchmarks.scoring_task import (
    SLOW_SHARE,
    TRIED_SHARE,
    ScoringTask,
    best_settings,
    cut_short,
    logit,
    longest_first,
    probability,
    timed,
)

# Calls with one comment, and its tokens.
CALLS, TOKENS_OF_ONE = 200, 20
TEXT_BATCHES = (32, 8, 1, 64)


def bare_loop(name: str, task: ScoringTask, share: int = 1) -> dict[str, Any]:
    """A runtime without this package; with a `share`, that of the comments alone."""
    tokens, _ = task.load_tokens()
    chosen = longest_first(tokens)[::share]
    rows = [tokens[row] for row in chosen]
    loop = tuned(task, name, rows[::TRIED_SHARE])
    loop(rows)
    result = {"settings": loop.settings, "rows": len(rows)}
    result["loop"], logits = timed(lambda: loop(rows))
    scores = np.full(len(tokens), np.nan)
    scores[chosen] = probability(logits, task.calibration)
    np.save(task.path(f"{name}.npy"), scores)
    if share == 1:
        short = cut_short(tokens)
        loop(short[::TRIED_SHARE])
        result["short"], _ = timed(lambda: loop(short))
    return result


def ours(
    name: str, task: ScoringTask, model: str, more: Sequence[str], share: int = 1, **options: Any
) -> dict[str, Any]:
    """This package.

    Args:
        model: folder of the run or of the export.
        more: what is measured beside the loop: `short`, `file`, `one`.
        share: of the comments, longest first, one in this many is scored.
        **options: of the `Scorer`.
    """
    from toxicity.hardware.process import prepare_process

    prepare_process(scoring=True)
    from toxicity.predict.scorer import Scorer

    scorer = Scorer(model, device="cpu", **options)
    texts = read_texts(task.path("comments.csv"))
    encoded = scorer.tokenize(texts)
    chosen = longest_first(encoded["input_ids"].to_pylist())[::share]
    encoded = encoded.take(np.sort(chosen))
    scorer.probabilities(encoded)
    result: dict[str, Any] = {"runtime": scorer.runtime, "precision": scorer.mixed_precision, "rows": len(encoded)}
    result["loop"], found = timed(lambda: scorer.probabilities(encoded))
    scores = np.full(len(texts), np.nan)
    scores[np.sort(chosen)] = found[:, 0]
    np.save(task.path(f"{name}.npy"), scores)
    if "short" in more:
        short = as_table(cut_short(task.load_tokens()[0]), encoded.schema)
        scorer.probabilities(short.slice(0, len(short) // TRIED_SHARE))
        result["short"], _ = timed(lambda: scorer.probabilities(short))
    if "file" in more:
        result["file"], _ = timed(lambda: score_file(task.path("comments.csv"), scorer, task.path(f"{name}.scores")))
    if "one" in more:
        closeness = np.abs(encoded["length"].to_numpy() - TOKENS_OF_ONE)
        nearest = np.argsort(closeness, kind="stable")[: max(1, int((closeness == 0).sum()))]
        result |= one_at_a_time(scorer, [texts[row] for row in nearest])
    return result


def one_at_a_time(scorer: Callable[[list[str]], Any], texts: Sequence[str]) -> dict[str, float]:
    """Milliseconds of a call with one comment: median and 99th percentile."""
    seconds = []
    for call in range(CALLS + CALLS // TRIED_SHARE):
        text = texts[call % len(texts)]
        seconds.append(timed(lambda text=text: scorer([text]))[0])
    p50, p99 = 1000 * np.percentile(seconds[-CALLS:], (50, 99))
    return {"p50_ms": p50, "p99_ms": p99}


def pipeline(name: str, task: ScoringTask) -> dict[str, Any]:
    """`transformers.pipeline`, given comments that were sorted by their characters."""
    import torch
    import transformers

    transformers.logging.disable_progress_bar()
    classifiers: dict[str, Any] = {}

    def classify(texts: Sequence[str], dtype: str, batch_size: int) -> np.ndarray:
        if dtype not in classifiers:
            classifiers[dtype] = transformers.pipeline(
                "text-classification", task.model, dtype=getattr(torch, dtype), device="cpu"
            )
        main = classifiers[dtype].model.config.id2label[0]
        found = classifiers[dtype](list(texts), truncation=True, batch_size=batch_size, top_k=None)
        return np.array([result["score"] for results in found for result in results if result["label"] == main])

    return from_texts(name, task, classify)


def cross_encoder(name: str, task: ScoringTask) -> dict[str, Any]:
    """The `CrossEncoder` of sentence-transformers, which takes pairs, and single texts once told so."""
    import torch
    import transformers
    from sentence_transformers import CrossEncoder

    transformers.logging.disable_progress_bar()
    encoders: dict[str, Any] = {}

    def classify(texts: Sequence[str], dtype: str, batch_size: int) -> np.ndarray:
        if dtype not in encoders:
            encoders[dtype] = CrossEncoder(task.model, device="cpu", model_kwargs={"dtype": getattr(torch, dtype)})
            encoders[dtype].is_singular_input = lambda inputs: False  # it would take a list of texts for one pair
        # By default it gives logits if there are several labels.
        options = {"batch_size": batch_size, "show_progress_bar": False, "activation_fn": torch.nn.Sigmoid()}
        return encoders[dtype].predict(list(texts), **options).reshape(len(texts), -1)[:, 0]

    return from_texts(name, task, classify)


def from_texts(name: str, task: ScoringTask, classify: Callable[..., np.ndarray]) -> dict[str, Any]:
    """A contender that takes texts and gives probabilities; timed from a CSV file to a Parquet file with pandas."""
    import pandas

    path = task.path("comments.csv")
    texts = read_texts(path)
    by_length = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
    some = [texts[row] for row in by_length[:: TRIED_SHARE * SLOW_SHARE]]
    choices = {"dtype": ("float32", "bfloat16"), "batch_size": TEXT_BATCHES}
    settings = best_settings(task, name, choices, lambda **options: classify(some, **options))
    classify(some, **settings)
    result: dict[str, Any] = {"settings": settings, "rows": len(range(0, len(texts), SLOW_SHARE))}

    def run() -> pandas.DataFrame:
        frame = pandas.read_csv(path)[::SLOW_SHARE]
        frame = frame.iloc[frame["text"].str.len().argsort(kind="stable")[::-1]]
        frame["score"] = classify(frame["text"].tolist(), **settings)
        frame = frame.sort_index()
        frame[["id", "score"]].to_parquet(task.path(f"{name}.parquet"))
        return frame

    result["file"], frame = timed(run)
    scores = np.full(len(texts), np.nan)
    scores[frame.index] = probability(logit(frame["score"].to_numpy()), task.calibration)
    np.save(task.path(f"{name}.npy"), scores)
    return result


def read_texts(path: Path) -> list[str]:
    """The column `text` of a CSV file."""
    import pandas

    return pandas.read_csv(path)["text"].tolist()


def as_table(rows: Sequence[np.ndarray], schema: Any) -> Any:
    """Token ids as `Scorer.tokenize` returns them."""
    import pyarrow as pa

    columns = {"input_ids": rows, "length": [len(row) for row in rows]}
    return pa.table({name: pa.array(columns[name], schema.field(name).type) for name in schema.names}, schema=schema)


def score_file(path: Path, scorer: Any, folder: Path) -> None:
    """Score a CSV file as `python -m toxicity.predict` does once the model is loaded."""
    from toxicity.predict.ledger import Ledger
    from toxicity.predict.options import Options
    from toxicity.predict.progress import Progress
    from toxicity.predict.score_shards import score_shards
    from toxicity.predict.shards import list_shards
    from toxicity.predict.worker import describe_job

    shutil.rmtree(folder, ignore_errors=True)
    options = Options(scorer.threshold, "parquet", on_bad_rows="score_null")
    shards = list_shards([str(path)])
    ledger = Ledger(folder, describe_job("model", scorer, options))
    ledger.start()
    assert score_shards(shards, scorer, ledger.outputs, options, Progress(shards[0].bytes or 0)) == {}
    ledger.finish({})


EVERYTHING = ("short", "file", "one")
CONTENDERS: dict[str, Callable[[str, ScoringTask], dict[str, Any]]] = {
    "ours_int8": lambda name, task: ours(name, task, task.export, EVERYTHING),
    "ours": lambda name, task: ours(name, task, task.model, EVERYTHING),
    "ours_torch": lambda name, task: ours(name, task, task.model, ("one",), runtime="torch"),
    "ours_int8_without_bf16": lambda name, task: ours(name, task, task.export, (), SLOW_SHARE, mixed_precision="no"),
    "ours_fp32_without_bf16": lambda name, task: ours(
        name, task, task.model, (), SLOW_SHARE, runtime="torch", mixed_precision="no"
    ),
    **dict.fromkeys(ENGINES, bare_loop),
    "onnxruntime_fp32": lambda name, task: bare_loop(name, task, SLOW_SHARE),
    "pipeline": pipeline,
    "cross_encoder": cross_encoder,
}


def main() -> None:
    """Run a contender."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=CONTENDERS)
    parser.add_argument("task", type=Path)
    arguments = parser.parse_args()
    task = ScoringTask(**json.loads(arguments.task.read_text()))
    print(json.dumps(CONTENDERS[arguments.name](arguments.name, task)), flush=True)


if __name__ == "__main__":
    main()
