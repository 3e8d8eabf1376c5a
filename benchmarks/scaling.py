"""Cost per row with a negligible model: start-up time with a warm token cache, memory, and rows per second.

python -m benchmarks.scaling ROWS CACHE_FOLDER    # prints one JSON line
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import datasets
import torch
import transformers
from torch.utils.data import DataLoader
from transformers import BertForSequenceClassification

from benchmarks.memory import process_memory
from benchmarks.sample import MAX_SEQ_LENGTH, sample_tokenizer, tiny_bert
from benchmarks.task import BATCH_SIZE
from toxicity.core.arguments import DataArguments
from toxicity.data.sources import labels_of, load_splits
from toxicity.data.token_dataset import TokenRows
from toxicity.data.tokenization import tokenize
from toxicity.models.packing import Layout
from toxicity.models.padding_free import make_padding_free
from toxicity.models.scoring import BatchScorer
from toxicity.training.batching import Collator, EpochSampler

# Of a rate: fast loops are repeated until they took this long.
LEAST_SECONDS = 2.0


def main() -> None:
    """Measure one size and print the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int)
    parser.add_argument("cache", type=Path)
    arguments = parser.parse_args()
    datasets.disable_progress_bars()
    transformers.logging.set_verbosity_error()

    started = time.perf_counter()
    splits = load_splits(
        DataArguments(dataset_name="sample", max_train_samples=arguments.rows, max_eval_samples=BATCH_SIZE)
    )
    tokenizer = sample_tokenizer()
    tokens = tokenize(splits.train, tokenizer, MAX_SEQ_LENGTH, cache_dir=arguments.cache)
    rows = TokenRows(tokens.dataset.add_column("labels", labels_of(splits.train)))
    sampler = EpochSampler(rows.lengths, BATCH_SIZE, seed=0, group_by_length=False)
    loader = DataLoader(rows, BATCH_SIZE, sampler=sampler, collate_fn=Collator(Layout(packed=True)))
    next(iter(loader))
    start_up = time.perf_counter() - started

    model = BertForSequenceClassification(tiny_bert(len(tokenizer)))
    make_padding_free(model)
    scorer = BatchScorer(model, Layout(packed=True), torch.device("cpu"), BATCH_SIZE * MAX_SEQ_LENGTH)

    def load() -> None:
        for _ in loader:
            pass

    def score() -> None:
        scorer.score(rows)

    loaded_rate = rate(load, arguments.rows)
    # Anonymous memory alone, as the kernel may drop pages of mapped files at any time; and before scoring, after which
    # the allocator keeps buffers of a size that does not depend on the number of rows. The peak includes both.
    memory = process_memory("RssAnon")
    print(
        json.dumps(
            {
                "rows": arguments.rows,
                "cache_hit": tokens.cache_hit,
                "start_up_seconds": start_up,
                "loaded_rows_per_second": loaded_rate,
                "scored_rows_per_second": rate(score, arguments.rows),
                "memory_bytes": memory,
                "peak_memory_bytes": process_memory("VmHWM"),
            }
        )
    )


def rate(run: Callable[[], object], rows: int) -> float:
    """Rows per second of a call that goes through all rows, after a first call that is not timed."""
    run()
    times, started = 0, time.perf_counter()
    while time.perf_counter() - started < LEAST_SECONDS:
        run()
        times += 1
    return rows * times / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
