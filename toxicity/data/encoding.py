"""Batches of comments → token ids, truncated at the length limit; only the part of a long comment that is needed."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pyarrow as pa
import tokenizers
from tokenizers.pre_tokenizers import BertPreTokenizer, ByteLevel
from transformers import PreTrainedTokenizerFast

# Rows per call of `encode`: enough to keep all cores busy, and little memory.
ROWS_PER_ENCODE = 2_000
# English has 4 to 5 characters per token, so a text of this many per token nearly always fills the limit.
CHARACTERS_PER_TOKEN = 6
# A shortened text that overflows the limit by this many tokens has the same tokens as the whole one up to the limit;
# if it overflows by fewer, the whole text is tokenised.
SPARE_TOKENS = 16
# Tokens that head-and-tail truncation keeps from the beginning, as the third place of the competition of 2019 did.
HEAD_TOKENS = 128
# Pre-tokenizers that split at spaces, so that the tokens of a word do not depend on the words after it.
WORD_BY_WORD = (BertPreTokenizer, ByteLevel)


def truncating_backend(tokenizer: PreTrainedTokenizerFast, max_seq_length: int) -> tokenizers.Tokenizer:
    """A copy of the Rust tokenizer behind `tokenizer`, set to truncate at `max_seq_length` tokens without padding."""
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    # Earlier calls of the tokenizer leave their settings in it; they must not be part of the cache key.
    backend.no_padding()
    backend.enable_truncation(max_seq_length, direction=tokenizer.truncation_side)
    return backend


def encode(
    texts: list[str], backend: tokenizers.Tokenizer, id_type: np.dtype, head_tail: bool = False
) -> tuple[pa.RecordBatch, int]:
    """Tokenise and truncate a batch.

    Long comments are shortened before they are tokenised; the ids are the same as those of the whole comment.

    Args:
        backend: a tokenizer of `truncating_backend`.
        id_type: type of the token ids.
        head_tail: whether a truncated comment keeps its first `HEAD_TOKENS` tokens and fills the limit up with its
            last ones, special tokens included. If the limit is at most `HEAD_TOKENS`, each part gets half of it.

    Returns:
        `input_ids` (list of `id_type`) and `length` (int32), and how many of the texts were truncated.
    """
    ids, cut_rows = token_ids(texts, backend, head_tail)
    lengths = np.fromiter(map(len, ids), dtype=np.int32, count=len(ids))
    offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int32)))
    flat_ids = np.fromiter(chain.from_iterable(ids), dtype=id_type, count=offsets[-1])
    batch = pa.RecordBatch.from_pydict(
        {"input_ids": pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat_ids)), "length": lengths}
    )
    return batch, cut_rows


def token_ids(texts: list[str], backend: tokenizers.Tokenizer, head_tail: bool = False) -> tuple[list[list[int]], int]:
    """The same as lists: the token ids of each text, and how many of the texts were truncated."""
    limit = backend.truncation["max_length"]
    shortened = _shorten(texts, backend)
    encodings = backend.encode_batch_fast([shortened.get(row, text) for row, text in enumerate(texts)])
    too_short = [row for row in shortened if sum(map(len, encodings[row].overflowing)) < SPARE_TOKENS]
    for row, encoding in zip(too_short, backend.encode_batch_fast([texts[row] for row in too_short]), strict=True):
        encodings[row] = encoding

    ids = [encoding.ids for encoding in encodings]
    if head_tail:
        truncated = [row for row, encoding in enumerate(encodings) if encoding.overflowing]
        heads_and_tails = _heads_and_tails([texts[row] for row in truncated], backend)
        for row, head_and_tail in zip(truncated, heads_and_tails, strict=True):
            ids[row] = head_and_tail
    # Only a comment that fills the limit can have been truncated, and `overflowing` copies what was cut off.
    cut_rows = sum(bool(encodings[row].overflowing) for row, tokens in enumerate(ids) if len(tokens) == limit)
    return ids, cut_rows


def _heads_and_tails(texts: list[str], backend: tokenizers.Tokenizer) -> list[list[int]]:
    limit = backend.truncation["max_length"]
    whole = tokenizers.Tokenizer.from_str(backend.to_str())
    whole.no_truncation()
    head = HEAD_TOKENS if limit > HEAD_TOKENS else limit // 2
    return [encoding.ids[:head] + encoding.ids[head - limit :] for encoding in whole.encode_batch_fast(texts)]


def _shorten(texts: list[str], backend: tokenizers.Tokenizer) -> dict[int, str]:
    """Row → beginning, cut before a space, of each text that is much longer than the limit; {} if it might not do."""
    if backend.truncation["direction"] != "right" or not isinstance(backend.pre_tokenizer, WORD_BY_WORD):
        return {}
    enough = CHARACTERS_PER_TOKEN * backend.truncation["max_length"]
    ends = {row: text.find(" ", enough) for row, text in enumerate(texts) if len(text) > enough}
    return {row: texts[row][:end] for row, end in ends.items() if end > 0}
