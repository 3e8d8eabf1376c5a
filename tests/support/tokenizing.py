"""A process that tokenises slowly, to be killed or raced."""

import time
from multiprocessing.connection import Connection
from pathlib import Path

from datasets import Dataset
from transformers import AutoTokenizer

from toxicity.data import tokenization


def tokenize_slowly(
    texts: list[str], checkpoint: Path, cache_dir: Path, seconds_per_batch: float, results: Connection
) -> None:
    """Tokenise in shards of 20 rows; sends `encoding` before each batch, and at the end `hit` or `made`."""
    encode = tokenization.encode

    def encode_slowly(*args: object, **options: object) -> object:
        results.send("encoding")
        time.sleep(seconds_per_batch)
        return encode(*args, **options)

    tokenization.encode, tokenization.ROWS_PER_SHARD = encode_slowly, 20
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    tokens = tokenization.tokenize(Dataset.from_dict({"text": texts}), tokenizer, 32, cache_dir=cache_dir)
    results.send(("hit" if tokens.cache_hit else "made", len(tokens.dataset)))
    results.close()
