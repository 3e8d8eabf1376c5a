"""Comments → Arrow shards of token ids, made once, kept on disk, and believed only after a look at every byte."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tokenizers
import xxhash
from datasets import Dataset, concatenate_datasets
from datasets.utils import tqdm
from filelock import FileLock
from tokenizers.pre_tokenizers import BertPreTokenizer, ByteLevel
from transformers import PreTrainedTokenizerFast

from toxicity.core.files import digest_of, write_text, written_whole
from toxicity.core.schema import TEXT

logger = logging.getLogger(__name__)

# Rows given to the Rust tokenizer at once: enough to keep every core busy, little enough to stay out of memory.
ROWS_PER_BATCH = 2_000
# English takes 4 to 5 characters a token, so that this many fill the limit nearly always.
CHARACTERS_PER_TOKEN = 6
TOKENS_PAST_THE_CUT = 16
# Of a comment that keeps its end, too: the third place of the competition of 2019 kept so many from the beginning.
HEAD_TOKENS = 128
WORD_BY_WORD = (BertPreTokenizer, ByteLevel)
# About 15 MB a shard; a damaged one is made again alone.
ROWS_PER_SHARD = 100_000
INDEX = "index.json"
# Goes up when `encode` would write anything else than before.
FORMAT = 1


@dataclass
class Tokens:
    """Tokenised comments.

    `dataset` holds, for each comment in its order, `input_ids` (unpadded, in the smallest unsigned type that holds
    the vocabulary) and `length` (int32, tokens). `cut_rows` comments were longer than the limit. `folder` is where
    the shards are, and `cache_hit` tells that nothing had to be tokenised.
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


def tokenize(
    comments: Dataset,
    tokenizer: PreTrainedTokenizerFast,
    max_seq_length: int,
    overwrite_cache: bool = False,
    threads: int | None = None,
    cache_dir: Path | None = None,
    head_tail: bool = False,
) -> Tokens:
    """Tokenise the text column, cut at `max_seq_length` tokens, or find that this was done before.

    The cache is keyed by the comments themselves, the tokenizer's content and version and the length limit, so it
    is found again from another file, folder or recipe, and by nothing that should not find it. Shards are made in
    a folder of another name, which is renamed when all of them are whole; a second run that wants the same ones
    waits for the first. A shard that is not what was written is named in the log and made again.

    Args:
        comments: dataset with a string column `text`, no nulls.
        tokenizer: a fast tokenizer.
        max_seq_length: tokens a comment is cut to, special tokens counted in.
        overwrite_cache: tokenise even if the cache has it.
        threads: of the tokenizer, for the first call in a process; by default one a core.
        cache_dir: where the cache is; by default `toxicity` in the cache of `datasets` (`HF_DATASETS_CACHE`).
        head_tail: whether a comment that is too long keeps its first and its last tokens (`encode`).
    """
    if threads:
        os.environ["RAYON_NUM_THREADS"] = str(threads)
    cache_dir = cache_dir or Path(datasets.config.HF_DATASETS_CACHE) / "toxicity"
    cache_dir.mkdir(parents=True, exist_ok=True)
    backend = cutting_backend(tokenizer, max_seq_length)
    folder = cache_dir / f"tokens-{_cache_key(comments, backend, head_tail)}"

    with FileLock(f"{folder}.lock"):
        shards = None if overwrite_cache else _read_index(folder, len(comments))
        damaged = [shard for shard in shards or [] if not _is_whole(folder, shard)]
        cache_hit = shards is not None and not damaged
        if cache_hit:
            logger.info(f"{len(comments):,} comments are in the token cache: {folder}")
        elif shards is None:
            logger.info(f"Tokenizing {len(comments):,} comments into {folder}")
            shards = _build(folder, comments, backend, head_tail)
        for shard in damaged:
            logger.warning(f"The token cache was damaged, and is mended: {folder / shard['name']}")
            rows = comments.select(range(shard["first_row"], shard["first_row"] + shard["rows"]))
            shard |= _write_shard(folder, shard["name"], rows, backend, head_tail)
        if damaged:
            _write_index(folder, shards)
        dataset = concatenate_datasets([Dataset.from_file(str(folder / shard["name"])) for shard in shards])
    return Tokens(dataset, sum(shard["cut_rows"] for shard in shards), folder, cache_hit)


def rows_behind_the_time(*parts: Tokens) -> int:
    """How many comments the tokenizer's time is about: those that were tokenised, or all where all were cached."""
    rows = [(len(tokens.dataset), tokens.cache_hit) for tokens in parts]
    return sum(count for count, hit in rows if not hit) or sum(count for count, _ in rows)


def cutting_backend(tokenizer: PreTrainedTokenizerFast, max_seq_length: int) -> tokenizers.Tokenizer:
    """A copy of what is behind a tokenizer, set to cut at `max_seq_length` tokens and to pad nothing."""
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    # What a tokenizer was last used for is part of its state, but must not be of the cache's key.
    backend.no_padding()
    backend.enable_truncation(max_seq_length, direction=tokenizer.truncation_side)
    return backend


def encode(
    texts: list[str], backend: tokenizers.Tokenizer, id_type: np.dtype, head_tail: bool = False
) -> tuple[pa.RecordBatch, int]:
    """Tokenise a batch.

    Of a long comment only as much as fills the limit is tokenised; the ids are those of the whole comment.

    Args:
        texts: the comments.
        backend: the tokenizer, set to cut (`cutting_backend`).
        id_type: of the token ids.
        head_tail: whether a comment that is cut keeps its first `HEAD_TOKENS` tokens and, up to the limit, its last
            ones, special tokens counted in. Where the limit is no more than `HEAD_TOKENS`, each gets its half.

    Returns:
        `input_ids` (list of `id_type`) and `length` (int32), and how many of the texts were cut.
    """
    limit = backend.truncation["max_length"]
    shortened = _shorten(texts, limit) if _reads_word_by_word(backend) else {}
    encodings = backend.encode_batch_fast([shortened.get(row, text) for row, text in enumerate(texts)])
    too_short = [row for row in shortened if not _runs_past_the_cut(encodings[row])]
    for row, encoding in zip(too_short, backend.encode_batch_fast([texts[row] for row in too_short]), strict=True):
        encodings[row] = encoding

    ids = [encoding.ids for encoding in encodings]
    if head_tail:
        cut = [row for row, encoding in enumerate(encodings) if encoding.overflowing]
        for row, head_and_tail in zip(cut, _heads_and_tails([texts[row] for row in cut], backend), strict=True):
            ids[row] = head_and_tail
    lengths = np.fromiter(map(len, ids), dtype=np.int32, count=len(ids))
    offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int32)))
    flat_ids = np.fromiter(chain.from_iterable(ids), dtype=id_type, count=offsets[-1])
    batch = pa.RecordBatch.from_pydict(
        {"input_ids": pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat_ids)), "length": lengths}
    )
    return batch, sum(bool(encodings[row].overflowing) for row in np.flatnonzero(lengths == limit))


def _heads_and_tails(texts: list[str], backend: tokenizers.Tokenizer) -> list[list[int]]:
    limit = backend.truncation["max_length"]
    whole = tokenizers.Tokenizer.from_str(backend.to_str())
    whole.no_truncation()
    head = HEAD_TOKENS if limit > HEAD_TOKENS else limit // 2
    return [encoding.ids[:head] + encoding.ids[head - limit :] for encoding in whole.encode_batch_fast(texts)]


def _reads_word_by_word(backend: tokenizers.Tokenizer) -> bool:
    """Whether the first tokens of a text cannot depend on words far behind them, and those are what is kept."""
    return backend.truncation["direction"] == "right" and isinstance(backend.pre_tokenizer, WORD_BY_WORD)


def _shorten(texts: list[str], limit: int) -> dict[int, str]:
    """Beginnings of the texts that are far too long, cut before a space, by row."""
    enough = CHARACTERS_PER_TOKEN * limit
    ends = {row: text.find(" ", enough) for row, text in enumerate(texts) if len(text) > enough}
    return {row: texts[row][:end] for row, end in ends.items() if end > 0}


def _runs_past_the_cut(encoding: tokenizers.Encoding) -> bool:
    """Whether so many tokens were cut off that the end of the shortened text is nowhere near those that are kept."""
    return sum(len(part.ids) for part in encoding.overflowing) >= TOKENS_PAST_THE_CUT


def _build(folder: Path, comments: Dataset, backend: tokenizers.Tokenizer, head_tail: bool) -> list[dict[str, Any]]:
    """Make all shards beside `folder` and put them in its place; returns the index."""
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    shards = []
    with tqdm(total=len(comments), unit=" comments", desc="Tokenizing") as progress:
        for first_row in range(0, len(comments), ROWS_PER_SHARD):
            rows = comments.select(range(first_row, min(first_row + ROWS_PER_SHARD, len(comments))))
            name = f"shard-{len(shards):05d}.arrow"
            shards.append(
                {"name": name, "first_row": first_row}
                | _write_shard(unfinished, name, rows, backend, head_tail, progress)
            )
            if len(comments) > ROWS_PER_SHARD:
                logger.info(f"Tokenized {first_row + len(rows):,} of {len(comments):,} comments")
    _write_index(unfinished, shards)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)
    return shards


def _write_shard(
    folder: Path, name: str, rows: Dataset, backend: tokenizers.Tokenizer, head_tail: bool, progress: Any | None = None
) -> dict[str, Any]:
    """Write one shard, under its name when it is whole; returns what the index says of its content."""
    id_type = np.min_scalar_type(max(backend.get_vocab().values()))
    cut_rows, writer = 0, None
    # Two batches in flight: while Rust works on one, Python packs the other.
    with (
        written_whole(folder / name) as unfinished,
        pa.OSFile(str(unfinished), "wb") as file,
        ThreadPoolExecutor(2) as pool,
    ):
        in_flight: deque[Future[tuple[pa.RecordBatch, int]]] = deque()
        batches = rows.select_columns(TEXT).with_format("arrow").iter(ROWS_PER_BATCH)
        for batch in chain(batches, (None, None)):
            if len(in_flight) == 2 or (batch is None and in_flight):
                tokens, cut = in_flight.popleft().result()
                cut_rows += cut
                writer = writer or pa.ipc.new_stream(file, tokens.schema)
                writer.write_batch(tokens)
                if progress is not None:
                    progress.update(len(tokens))
            if batch is not None:
                in_flight.append(pool.submit(encode, batch.column(TEXT).to_pylist(), backend, id_type, head_tail))
        writer.close()
    return {"rows": len(rows), "cut_rows": cut_rows, "xxh3": digest_of(folder / name)}


def _is_whole(folder: Path, shard: dict[str, Any]) -> bool:
    path = folder / shard["name"]
    return path.is_file() and digest_of(path) == shard["xxh3"]


def _write_index(folder: Path, shards: list[dict[str, Any]]) -> None:
    write_text(folder / INDEX, json.dumps({"shards": shards, "xxh3": _digest_of_index(shards)}, indent=1))


def _read_index(folder: Path, rows: int) -> list[dict[str, Any]] | None:
    """What the shards should be, None if there are none or the index itself is damaged."""
    try:
        index = json.loads((folder / INDEX).read_text())
        if index["xxh3"] == _digest_of_index(index["shards"]) and sum(s["rows"] for s in index["shards"]) == rows:
            return index["shards"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        pass
    logger.warning(f"The token cache has a damaged index, and is made again: {folder / INDEX}")
    return None


def _digest_of_index(shards: list[dict[str, Any]]) -> str:
    return xxhash.xxh3_128(json.dumps(shards, sort_keys=True).encode()).hexdigest()


def _cache_key(comments: Dataset, backend: tokenizers.Tokenizer, head_tail: bool) -> str:
    """32 hexadecimal digits of all that decides the token ids; the tokenizer's own text holds the length limit."""
    digest = xxhash.xxh3_128(backend.to_str().encode())
    digest.update(f"{FORMAT} {tokenizers.__version__}{f' head {HEAD_TOKENS}' * head_tail}".encode())
    text_digest = xxhash.xxh3_128()
    for batch in comments.select_columns(TEXT).with_format("arrow").iter(ROWS_PER_BATCH):
        texts = batch.column(TEXT)
        # The lengths too: "ab" before "c" must not be taken for "a" before "bc".
        for lengths in pc.binary_length(texts).chunks:
            digest.update(lengths.cast(pa.int64()).to_numpy())
        for chunk in texts.chunks:
            # The cast makes a sliced chunk say where its own bytes begin.
            chunk = chunk.cast(pa.large_string())
            offsets = np.frombuffer(chunk.buffers()[1], np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
            text_digest.update(memoryview(chunk.buffers()[2] or b"")[offsets[0] : offsets[-1]])
    digest.update(text_digest.digest())
    return digest.hexdigest()
