"""Comments → Arrow shards of token ids, made once and kept on disk."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tokenizers
import xxhash
from datasets import Dataset, Features, Sequence, Value
from transformers import PreTrainedTokenizerFast

from toxicity.schema import TEXT

logger = logging.getLogger(__name__)

# Rows given to the Rust tokenizer at once: enough to keep every core busy, little enough to stay out of memory.
ROWS_PER_BATCH = 2_000


@dataclass
class Tokens:
    """Tokenised comments.

    `dataset` holds, for each comment in its order, `input_ids` (unpadded, in the smallest unsigned type that holds
    the vocabulary) and `length` (int32, tokens). `cache_hit` tells that nothing had to be tokenised.
    """

    dataset: Dataset
    cache_hit: bool

    @property
    def total_tokens(self) -> int:
        """Tokens of all comments together."""
        return pc.sum(self.dataset.with_format("arrow")[:].column("length")).as_py()


def tokenize(
    comments: Dataset,
    tokenizer: PreTrainedTokenizerFast,
    max_seq_length: int,
    overwrite_cache: bool = False,
    threads: int | None = None,
    cache_dir: Path | None = None,
) -> Tokens:
    """Tokenise the text column, cut at `max_seq_length` tokens, or find that this was done before.

    The cache is keyed by the comments themselves, the tokenizer's content and the length limit, so it is found
    again from another file, folder or recipe, and by nothing that should not find it.

    Args:
        comments: dataset with a `text` column, no nulls.
        tokenizer: a fast tokenizer.
        max_seq_length: tokens a comment is cut to, special tokens counted in.
        overwrite_cache: tokenise even if the cache has it.
        threads: of the tokenizer, for the first call in a process; by default one a core.
        cache_dir: where the cache is; by default `toxicity` in the cache of `datasets` (`HF_DATASETS_CACHE`).
    """
    if threads:
        os.environ["RAYON_NUM_THREADS"] = str(threads)
    cache_dir = cache_dir or Path(datasets.config.HF_DATASETS_CACHE) / "toxicity"
    cache_dir.mkdir(parents=True, exist_ok=True)
    # What a tokenizer was last used for is part of its state, but not of the cache's key.
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    key = _cache_key(comments, tokenizer, max_seq_length)
    path = cache_dir / f"tokens-{key}.arrow"
    cache_hit = path.exists() and not overwrite_cache
    if cache_hit:
        logger.info(f"{len(comments):,} comments are in the token cache: {path}")
    else:
        logger.info(f"Tokenizing {len(comments):,} comments into {path}")
    dataset = (
        comments.select_columns(TEXT)
        .with_format("arrow")
        .map(
            encode,
            batched=True,
            batch_size=ROWS_PER_BATCH,
            remove_columns=[TEXT],
            fn_kwargs={"tokenizer": tokenizer, "max_seq_length": max_seq_length},
            features=_features(tokenizer),
            cache_file_name=str(path),
            load_from_cache_file=not overwrite_cache,
            new_fingerprint=key,
            desc="Tokenizing",
        )
    )
    tokenizer.backend_tokenizer.no_truncation()
    return Tokens(dataset.with_format(None), cache_hit)


def encode(batch: pa.Table, tokenizer: PreTrainedTokenizerFast, max_seq_length: int) -> pa.Table:
    """Tokenise the one string column of `batch`; the function that `datasets.map` runs."""
    backend = tokenizer.backend_tokenizer
    backend.enable_truncation(max_seq_length)
    ids = [encoding.ids for encoding in backend.encode_batch_fast(batch.column(TEXT).to_pylist())]
    lengths = np.fromiter(map(len, ids), dtype=np.int32, count=len(ids))
    offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int32)))
    flat_ids = np.fromiter(chain.from_iterable(ids), dtype=_id_type(tokenizer), count=offsets[-1])
    return pa.table({"input_ids": pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat_ids)), "length": lengths})


def _id_type(tokenizer: PreTrainedTokenizerFast) -> np.dtype:
    return np.min_scalar_type(len(tokenizer) - 1)


def _features(tokenizer: PreTrainedTokenizerFast) -> Features:
    return Features({"input_ids": Sequence(Value(_id_type(tokenizer).name)), "length": Value("int32")})


def _cache_key(comments: Dataset, tokenizer: PreTrainedTokenizerFast, max_seq_length: int) -> str:
    """32 hexadecimal digits of all that decides the token ids."""
    digest = xxhash.xxh3_128(tokenizer.backend_tokenizer.to_str().encode())
    digest.update(f"{tokenizers.__version__} {max_seq_length}".encode())
    texts = comments.with_format("arrow")[:].column(TEXT)
    # The lengths too: "ab" before "c" must not be taken for "a" before "bc".
    for lengths in pc.binary_length(texts).chunks:
        digest.update(lengths.cast(pa.int64()).to_numpy())
    for chunk in texts.chunks:
        # A cast to the same layout makes a sliced chunk say where its own bytes begin.
        chunk = chunk.cast(pa.large_string())
        offsets = np.frombuffer(chunk.buffers()[1], np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
        digest.update(memoryview(chunk.buffers()[2] or b"")[offsets[0] : offsets[-1]])
    return digest.hexdigest()
