"""Tokenising real comments: this package against the bare Rust tokenizer, `datasets.map` and one row at a time.

    make bench-data

Every round runs all contenders, one after the other, on the same comments. Ratios are of the medians; above 1, this
package is faster. The last line of standard output is the result as JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import datasets
from datasets import Dataset, concatenate_datasets
from transformers import PreTrainedTokenizerFast

from benchmarks.memory import peak_mb_in_new_process
from benchmarks.rounds import time_in_rounds
from benchmarks.sample import MAX_SEQ_LENGTH, sample_tokenizer
from toxicity.core.markdown import markdown_table
from toxicity.core.schema import TEXT
from toxicity.data.encoding import ROWS_PER_ENCODE
from toxicity.data.sources import read_sample
from toxicity.data.tokenization import tokenize

# For the growth of the peak memory.
REPEATS = 10
CONTENDERS = {
    "ours": "this package, until the shards are on disk",
    "rust": "bare `encode_batch`, results thrown away",
    "hf_padded": '`datasets.map` with `padding="max_length"`',
    "per_row": "one row at a time",
}


def main() -> None:
    """Run the benchmark and print its table and its JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="comments to tokenise")
    parser.add_argument("--rounds", type=int, default=3, help="how often each contender runs")
    arguments = parser.parse_args()
    datasets.disable_progress_bars()

    with tempfile.TemporaryDirectory() as folder:
        result, seconds = measure(Path(folder), arguments.rows, arguments.rounds)
    table = [
        (label, f"{arguments.rows / seconds[name]:,.0f}", "" if name == "ours" else f"{result[f'vs_{name}']:.2f}")
        for name, label in CONTENDERS.items()
    ]
    print(f"{arguments.rows:,} comments, {MAX_SEQ_LENGTH} tokens, medians of {arguments.rounds} rounds\n")
    print(markdown_table(("", "rows/s", "this package is faster by"), table))
    print(
        f"\nCache: {result['cache_size_vs_hf_padded']:.3f} of the padded one. "
        f"Cache hit: {result['cache_hit_seconds']:.2f} s.\n"
        f"Peak memory, {REPEATS} times as many comments: {result['peak_memory_growth_mb']:+.0f} MB."
    )
    print(json.dumps(result))


def measure(folder: Path, rows: int, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Measure everything.

    Args:
        folder: an empty folder, for caches.
        rows: number of comments.
        rounds: how often each contender runs.

    Returns:
        The keys of the JSON line, and the median seconds by contender.
    """
    tokenizer = sample_tokenizer()
    # On disk and mapped into memory, as `datasets` hands data to a user.
    Dataset(read_sample().table.select([TEXT]).slice(0, rows)).save_to_disk(folder / "comments")
    comments = Dataset.load_from_disk(folder / "comments")
    texts = comments[TEXT][:]
    contenders: dict[str, Callable[[], object]] = {
        "ours": lambda: tokenize(comments, tokenizer, MAX_SEQ_LENGTH, overwrite_cache=True, cache_dir=folder / "ours"),
        "rust": lambda: tokenize_bare(texts, tokenizer),
        "hf_padded": lambda: tokenize_padded(comments, tokenizer, folder / "hf" / "padded.arrow"),
        "per_row": lambda: [tokenizer(text, truncation=True, max_length=MAX_SEQ_LENGTH) for text in texts],
    }
    tokenize_bare(texts[:ROWS_PER_ENCODE], tokenizer)  # starts the threads
    seconds, _ = time_in_rounds(contenders, CONTENDERS, rounds)

    hits = []
    for _ in range(rounds):
        started = time.perf_counter()
        tokens = tokenize(comments, tokenizer, MAX_SEQ_LENGTH, cache_dir=folder / "ours")
        hits.append(time.perf_counter() - started)
        assert tokens.cache_hit
    print("peak memory", file=sys.stderr)
    peaks = [peak_memory_mb(folder, repeats) for repeats in (1, REPEATS)]
    return {
        **{f"vs_{name}": seconds[name] / seconds["ours"] for name in ("rust", "hf_padded", "per_row")},
        "cache_size_vs_hf_padded": tokens.bytes_on_disk / size_of(folder / "hf"),
        "cache_hit_seconds": median(hits),
        "peak_memory_growth_mb": peaks[1] - peaks[0],
    }, seconds


def tokenize_bare(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> None:
    """The Rust tokenizer alone, on all cores, in batches of the size that this package uses."""
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.enable_truncation(MAX_SEQ_LENGTH)
    for start in range(0, len(texts), ROWS_PER_ENCODE):
        backend.encode_batch(texts[start : start + ROWS_PER_ENCODE])


def tokenize_padded(comments: Dataset, tokenizer: PreTrainedTokenizerFast, path: Path) -> None:
    """`datasets.map` as the text-classification example of transformers calls it by default."""
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir()
    comments.map(
        lambda batch: tokenizer(batch[TEXT], padding="max_length", max_length=MAX_SEQ_LENGTH, truncation=True),
        batched=True,
        remove_columns=[TEXT],
        cache_file_name=str(path),
    )


def peak_memory_mb(folder: Path, repeats: int) -> float:
    """Peak memory in MiB of a new process that tokenises the comments `repeats` times over."""
    return peak_mb_in_new_process(_tokenize_repeated, str(folder), repeats)


def _tokenize_repeated(folder: str, repeats: int) -> None:
    datasets.disable_progress_bars()
    comments = concatenate_datasets([Dataset.load_from_disk(f"{folder}/comments")] * repeats)
    tokenize(comments, sample_tokenizer(), MAX_SEQ_LENGTH, cache_dir=Path(folder) / f"memory-{repeats}")


def size_of(folder: Path) -> int:
    """Total bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
