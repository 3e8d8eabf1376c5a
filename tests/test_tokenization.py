import pytest
from conftest import make_comments
from datasets import Dataset, List, Value

from toxicity.tokenization import tokenize

TEXTS = [text for text, _ in make_comments(50)]


def tokenized(texts, tokenizer, cache_dir, max_seq_length=32, **options):
    return tokenize(Dataset.from_dict({"text": texts}), tokenizer, max_seq_length, cache_dir=cache_dir, **options)


def test_ids_are_those_of_the_tokenizer(tokenizer, cache_dir):
    tokens = tokenized(TEXTS, tokenizer, cache_dir)
    expected = tokenizer(TEXTS, truncation=True, max_length=32)["input_ids"]
    assert tokens.dataset["input_ids"][:] == expected
    assert tokens.dataset["length"][:] == [len(ids) for ids in expected]
    assert tokens.total_tokens == sum(map(len, expected))
    assert max(map(len, expected)) == 32


def test_ids_take_the_least_space_that_holds_the_vocabulary(tokenizer, cache_dir):
    assert len(tokenizer) < 256
    features = tokenized(TEXTS, tokenizer, cache_dir).dataset.features
    assert features == {"input_ids": List(Value("uint8")), "length": Value("int32")}


def test_the_second_time_is_a_hit(tokenizer, cache_dir, monkeypatch):
    first = tokenized(TEXTS, tokenizer, cache_dir)
    tokenizer(TEXTS[:2], padding=True, truncation=True, max_length=7)  # leaves its settings in the tokenizer
    monkeypatch.setattr("toxicity.tokenization.encode", lambda *args, **kwargs: pytest.fail("tokenised again"))
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
    assert list(cache_dir.glob("tokens-*.arrow"))
