"""Training comments with typos: how many, which, and that their tokens are others in the cache."""

import pytest
from builders import make_comments
from datasets import Dataset

from toxicity.core.arguments import DataArguments
from toxicity.core.rewriting import rewrite
from toxicity.data.augmentation import TYPOS_SEED, with_typos
from toxicity.data.sources import Splits
from toxicity.data.tokenization import tokenize_splits

pytestmark = pytest.mark.usefixtures("cache_dir")

TEXTS = [text for text, _ in make_comments(400)]


@pytest.fixture
def comments():
    return Dataset.from_dict({"text": TEXTS, "target": [0.0] * 400})


def test_without_a_share_the_comments_are_the_same(comments):
    assert with_typos(comments, 0) is comments


def test_the_share_is_that_of_the_comments_and_each_is_as_in_the_table_of_robustness(comments):
    mistyped = [rewrite(text, "typos", TYPOS_SEED) for text in TEXTS]
    assert with_typos(comments, 1)["text"][:] == mistyped
    half = with_typos(comments, 0.5)["text"][:]
    assert half == with_typos(comments, 0.5)["text"][:]
    assert all(text in pair for text, pair in zip(half, zip(TEXTS, mistyped, strict=True), strict=True))
    written = [
        text == original for text, original, other in zip(half, TEXTS, mistyped, strict=True) if original != other
    ]
    assert sum(written) / len(written) == pytest.approx(0.5, abs=0.08)


def test_only_training_comments_get_them_and_their_tokens_are_others(comments, tokenizer):
    splits = Splits(comments, comments.select(range(40)), "c.csv", 400, 40)

    def tokens(**options):
        return tokenize_splits(splits, tokenizer, DataArguments(dataset_name="sample", **options), False)

    plain, mistyped = tokens(max_seq_length=64), tokens(max_seq_length=64, augment_typos=0.5)
    assert mistyped.train.folder != plain.train.folder
    assert not mistyped.train.cache_hit
    assert mistyped.validation.folder == plain.validation.folder
    assert len(mistyped.train.dataset) == 400
    # Drawn once: the next run finds them.
    assert tokens(max_seq_length=64, augment_typos=0.5).train.cache_hit
    assert tokens(max_seq_length=64, augment_typos=0.4).train.folder != mistyped.train.folder
