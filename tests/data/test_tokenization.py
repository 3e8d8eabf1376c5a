import copy
import os
import subprocess
import sys

import numpy as np
import pytest
from builders import ROOT, make_comments
from datasets import Dataset, List, Value, concatenate_datasets
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import Metaspace

from toxicity.data import tokenization
from toxicity.data.tokenization import tokenize

TEXTS = [text for text, _ in make_comments(50)]


def tokenized(texts, tokenizer, cache_dir, max_seq_length=32, **options):
    return tokenize(Dataset.from_dict({"text": texts}), tokenizer, max_seq_length, cache_dir=cache_dir, **options)


def test_ids_are_those_of_the_tokenizer(tokenizer, cache_dir):
    tokens = tokenized(TEXTS, tokenizer, cache_dir)
    expected = tokenizer(TEXTS, truncation=True, max_length=32)["input_ids"]
    assert tokens.dataset["input_ids"][:] == expected
    assert tokens.dataset["length"][:] == [len(ids) for ids in expected]
    assert tokens.lengths.tolist() == list(map(len, expected))
    assert max(map(len, expected)) == 32


def test_ids_take_the_least_space_that_holds_the_vocabulary(tokenizer, cache_dir):
    assert len(tokenizer) < 256
    features = tokenized(TEXTS, tokenizer, cache_dir).dataset.features
    assert features == {"input_ids": List(Value("uint8")), "length": Value("int32")}


def test_the_second_time_is_a_hit(tokenizer, cache_dir, monkeypatch):
    first = tokenized(TEXTS, tokenizer, cache_dir)
    tokenizer(TEXTS[:2], padding=True, truncation=True, max_length=7)  # leaves its settings in the tokenizer
    monkeypatch.setattr("toxicity.data.tokenization.encode", lambda *args: pytest.fail("tokenised again"))
    second = tokenized(TEXTS, tokenizer, cache_dir)
    assert (first.cache_hit, second.cache_hit) == (False, True)
    assert first.dataset[:] == second.dataset[:]


@pytest.mark.parametrize(
    "change",
    [
        {"max_seq_length": 31},
        {"texts": TEXTS[::-1]},
        {"texts": [TEXTS[0] + TEXTS[1][:1], TEXTS[1][1:], *TEXTS[2:]]},
        {"overwrite_cache": True},
    ],
    ids=["length limit", "order", "the same letters cut elsewhere", "overwrite"],
)
def test_a_change_is_a_miss(tokenizer, cache_dir, change):
    tokenized(TEXTS, tokenizer, cache_dir)
    assert not tokenized(**{"texts": TEXTS, "tokenizer": tokenizer, "cache_dir": cache_dir} | change).cache_hit


def test_the_default_cache_is_that_of_datasets(tokenizer, cache_dir):
    tokenize(Dataset.from_dict({"text": TEXTS}), tokenizer, 32)
    assert list(cache_dir.glob("tokens-*/shard-00000.arrow"))


def test_a_slice_is_not_taken_for_its_neighbour(tokenizer, cache_dir):
    one, other = (Dataset.from_dict({"text": [first, *TEXTS]}) for first in ("first", "other"))
    tokenize(one.select(range(1, 51)), tokenizer, 32, cache_dir=cache_dir)
    assert tokenized(TEXTS, tokenizer, cache_dir).cache_hit
    tokenize(one.select(range(50)), tokenizer, 32, cache_dir=cache_dir)
    assert not tokenize(other.select(range(50)), tokenizer, 32, cache_dir=cache_dir).cache_hit


def test_the_same_comments_in_other_chunks_are_a_hit(tokenizer, cache_dir):
    tokenized(TEXTS, tokenizer, cache_dir)
    chunked = concatenate_datasets([Dataset.from_dict({"text": part}) for part in (TEXTS[:7], TEXTS[7:])])
    assert tokenize(chunked, tokenizer, 32, cache_dir=cache_dir).cache_hit


def test_cut_comments_are_counted(tokenizer, cache_dir):
    whole = [len(ids) for ids in tokenizer(TEXTS)["input_ids"]]
    assert 32 in whole or 31 in whole
    assert tokenized(TEXTS, tokenizer, cache_dir).cut_rows == sum(length > 32 for length in whole)
    assert tokenized(TEXTS, tokenizer, cache_dir, max_seq_length=31).cut_rows == sum(length > 31 for length in whole)


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(tokenization, "ROWS_PER_SHARD", 20)
    monkeypatch.setattr(tokenization, "ROWS_PER_BATCH", 7)


# Words, spaces of several kinds, marks that belong to what is before them, and runs without any space.
LONG_TEXTS = st.lists(
    st.sampled_from(
        ["you", "liar", "a", " ", "  ", "\n", "\u3000", "\u0301", "é", "[SEP]", "x" * 60, "日本", "!", "\u200b"]
    ),
    max_size=120,
).map("".join)


@given(st.lists(LONG_TEXTS, min_size=1, max_size=8))
@settings(deadline=None)
def test_long_comments_get_the_ids_of_the_whole_comment(tokenizer, texts):
    backend = tokenization.cutting_backend(tokenizer, 8)
    batch, cut_rows = tokenization.encode(texts, backend, np.dtype("uint16"))
    assert batch.column("input_ids").to_pylist() == tokenizer(texts, truncation=True, max_length=8)["input_ids"]
    assert cut_rows == sum(len(ids) > 8 for ids in tokenizer(texts)["input_ids"])


@given(st.lists(LONG_TEXTS, min_size=1, max_size=8), st.integers(4, 12))
@settings(deadline=None)
def test_long_comments_keep_head_and_tail(tokenizer, texts, limit):
    backend = tokenization.cutting_backend(tokenizer, limit)
    batch, cut_rows = tokenization.encode(texts, backend, np.dtype("uint16"), head_tail=True)
    head = limit // 2
    whole = tokenizer(texts)["input_ids"]
    expected = [ids if len(ids) <= limit else ids[:head] + ids[-(limit - head) :] for ids in whole]
    assert batch.column("input_ids").to_pylist() == expected
    assert cut_rows == sum(len(ids) > limit for ids in whole)


@pytest.mark.parametrize("limit", [129, 220, 300])
def test_the_head_is_of_128_tokens_where_there_is_room(tokenizer, limit):
    backend = tokenization.cutting_backend(tokenizer, limit)
    text = " ".join(["you"] * 200 + ["liar"] * 200)
    batch, _ = tokenization.encode([text], backend, np.dtype("uint16"), head_tail=True)
    you, liar = tokenizer.convert_tokens_to_ids(["you", "liar"])
    ids = batch.column("input_ids")[0].as_py()
    # [CLS] and 127 words, then the last words and [SEP].
    assert ids[1:-1] == [you] * 127 + [liar] * (limit - 129)


def test_heads_and_tails_are_cached_apart(tokenizer, cache_dir):
    comments = Dataset.from_dict({"text": TEXTS})
    for head_tail, hit in ((False, False), (True, False), (False, True), (True, True)):
        assert tokenize(comments, tokenizer, 8, cache_dir=cache_dir, head_tail=head_tail).cache_hit is hit


def test_most_of_a_very_long_comment_is_left_alone(tokenizer, monkeypatch):
    backend = tokenization.cutting_backend(tokenizer, 8)
    assert tokenization._shorten(["liar " * 1000, "short"], 8) == {0: ("liar " * 1000)[:49]}
    backend.pre_tokenizer = Metaspace()
    assert not tokenization._reads_word_by_word(backend)


def test_shards_are_bounded_and_in_order(tokenizer, cache_dir, small_shards):
    tokens = tokenized(TEXTS, tokenizer, cache_dir)
    assert sorted(path.name for path in tokens.folder.iterdir()) == [
        "index.json",
        "shard-00000.arrow",
        "shard-00001.arrow",
        "shard-00002.arrow",
    ]
    assert tokens.dataset["input_ids"][:] == tokenizer(TEXTS, truncation=True, max_length=32)["input_ids"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(path.read_bytes()[:300] + b"!" + path.read_bytes()[301:]),
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
    ],
    ids=["cut off", "one byte changed", "empty", "gone"],
)
def test_a_damaged_shard_is_named_and_mended_alone(tokenizer, cache_dir, small_shards, caplog, spoil):
    first = tokenized(TEXTS, tokenizer, cache_dir)
    expected = first.dataset[:]
    others = {path: path.stat().st_mtime_ns for path in first.folder.glob("*.arrow") if "00001" not in path.name}
    spoil(first.folder / "shard-00001.arrow")
    with caplog.at_level("WARNING", logger="toxicity"):
        mended = tokenized(TEXTS, tokenizer, cache_dir)
    assert "shard-00001.arrow" in caplog.text
    assert not mended.cache_hit
    assert mended.dataset[:] == expected
    assert {path: path.stat().st_mtime_ns for path in others} == others
    assert tokenized(TEXTS, tokenizer, cache_dir).cache_hit


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:-9],
        lambda text: "{}",
        lambda text: "[]",
        lambda text: '{"shards": [], "xxh3": ""}',
        lambda text: text.replace('"rows": 50', '"rows": 40'),
        lambda text: text.replace('"cut_rows": ', '"cut_rows": 1'),
    ],
)
def test_a_damaged_index_is_not_believed(tokenizer, cache_dir, caplog, spoil):
    folder = tokenized(TEXTS, tokenizer, cache_dir).folder
    (folder / "index.json").write_text(spoil((folder / "index.json").read_text()))
    with caplog.at_level("WARNING", logger="toxicity"):
        assert not tokenized(TEXTS, tokenizer, cache_dir).cache_hit
    assert "damaged index" in caplog.text
    assert tokenized(TEXTS, tokenizer, cache_dir).cache_hit


TOKENIZE = """
import sys, time
from datasets import Dataset
from pathlib import Path
from transformers import AutoTokenizer
from toxicity.data import tokenization
tokenization.ROWS_PER_SHARD = 20
encode = tokenization.encode
def slow_encode(*args):
    print("encoding", flush=True)
    time.sleep(float(sys.argv[3]))
    return encode(*args)
tokenization.encode = slow_encode
texts = Path(sys.argv[1]).read_text().splitlines()
tokenizer = AutoTokenizer.from_pretrained(sys.argv[2])
tokens = tokenization.tokenize(Dataset.from_dict({"text": texts}), tokenizer, 32)
print("hit" if tokens.cache_hit else "made", len(tokens.dataset), flush=True)
"""


@pytest.fixture
def start(tmp_path, checkpoint, cache_dir):
    (tmp_path / "texts").write_text("\n".join(TEXTS))

    def start_process(seconds_per_shard):
        return subprocess.Popen(
            [sys.executable, "-c", TOKENIZE, tmp_path / "texts", checkpoint, str(seconds_per_shard)],
            env=os.environ | {"HF_DATASETS_CACHE": str(cache_dir.parent), "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )

    return start_process


def test_a_killed_process_leaves_no_cache_that_is_believed(start, cache_dir, tokenizer, small_shards):
    killed = start(seconds_per_shard=60)
    assert killed.stdout.readline() == "encoding\n"
    killed.kill()
    killed.wait()
    assert not list(cache_dir.glob("tokens-*/index.json"))
    tokens = tokenized(TEXTS, tokenizer, cache_dir)
    assert not tokens.cache_hit
    assert tokens.dataset["input_ids"][:] == tokenizer(TEXTS, truncation=True, max_length=32)["input_ids"]
    assert not list(cache_dir.glob("*.unfinished"))


def test_two_runs_at_once_share_the_work(start):
    outputs = sorted(process.communicate()[0].split("\n")[-2] for process in [start(0.5), start(0.5)])
    assert outputs == ["hit 50", "made 50"]


def test_a_shard_is_mended_as_long_as_it_was(tokenizer, cache_dir, small_shards, monkeypatch):
    folder = tokenized(TEXTS, tokenizer, cache_dir).folder
    (folder / "shard-00000.arrow").unlink()
    monkeypatch.setattr(tokenization, "ROWS_PER_SHARD", 25)
    mended = tokenized(TEXTS, tokenizer, cache_dir)
    assert mended.dataset["input_ids"][:] == tokenizer(TEXTS, truncation=True, max_length=32)["input_ids"]
    assert tokenized(TEXTS, tokenizer, cache_dir).cache_hit


def test_the_side_of_the_cut_is_the_tokenizers(tokenizer, cache_dir):
    right = tokenized(TEXTS, tokenizer, cache_dir)
    left_tokenizer = copy.deepcopy(tokenizer)
    left_tokenizer.truncation_side = "left"
    left = tokenized(TEXTS, left_tokenizer, cache_dir)
    assert not left.cache_hit
    assert left.dataset["input_ids"][:] == left_tokenizer(TEXTS, truncation=True, max_length=32)["input_ids"]
    assert left.dataset["input_ids"][:] != right.dataset["input_ids"][:]


def test_what_was_cached_does_not_make_the_tokenizer_fast(tokenizer, cache_dir):
    part = tokenized(TEXTS[:20], tokenizer, cache_dir)
    hit, miss = tokenized(TEXTS[:20], tokenizer, cache_dir), tokenized(TEXTS[20:], tokenizer, cache_dir)
    assert tokenization.rows_behind_the_time(part, miss) == 50
    assert tokenization.rows_behind_the_time(hit, miss) == 30
    assert tokenization.rows_behind_the_time(hit, hit) == 40
