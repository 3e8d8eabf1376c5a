"""Rows of random token ids that are as long as real comments, for machines without the sample, tokenizer and Hub.

`lengths.json` holds how many of the sample recipe's comments have each number of tokens, from 0 up, by the sample's
tokenizer, which truncates at 220. No comment is in it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

LENGTHS = Path(__file__).with_name("lengths.json")
# As BERT's vocabulary has them: the first and the last token of a comment, and the first of those that are words.
CLS, SEP, FIRST_WORD = 101, 102, 1_000
# A comment is toxic if it has some of the first words. Some labels are wrong, as those of annotators are, so that not
# every model that has learnt the rule has an AUC of 1.
TOXIC_WORDS, TOXIC_SHARE, WRONG_LABELS = 4, 0.3, 0.05


def random_rows(count: int, vocab_size: int, seed: int) -> Dataset:
    """Rows with `input_ids` (int32), `length` (int32) and `labels` (float32, 0 or 1), which can be learnt.

    Args:
        count: number of rows.
        vocab_size: of the model, more than `FIRST_WORD + TOXIC_WORDS`.
        seed: the same rows for the same seed.
    """
    rng = np.random.default_rng(seed)
    counts = np.array(json.loads(LENGTHS.read_text()))
    lengths = rng.choice(len(counts), count, p=counts / counts.sum())
    toxic = rng.random(count) < TOXIC_SHARE
    rows = []
    for length, is_toxic in zip(lengths.tolist(), toxic.tolist(), strict=True):
        row = rng.integers(FIRST_WORD + TOXIC_WORDS, vocab_size, length, dtype=np.int32)
        if is_toxic:
            said = rng.choice(length - 2, max(1, length // 3), replace=False) + 1
            row[said] = rng.integers(FIRST_WORD, FIRST_WORD + TOXIC_WORDS, len(said))
        row[[0, -1]] = CLS, SEP
        rows.append(row)
    labels = toxic ^ (rng.random(count) < WRONG_LABELS)
    return Dataset.from_dict(
        {"input_ids": rows, "length": lengths.astype(np.int32), "labels": labels.astype(np.float32)}
    )


def padding_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer that knows one word, as `Scorer` asks for some, and can pad, with token 0 as BERT's does."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "word": 2}, unk_token="[UNK]")),
        pad_token="[PAD]",
        unk_token="[UNK]",
        model_input_names=["input_ids", "attention_mask"],
    )
