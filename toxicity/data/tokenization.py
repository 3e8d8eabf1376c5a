"""The token cache: comments are tokenised once, into Arrow shards on the disk that are verified on every use."""

from __future__ import annotations

import json
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tokenizers
import xxhash
from datasets import Dataset, concatenate_datasets
from datasets.utils import tqdm
from filelock import FileLock
from transformers import PreTrainedTokenizerFast

from toxicity.core.arguments import DataArguments
from toxicity.core.disk import is_full_disk
from toxicity.core.errors import RequestError
from toxicity.core.files import digest, digest_of, folder_written_whole, write_text, written_whole
from toxicity.core.schema import TEXT
from toxicity.data.augmentation import with_typos
from toxicity.data.encoding import HEAD_TOKENS, ROWS_PER_ENCODE, encode, truncating_backend
from toxicity.data.sources import Splits

logger = logging.getLogger(__name__)

# About 15 MB per shard. A damaged shard is the only one that is made again.
ROWS_PER_SHARD = 100_000
SHARD_INDEX = "index.json"
# To be raised when `encode` changes its output, so that older caches are not used.
CACHE_FORMAT = 1

# `encode` with everything but the texts filled in.
EncodeBatch = Callable[[list[str]], tuple[pa.RecordBatch, int]]


@dataclass
class Tokens:
    """Tokenised comments.

    `dataset` holds, for each comment in order, `input_ids` (unpadded, in the smallest unsigned type that holds the
    vocabulary) and `length` (int32, tokens). `cut_rows` comments were truncated. `folder` is where the shards are, and
    `cache_hit` says that nothing had to be tokenised.
    """

    dataset: Dataset
    cut_rows: int
    folder: Path
    cache_hit: bool

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each comment, int32 `(rows,)`."""
        return self.dataset.select_columns("length").with_format("numpy")[:]["length"]

    @property
    def bytes_on_disk(self) -> int:
        """Size of the shards and their index."""
        return sum(path.stat().st_size for path in self.folder.iterdir())


class SplitTokens(NamedTuple):
    """Tokens of the rows to train on and of those to validate on."""

    train: Tokens
    validation: Tokens

    def timing(self, seconds: float) -> dict[str, Any]:
        """The tokenizer's time and what it covers: `seconds`, `cache_hit` (of either split), and the `rows` they cover.

        The rows are those that were tokenised, or all rows if all were in the cache.
        """
        made = [tokens for tokens in self if not tokens.cache_hit]
        rows = sum(len(tokens.dataset) for tokens in made or self)
        return {"seconds": seconds, "cache_hit": len(made) < len(self), "rows": rows}


def tokenize_splits(
    splits: Splits, tokenizer: PreTrainedTokenizerFast, arguments: DataArguments, overwrite_cache: bool
) -> SplitTokens:
    """Tokenise both splits as the arguments say, a share of the training comments with typos; see `tokenize`."""
    options = {"threads": arguments.preprocessing_num_workers, "head_tail": arguments.head_tail_truncation}
    train, validation = (
        tokenize(comments, tokenizer, arguments.max_seq_length, overwrite_cache, **options)
        for comments in (with_typos(splits.train, arguments.augment_typos), splits.validation)
    )
    return SplitTokens(train, validation)


def tokenize(
    comments: Dataset,
    tokenizer: PreTrainedTokenizerFast,
    max_seq_length: int,
    overwrite_cache: bool = False,
    threads: int | None = None,
    cache_dir: Path | None = None,
    head_tail: bool = False,
) -> Tokens:
    """Tokenise the text column, truncated at `max_seq_length` tokens (special ones included), or read the cache.

    The cache key is a digest of the texts, the tokenizer with its version, and the length limit: the same comments in
    another file, folder or recipe are a hit. The folder of the shards appears under its name when all of them are
    written; a second process that wants the same shards waits for the first. A shard whose content does not match its
    digest is named in the log and made again.

    Args:
        comments: dataset with a string column `text`, without nulls.
        overwrite_cache: tokenise even if the tokens are cached.
        threads: of the tokenizer, by default one per core; only the first call in a process can set it.
        cache_dir: folder of the cache; by default `toxicity` in the cache of `datasets` (`HF_DATASETS_CACHE`).
        head_tail: whether a comment that is too long keeps its first and its last tokens (see `encode`).

    Raises:
        RequestError: if the cache cannot be written, for example because it is another user's, or the disk is full.
    """
    if threads:
        os.environ["RAYON_NUM_THREADS"] = str(threads)
    cache_dir = cache_dir or Path(datasets.config.HF_DATASETS_CACHE) / "toxicity"
    backend = truncating_backend(tokenizer, max_seq_length)
    folder = cache_dir / f"tokens-{_cache_key(comments, backend, head_tail)}"

    with _unwritable_cache_explained(cache_dir), _locked(folder):
        shards = None if overwrite_cache else _read_index(folder, len(comments))
        damaged = [shard for shard in shards or [] if not _is_whole(folder, shard)]
        cache_hit = shards is not None and not damaged
        if cache_hit:
            logger.info(f"{len(comments):,} comments are in the token cache: {folder}")
        else:
            id_type = np.min_scalar_type(max(backend.get_vocab().values()))
            encode_batch = partial(encode, backend=backend, id_type=id_type, head_tail=head_tail)
        if shards is None:
            logger.info(f"Tokenizing {len(comments):,} comments into {folder}")
            shards = _write_shards(folder, comments, encode_batch)
        for shard in damaged:
            logger.warning(f"The token cache was damaged, and is mended: {folder / shard['name']}")
            rows = comments.select(range(shard["first_row"], shard["first_row"] + shard["rows"]))
            shard |= _write_shard(folder, shard["name"], rows, encode_batch)
        if damaged:
            _write_index(folder, shards)
        dataset = concatenate_datasets([Dataset.from_file(str(folder / shard["name"])) for shard in shards])
    return Tokens(dataset, sum(shard["cut_rows"] for shard in shards), folder, cache_hit)


@contextmanager
def _unwritable_cache_explained(cache_dir: Path) -> Iterator[None]:
    """Turn an error of the file system into a `RequestError` that names the variable for another folder."""
    try:
        yield
    except OSError as error:
        advice = "Make room there, or name" if is_full_disk(error) else "Name"
        raise RequestError(
            f"cannot use the token cache {cache_dir}: {error.strerror or error}"
            f"{f' ({error.filename})' if error.filename else ''}. {advice} a folder of your own in HF_DATASETS_CACHE."
        ) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder of the cache, and make the cache if it is not there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        yield


def _write_shards(folder: Path, comments: Dataset, encode_batch: EncodeBatch) -> list[dict[str, Any]]:
    """Write all shards and their index; returns the entries of the index."""
    shards = []
    with (
        folder_written_whole(folder) as unfinished,
        tqdm(total=len(comments), unit=" comments", desc="Tokenizing") as progress,
    ):
        for first_row in range(0, len(comments), ROWS_PER_SHARD):
            rows = comments.select(range(first_row, min(first_row + ROWS_PER_SHARD, len(comments))))
            name = f"shard-{len(shards):05d}.arrow"
            shard = _write_shard(unfinished, name, rows, encode_batch, progress)
            shards.append({"name": name, "first_row": first_row} | shard)
            if len(comments) > ROWS_PER_SHARD:
                logger.info(f"Tokenized {first_row + len(rows):,} of {len(comments):,} comments")
        _write_index(unfinished, shards)
    return shards


def _write_shard(
    folder: Path, name: str, rows: Dataset, encode_batch: EncodeBatch, progress: Any | None = None
) -> dict[str, Any]:
    """Write one shard; returns its number of rows, of truncated rows, and its digest, for the index."""
    cut_rows, writer = 0, None
    # Two batches at a time: while one is in the Rust tokenizer, Python converts the other to Arrow.
    with (
        written_whole(folder / name) as unfinished,
        pa.OSFile(str(unfinished), "wb") as file,
        ThreadPoolExecutor(2) as pool,
    ):
        in_flight: deque[Future[tuple[pa.RecordBatch, int]]] = deque()
        batches = rows.select_columns(TEXT).with_format("arrow").iter(ROWS_PER_ENCODE)
        for batch in chain(batches, (None, None)):
            if len(in_flight) == 2 or (batch is None and in_flight):
                tokens, cut = in_flight.popleft().result()
                cut_rows += cut
                writer = writer or pa.ipc.new_stream(file, tokens.schema)
                writer.write_batch(tokens)
                if progress is not None:
                    progress.update(len(tokens))
            if batch is not None:
                in_flight.append(pool.submit(encode_batch, batch.column(TEXT).to_pylist()))
        writer.close()
    return {"rows": len(rows), "cut_rows": cut_rows, "xxh3": digest_of(folder / name)}


def _is_whole(folder: Path, shard: dict[str, Any]) -> bool:
    path = folder / shard["name"]
    return path.is_file() and digest_of(path) == shard["xxh3"]


def _write_index(folder: Path, shards: list[dict[str, Any]]) -> None:
    write_text(folder / SHARD_INDEX, json.dumps({"shards": shards, "xxh3": _index_digest(shards)}, indent=1))


def _read_index(folder: Path, rows: int) -> list[dict[str, Any]] | None:
    """The entries of the index; None if there is no index, or it is damaged."""
    try:
        index = json.loads((folder / SHARD_INDEX).read_text())
        if index["xxh3"] == _index_digest(index["shards"]) and sum(s["rows"] for s in index["shards"]) == rows:
            return index["shards"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        pass
    logger.warning(f"The token cache has a damaged index, and is made again: {folder / SHARD_INDEX}")
    return None


def _index_digest(shards: list[dict[str, Any]]) -> str:
    return digest([json.dumps(shards, sort_keys=True).encode()])


def _cache_key(comments: Dataset, backend: tokenizers.Tokenizer, head_tail: bool) -> str:
    """Digest of everything that decides the token ids; the length limit is part of the backend's settings."""
    version = f"{CACHE_FORMAT} {tokenizers.__version__}" + (f" head {HEAD_TOKENS}" if head_tail else "")
    # With the length of each text, as "ab" before "c" must not have the key of "a" before "bc".
    lengths, texts = [], xxhash.xxh3_128()
    for batch in comments.select_columns(TEXT).with_format("arrow").iter(ROWS_PER_ENCODE):
        for chunk in batch.column(TEXT).chunks:
            lengths.append(pc.binary_length(chunk).cast(pa.int64()).to_numpy())
            # After the cast the offsets of a sliced chunk say where its own bytes begin.
            chunk = chunk.cast(pa.large_string())
            offsets = np.frombuffer(chunk.buffers()[1], np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
            texts.update(memoryview(chunk.buffers()[2] or b"")[offsets[0] : offsets[-1]])
    return digest([backend.to_str().encode(), version.encode(), *lengths, texts.digest()])
