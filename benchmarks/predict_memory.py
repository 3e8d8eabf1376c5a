"""Memory that scoring a CSV file takes at its peak, with a model whose own memory is negligible."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import torch
from transformers.utils import logging as transformers_logging

from benchmarks.memory import peak_mb_in_new_process
from benchmarks.sample import save_tiny_model
from benchmarks.scoring_contenders import score_file
from toxicity.core.schema import ID, TEXT
from toxicity.data.sources import read_sample
from toxicity.hardware.process import prepare_process
from toxicity.predict.scorer import Scorer


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
    model = save_tiny_model(Path(folder) / f"tiny-{rows}")
    score_file(Path(folder) / f"large-{rows}.csv", Scorer(str(model), device="cpu"), Path(folder) / f"scores-{rows}")
