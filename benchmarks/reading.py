"""Reading a CSV file of the shape of Kaggle's: this package against its former four passes, pandas and `datasets`.

    make bench-read

The file is generated: 45 columns, comments of random words with quotes and line ends, identities on one row in four.
Every round runs all contenders, one after the other, each in a process of its own, in which the clock starts when
everything is imported. Ratios are of the medians; above 1, this package is faster. The last line of standard output is
the result as JSON.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import NamedTuple

import datasets
import pandas
import pyarrow as pa
import pyarrow.csv

from benchmarks.memory import process_memory
from toxicity.core.markdown import markdown_table
from toxicity.core.schema import IDENTITIES, canonical_columns
from toxicity.data.memory_map import mapped_from_disk
from toxicity.data.readers.files import read_files

IDENTITY_COLUMNS = (*IDENTITIES, *(f"other_identity_{number}" for number in range(24 - len(IDENTITIES))))
COLUMNS = [
    *("id", "target", "comment_text", "severe_toxicity", "obscene", "identity_attack", "insult", "threat"),
    *IDENTITY_COLUMNS,
    *(
        "created_date",
        "publication_id",
        "parent_id",
        "article_id",
        "rating",
        "funny",
        "wow",
        "sad",
        "likes",
        "disagree",
    ),
    *("sexual_explicit", "identity_annotator_count", "toxicity_annotator_count"),
]
# Rows that differ in more than their id; a file has them again and again.
DISTINCT_ROWS = 50_000
FORMER_BLOCK_BYTES = 2**21
CONTENDERS = {
    "ours": "this package, one pass into the memory map",
    "four_passes": "the former way: header, trial, quotes, the same into the memory map",
    "pandas": "`pandas.read_csv(usecols=...)`, into memory",
    "datasets": '`load_dataset("csv")`, all columns, into a fresh cache',
}


class Run(NamedTuple):
    """What one call of a contender took."""

    seconds: float
    peak_mb: float
    bytes_read: int | None  # None where there is no `/proc`


def main() -> None:
    """Run the benchmark and print its table and its JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_800_000, help="rows of the file")
    parser.add_argument("--rounds", type=int, default=3, help="how often each contender runs")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        path = write_comments(Path(folder) / "train.csv", arguments.rows)
        size = path.stat().st_size
        runs: dict[str, list[Run]] = {name: [] for name in CONTENDERS}
        for number in range(1, arguments.rounds + 1):
            for name, label in CONTENDERS.items():
                print(f"round {number} of {arguments.rounds}: {label}", file=sys.stderr)
                runs[name].append(run_in_new_process(name, path))
        tenth = run_in_new_process("ours", write_comments(Path(folder) / "tenth.csv", max(1, arguments.rows // 10)))
    seconds = {name: median(run.seconds for run in done) for name, done in runs.items()}
    peaks = {name: median(run.peak_mb for run in done) for name, done in runs.items()}
    read = runs["ours"][0].bytes_read
    result = {
        **{f"vs_{name}": taken / seconds["ours"] for name, taken in seconds.items() if name != "ours"},
        "passes": None if read is None else round(read / size, 2),
        "peak_memory_mb": peaks["ours"],
        "peak_memory_mb_four_passes": peaks["four_passes"],
        "peak_memory_growth_mb": peaks["ours"] - tenth.peak_mb,
    }
    table = [
        (label, f"{seconds[name]:.2f}", f"{peaks[name]:,.0f}", "" if name == "ours" else f"{result[f'vs_{name}']:.2f}")
        for name, label in CONTENDERS.items()
    ]
    print(f"{arguments.rows:,} rows, {size / 2**20:,.0f} MB, medians of {arguments.rounds} rounds\n")
    print(markdown_table(("", "seconds", "peak memory, MB", "this package is faster by"), table))
    print(json.dumps(result))


def write_comments(path: Path, rows: int) -> Path:
    """Write a file of so many rows with the columns of Kaggle's `train.csv`."""
    rng = random.Random(0)
    words = ["".join(rng.choices("etaoinshrdlu", k=rng.randint(1, 9))) for _ in range(5_000)]
    lines = []
    for row in range(min(rows, DISTINCT_ROWS)):
        text = " ".join(rng.choices(words, k=min(190, 1 + int(rng.expovariate(1 / 50)))))
        if row % 2:
            text = f"{text}, {text[:20]}"
        if row % 5 == 0:
            text = f'"{text[:30]}"\n\n{text}'
        values = dict.fromkeys(COLUMNS, "") | {"target": round(rng.random(), 6), "comment_text": text}
        for name in ("severe_toxicity", "obscene", "identity_attack", "insult", "threat", "sexual_explicit"):
            values[name] = rng.choice(["0.0", "0.0", "0.0", "0.166666666666667"])
        if row % 4 == 0:
            values |= {name: rng.choice(["0.0", "0.0", "1.0"]) for name in IDENTITY_COLUMNS}
        values |= {"created_date": "2015-09-29 10:50:41.987077+00", "publication_id": 2, "article_id": 2006}
        values |= {"rating": "rejected", "funny": 0, "wow": 0, "sad": 0, "likes": row % 7, "disagree": 0}
        values |= {"identity_annotator_count": 0, "toxicity_annotator_count": 4}
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(list(values.values())[1:])
        lines.append(line.getvalue())
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(",".join(COLUMNS) + "\n")
        file.writelines(f"{59_848 + row},{lines[row % len(lines)]}" for row in range(rows))
    return path


def run_in_new_process(name: str, path: Path) -> Run:
    """Let a contender read a file in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool, tempfile.TemporaryDirectory() as cache:
        return pool.submit(_run, name, path, cache).result()


def _run(name: str, path: Path, cache: str) -> Run:
    datasets.disable_progress_bars()
    datasets.config.HF_DATASETS_CACHE = Path(cache)
    before, started = _bytes_read(), time.perf_counter()
    READERS[name](path)
    seconds, after = time.perf_counter() - started, _bytes_read()
    return Run(seconds, process_memory("VmHWM") / 2**20, None if after is None else after - before)


def _bytes_read() -> int | None:
    counts = Path("/proc/self/io")
    return int(counts.read_text().split()[1]) if counts.exists() else None  # rchar: what was asked of the system


def _with_ours(path: Path) -> None:
    read_files([path], canonical_columns)


def _with_pandas(path: Path) -> None:
    pandas.read_csv(path, usecols=list(canonical_columns(COLUMNS, path.name).values()))


def _with_datasets(path: Path) -> None:
    datasets.load_dataset("csv", data_files=str(path), cache_dir=datasets.config.HF_DATASETS_CACHE)


def _with_four_passes(path: Path) -> None:
    """As this package read before: Arrow had to know beforehand that it can read the whole file."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        wanted = list(canonical_columns(next(csv.reader(file)), path.name).values())
    for _ in _batches(path, wanted):
        pass
    with path.open("rb") as file:
        sum(block.count(b'"') for block in iter(lambda: file.read(FORMER_BLOCK_BYTES), b""))
    pa.concat_tables(mapped_from_disk(pa.Table.from_batches([batch]) for batch in _batches(path, wanted)))


def _batches(path: Path, wanted: list[str]) -> Iterator[pa.RecordBatch]:
    options = pyarrow.csv.ConvertOptions(
        include_columns=wanted,
        column_types=dict.fromkeys(wanted, pa.binary()),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    read_options = pyarrow.csv.ReadOptions(block_size=FORMER_BLOCK_BYTES)
    parse_options = pyarrow.csv.ParseOptions(newlines_in_values=True)
    with path.open("rb") as file, pyarrow.csv.open_csv(file, read_options, parse_options, options) as reader:
        yield from reader


READERS: dict[str, Callable[[Path], None]] = {
    "ours": _with_ours,
    "four_passes": _with_four_passes,
    "pandas": _with_pandas,
    "datasets": _with_datasets,
}


if __name__ == "__main__":
    main()
