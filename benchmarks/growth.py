"""What more rows cost: start-up with the token cache warm, memory, and rows a second, the model taken out.

python -m benchmarks.growth ROWS CACHE_FOLDER    # prints one JSON line
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
from transformers import BertConfig

from benchmarks.contenders import BATCH_SIZE, MAX_SEQ_LENGTH
from benchmarks.resident import resident_memory
from toxicity.core.arguments import DataArguments, ModelArguments
from toxicity.data.sources import labels_of, load_splits
from toxicity.data.token_dataset import TokenRows
from toxicity.data.tokenization import tokenize
from toxicity.models.classifier import SAMPLE_MODEL, load_tokenizer
from toxicity.models.packing import Layout
from toxicity.models.padding_free import PACKED_ATTENTION, BertForSequenceClassification
from toxicity.models.scoring import BatchScorer
from toxicity.training.batching import Collator, EpochSampler

LEAST_SECONDS = 2.0


def main() -> None:
    """Measure once."""
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
    config, tokenizer = load_tokenizer(ModelArguments(SAMPLE_MODEL), MAX_SEQ_LENGTH)
    tokens = tokenize(splits.train, tokenizer, MAX_SEQ_LENGTH, cache_dir=arguments.cache)
    rows = TokenRows(tokens.dataset.add_column("labels", labels_of(splits.train)))
    sampler = EpochSampler(rows.lengths, BATCH_SIZE, seed=0, group_by_length=False)
    loader = DataLoader(rows, BATCH_SIZE, sampler=sampler, collate_fn=Collator(Layout(packed=True)))
    next(iter(loader))
    start_up = time.perf_counter() - started

    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=config.vocab_size,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            intermediate_size=8,
            num_labels=1,
        )
    )
    model.set_attn_implementation(PACKED_ATTENTION)
    scorer = BatchScorer(model, Layout(packed=True), torch.device("cpu"), BATCH_SIZE * MAX_SEQ_LENGTH)

    def load() -> None:
        for _ in loader:
            pass

    def score() -> None:
        scorer.score(rows)

    loaded_rate = rate(load, arguments.rows)
    # Without the pages of mapped files, which the system takes back at will, and before scoring, whose batches the
    # allocator keeps for the next ones whatever the number of rows. The peak holds all of these.
    memory = resident_memory("RssAnon")
    print(
        json.dumps(
            {
                "rows": arguments.rows,
                "cache_hit": tokens.cache_hit,
                "start_up_seconds": start_up,
                "loaded_rows_per_second": loaded_rate,
                "scored_rows_per_second": rate(score, arguments.rows),
                "memory_bytes": memory,
                "peak_memory_bytes": resident_memory("VmHWM"),
            }
        )
    )


def rate(run: Callable[[], object], rows: int) -> float:
    """Rows a second of a call that goes through all rows, repeated until it took `LEAST_SECONDS`."""
    run()
    times, started = 0, time.perf_counter()
    while time.perf_counter() - started < LEAST_SECONDS:
        run()
        times += 1
    return rows * times / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
