import copy
import errno
import os
from multiprocessing import Pipe

import pytest
from builders import make_comments
from datasets import Dataset, List, Value, concatenate_datasets
from processes import start
from tokenizing import tokenize_slowly

from toxicity.core.errors import RequestError
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
    monkeypatch.setattr("toxicity.data.tokenization.encode", lambda *args, **options: pytest.fail("tokenised again"))
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
    monkeypatch.setattr(tokenization, "ROWS_PER_ENCODE", 7)


def test_heads_and_tails_are_cached_apart(tokenizer, cache_dir):
    comments = Dataset.from_dict({"text": TEXTS})
    for head_tail, hit in ((False, False), (True, False), (False, True), (True, True)):
        assert tokenize(comments, tokenizer, 8, cache_dir=cache_dir, head_tail=head_tail).cache_hit is hit


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


@pytest.fixture
def start_tokenizing(checkpoint, cache_dir):
    """Start a process that tokenises `TEXTS`; returns it and where its messages arrive."""

    def start_process(seconds_per_batch):
        messages, sender = Pipe(duplex=False)
        process = start(tokenize_slowly, TEXTS, checkpoint, cache_dir, seconds_per_batch, sender)
        sender.close()
        return process, messages

    return start_process


def test_a_killed_process_leaves_no_cache_that_is_believed(start_tokenizing, cache_dir, tokenizer, small_shards):
    killed, messages = start_tokenizing(seconds_per_batch=60)
    assert messages.recv() == "encoding"
    killed.kill()
    killed.join()
    assert not list(cache_dir.glob("tokens-*/index.json"))
    tokens = tokenized(TEXTS, tokenizer, cache_dir)
    assert not tokens.cache_hit
    assert tokens.dataset["input_ids"][:] == tokenizer(TEXTS, truncation=True, max_length=32)["input_ids"]
    assert not list(cache_dir.glob("*.unfinished"))


def test_two_runs_at_once_share_the_work(start_tokenizing):
    results = []
    for process, messages in [start_tokenizing(0.3), start_tokenizing(0.3)]:
        process.join(120)
        while messages.poll() and (message := messages.recv()) == "encoding":
            pass
        results.append(message)
    assert sorted(results) == [("hit", 50), ("made", 50)]


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
    timed = [tokenization.SplitTokens(*splits).timing(2.0) for splits in ((part, miss), (hit, miss), (hit, hit))]
    assert timed == [
        {"seconds": 2.0, "cache_hit": False, "rows": 50},
        {"seconds": 2.0, "cache_hit": True, "rows": 30},
        {"seconds": 2.0, "cache_hit": True, "rows": 40},
    ]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC], ids=errno.errorcode.get)
@pytest.mark.parametrize("where", ["mkdir", "FileLock", "_write_index"])
def test_a_cache_that_cannot_be_written_names_the_variable_for_another(tokenizer, tmp_path, monkeypatch, code, where):
    def fail(*args, **options):
        raise OSError(code, os.strerror(code), "the file")

    monkeypatch.setattr(*((tokenization.Path, where) if where == "mkdir" else (tokenization, where)), fail)
    with pytest.raises(RequestError, match=rf"cannot use the token cache {tmp_path}.* \(the file\).*HF_DATASETS_CACHE"):
        tokenized(TEXTS, tokenizer, tmp_path)


def test_a_cache_below_a_file_is_none(tokenizer, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match="Not a directory.*a folder of your own in HF_DATASETS_CACHE"):
        tokenized(TEXTS, tokenizer, tmp_path / "file" / "cache")
