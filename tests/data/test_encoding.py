import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import Metaspace

from toxicity.data import encoding
from toxicity.data.encoding import encode, truncating_backend

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
    backend = truncating_backend(tokenizer, 8)
    batch, cut_rows = encode(texts, backend, np.dtype("uint16"))
    assert batch.column("input_ids").to_pylist() == tokenizer(texts, truncation=True, max_length=8)["input_ids"]
    assert cut_rows == sum(len(ids) > 8 for ids in tokenizer(texts)["input_ids"])


@given(st.lists(LONG_TEXTS, min_size=1, max_size=8), st.integers(4, 12))
@settings(deadline=None)
def test_long_comments_keep_head_and_tail(tokenizer, texts, limit):
    backend = truncating_backend(tokenizer, limit)
    batch, cut_rows = encode(texts, backend, np.dtype("uint16"), head_tail=True)
    head = limit // 2
    whole = tokenizer(texts)["input_ids"]
    expected = [ids if len(ids) <= limit else ids[:head] + ids[-(limit - head) :] for ids in whole]
    assert batch.column("input_ids").to_pylist() == expected
    assert cut_rows == sum(len(ids) > limit for ids in whole)


@pytest.mark.parametrize("limit", [129, 220, 300])
def test_the_head_is_of_128_tokens_where_there_is_room(tokenizer, limit):
    backend = truncating_backend(tokenizer, limit)
    text = " ".join(["you"] * 200 + ["liar"] * 200)
    batch, _ = encode([text], backend, np.dtype("uint16"), head_tail=True)
    you, liar = tokenizer.convert_tokens_to_ids(["you", "liar"])
    ids = batch.column("input_ids")[0].as_py()
    # [CLS] and 127 words, then the last words and [SEP].
    assert ids[1:-1] == [you] * 127 + [liar] * (limit - 129)


def test_most_of_a_very_long_comment_is_left_alone(tokenizer, monkeypatch):
    backend = truncating_backend(tokenizer, 8)
    texts = ["liar " * 1000, "short"]
    assert encoding._shorten(texts, backend) == {0: ("liar " * 1000)[:49]}
    backend.pre_tokenizer = Metaspace()
    assert encoding._shorten(texts, backend) == {}
