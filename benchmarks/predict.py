"""Scoring real comments on a processor: this package against the runtimes and libraries that people deploy there.

    make bench-predict                                  # 17 minutes on two cores
    pip install -r requirements-bench.txt               # CTranslate2 and sentence-transformers, left out without it

Models are converted once, before the clock starts. Then every round runs all contenders, one after the other, each in
a process of its own, which loads and warms up before the clock starts, on the same comments: the validation rows of the
sample recipe. A contender computes with the settings that are the fastest of those it tries in its first process:
places of a batch and their rounding, streams, threads and precision of a runtime; type and size of batches of the
`pipeline` and the `CrossEncoder`, which get the comments sorted by length. What `ours` and `ours_int8` do is what
`Scorer` does without any option. Rates are of the median seconds. Scores are compared with those of torch in fp32.

Keys of the JSON line, the last one of standard output. `loop` is from token ids to scores, `file` from a CSV file to a
Parquet file, all as rates; above 1, this package is faster. None: a contender was left out.

    vs_pipeline                    file of ours (the run's folder, as Scorer takes it) / file of pipeline
    vs_cross_encoder               file of ours / file of sentence-transformers' CrossEncoder
    vs_scoring_loop                file of ours_int8 (our export) / loop of ours_int8
    vs_openvino_bf16               loop of ours / loop of OpenVINO alone in bf16 (fp32 where the processor has no bf16)
    vs_openvino_int8               loop of ours_int8 / loop of OpenVINO alone, quantised by NNCF with its defaults
    file_to_file_vs_openvino_int8  file of ours_int8 / that same loop
    vs_ctranslate2_int8            loop of ours_int8 / loop of CTranslate2
    vs_onnxruntime_int8            loop of ours_int8 / loop of ONNX Runtime, quantised dynamically
    int8_vs_bf16                   loop of ours_int8 / loop of ours by torch, in bf16 where the processor has it
    int8_vs_fp32_without_bf16      the same two, both with bf16 hidden from them: int8 and fp32 / fp32 by torch
    int8_auc_loss                  AUC of fp32 by torch - AUC of ours_int8
    int8_largest_score_difference  of the calibrated probabilities of ours_int8 from those of fp32 by torch
    int8_mean_score_difference     mean of the absolute values of the same
    short_texts_vs_tokens          tokens a second of the loop of ours_int8 at 6 tokens a comment / at their own length
    one_comment_p50_ms             median milliseconds of ours_int8 called with one comment of 20 tokens, 200 times
    peak_memory_growth_mb          peak memory of a process that scores a file of 1,000,000 comments, less that of one
                                   of 10,000, with a model whose own memory is negligible; MiB
    contenders                     rates, AUC and differences of each contender; settings it ran with
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.csv

from benchmarks.predict_memory import peak_memory_mb
from benchmarks.predict_report import print_table, ratios, summarise
from benchmarks.sample import recipe_data
from benchmarks.scoring_task import SHORT_TOKENS, ScoringTask, cores, cut_short, environment
from benchmarks.task import device
from toxicity.core.errors import EXIT_FAILED, RequestError, refusals_exit_cleanly
from toxicity.core.schema import ID, TEXT
from toxicity.data.sources import labels_of, load_splits
from toxicity.hardware.machine import describe_machine
from toxicity.predict.scorer import Scorer

MEMORY_ROWS = (10_000, 1_000_000)
RUNTIMES, BENCH = "requirements-openvino.txt -r requirements-onnx.txt", "requirements-bench.txt"


@dataclass(frozen=True)
class Contender:
    """A contender: how the table calls it, the packages it needs and where to get them, and what converts its model."""

    label: str
    packages: tuple[str, ...] = ()
    requirements: str = ""
    conversion: str | None = None
    without_bf16: bool = False


_OPENVINO = (("openvino", "nncf"), RUNTIMES)
_ONNX = (("onnx", "onnxscript", "onnxruntime"), RUNTIMES, "onnxruntime")
CONTENDERS = {
    "ours_int8": Contender("this package, int8 export", *_OPENVINO, "own_int8"),
    "ours": Contender("this package, folder of the run"),
    "ours_torch": Contender("this package, in torch"),
    "ours_int8_without_bf16": Contender("this package, int8 export, bf16 hidden", *_OPENVINO, "own_int8", True),
    "ours_fp32_without_bf16": Contender("this package, in torch, bf16 hidden: fp32", without_bf16=True),
    "openvino_int8": Contender("OpenVINO alone, int8 (NNCF)", *_OPENVINO, "openvino"),
    "openvino_bf16": Contender("OpenVINO alone, bf16", *_OPENVINO, "openvino"),
    "ctranslate2_int8": Contender("CTranslate2, int8", ("ctranslate2",), BENCH, "ctranslate2"),
    "onnxruntime_int8": Contender("ONNX Runtime, int8", *_ONNX),
    "onnxruntime_fp32": Contender("ONNX Runtime, fp32", *_ONNX),
    "pipeline": Contender("`transformers.pipeline`"),
    "cross_encoder": Contender("sentence-transformers, `CrossEncoder`", ("sentence_transformers",), BENCH),
}


def main() -> int:
    """Run the benchmark and print its tables and its JSON line; returns 1 if a contender failed, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="runs/sample", help="folder of a trained model; `make demo` makes one")
    parser.add_argument("--rows", type=int, default=2_000, help="comments to score, 2,000 at most")
    parser.add_argument("--rounds", type=int, default=3, help="how often each contender runs")
    parser.add_argument("--memory_rows", type=int, nargs=2, default=MEMORY_ROWS, help="rows of the two files")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    arguments = parser.parse_args()
    if not (Path(arguments.model) / "config.json").is_file():
        raise RequestError(f"there is no trained model in {arguments.model}: run `make demo` first, it takes minutes.")
    datasets.disable_progress_bars()

    with tempfile.TemporaryDirectory() as folder:
        # What is converted for the benchmark is no concern of the user's cache.
        os.environ["HF_ASSETS_CACHE"] = f"{folder}/assets"
        task, labels, tokens = prepare(Path(folder), arguments.model, arguments.rows)
        running = Running(task, [name for name in arguments.contenders if is_installed(name)])
        results = running.rounds(arguments.rounds)
        table = summarise(task, results, labels, tokens)
        with ThreadPoolExecutor() as pool:  # as memory is no matter of time
            peaks = list(pool.map(lambda rows: peak_memory_mb(Path(folder), rows), sorted(arguments.memory_rows)))
    result = ratios(table) | {"peak_memory_growth_mb": peaks[1] - peaks[0]}
    machine = describe_machine(device(), 1)
    print(
        f"{arguments.rows:,} comments, {tokens['all'] / arguments.rows:.1f} tokens each on average, on "
        f"{machine['device_name']} ({cores()} cores, torch {machine['torch']}); medians of {arguments.rounds} rounds.\n"
    )
    labels_shown = {name: contender.label for name, contender in CONTENDERS.items()}
    print_table(table, labels_shown | {"reference": "fp32 in torch, which differences are from"})
    memory = zip(sorted(arguments.memory_rows), peaks, strict=True)
    print("\n" + ", ".join(f"{rows:,} rows in the file: {peak:,.0f} MB at the peak" for rows, peak in memory) + "\n")
    print(json.dumps(result | {"contenders": table, "machine": machine, "rows": arguments.rows}))
    return EXIT_FAILED if running.failed else 0


def prepare(folder: Path, model: str, rows: int) -> tuple[ScoringTask, np.ndarray, dict[str, int]]:
    """Write the task of all contenders.

    Returns:
        The task, the labels of its comments, and its numbers of tokens: `all`, and of the `short` comments.
    """
    validation = load_splits(recipe_data()).validation.select(range(rows))
    texts, labels = validation[TEXT][:], labels_of(validation)
    pyarrow.csv.write_csv(pa.table({ID: pa.array(range(rows)), TEXT: pa.array(texts)}), folder / "comments.csv")
    scorer = Scorer(model, device="cpu", runtime="torch")
    tokens = [np.array(ids) for ids in scorer.tokenize(texts)["input_ids"].to_pylist()]
    task = ScoringTask(str(folder), str(Path(model).resolve()), scorer.calibration.to_config(), cores())
    task.save_tokens(tokens, labels)
    task.save()
    return task, labels, {"all": sum(map(len, tokens)), "short": SHORT_TOKENS * len(cut_short(tokens))}


def is_installed(name: str) -> bool:
    """Whether the packages of a contender are there; else a line on standard error says how to get them."""
    contender = CONTENDERS[name]
    missing = [package for package in contender.packages if find_spec(package) is None]
    if missing:
        line = f"{contender.label} is left out: {', '.join(missing)} is not installed; pip install -r "
        print(line + contender.requirements, file=sys.stderr)
    return not missing


class Running:
    """Conversions and contenders, each in a process of its own.

    Args:
        task: what they are given.
        names: the contenders to run.
    """

    def __init__(self, task: ScoringTask, names: Sequence[str]) -> None:
        self._task, self._names, self.failed = task, names, set[str]()

    def rounds(self, count: int) -> dict[str, list[dict[str, Any]]]:
        """Convert the models, then run every contender in every round; returns their results, without what failed."""
        conversions = {CONTENDERS[name].conversion for name in self._names} - {None}
        failed = {name for name in ("reference", *sorted(conversions)) if not self._run("conversions", name)}
        names = [name for name in self._names if CONTENDERS[name].conversion not in failed]
        results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for round_number in range(1, count + 1):
            for name in list(results):
                print(f"round {round_number} of {count}: {CONTENDERS[name].label}", file=sys.stderr)
                if found := self._run("scoring_contenders", name):
                    results[name].append(json.loads(found.splitlines()[-1]))
                else:
                    del results[name]
        return results

    def _run(self, module: str, name: str) -> str | None:
        """Standard output of a process, `done` if there is none; None if it failed, and a line that says so."""
        command = [sys.executable, "-m", f"benchmarks.{module}", name, str(self._task.path("task.json"))]
        hidden = name in CONTENDERS and CONTENDERS[name].without_bf16
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment(hidden))
        if done.returncode:
            self.failed.add(name)
            print(f"{name} is left out: it failed with exit code {done.returncode}, see above", file=sys.stderr)
            return None
        return done.stdout or "done"


if __name__ == "__main__":
    with refusals_exit_cleanly():
        sys.exit(main())
