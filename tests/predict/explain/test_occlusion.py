"""Words of a text and their weights by occlusion, of a score that a test can compute by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from toxicity.predict.explain.occlusion import MOST_PASSAGES, MOST_WORDS, TEXTS_PER_CALL, occlusion, occlusions
from toxicity.predict.explain.words import passages_of, without, words_in

ADDS = {"idiot": 3.0, "stupid": 2.0, "kind": -2.5, "白": 1.5, "😡": 1.0, "dull": 0.001}


class Scorer:
    """The log odds of a text are -1, and what its words add to it; notes how it was called."""

    def __init__(self, seen=None):
        self.seen, self.calls = seen, []

    def __call__(self, texts):
        self.calls.append(len(texts))
        assert len(set(texts)) == len(texts), "nothing is scored twice"
        return expit([-1 + sum(ADDS.get(text[b:e], 0.0) for b, e in words_in(text)[: self.seen]) for text in texts])


def weights(words):
    return [(word.text, round(word.weight, 6)) for word in words]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("You idiot, be kind!", [("You", 0), ("idiot", 3), ("be", 0), ("kind", -2.5)]),
        ("idiot", [("idiot", 3)]),
        ("idiot idiot", [("idiot", 3), ("idiot", 3)]),
        ("你是白痴。", [("你", 0), ("是", 0), ("白", 1.5), ("痴", 0)]),
        ("no 😡 👨‍👩‍👧", [("no", 0), ("😡", 1), ("👨‍👩‍👧", 0)]),
        ("?!  ...", [("?!", 0), ("...", 0)]),
        ("", []),
        (" \n\t\x1c", []),
    ],
)
def test_a_word_weighs_what_the_score_loses_without_it(text, expected):
    score = Scorer()
    words = occlusion(text, score)
    assert weights(words) == expected
    assert [text[word.begin : word.end] for word in words] == [word.text for word in words]
    assert len(score.calls) == bool(expected)


@pytest.mark.parametrize("certain", [0.0, 1.0])
def test_weights_are_finite_where_the_score_is_certain(certain):
    words = occlusion("You idiot", lambda texts: np.where([" " in text for text in texts], certain, 0.5))
    assert np.isfinite([word.weight for word in words]).all()
    assert all(word.weight * (certain - 0.5) > 0 for word in words)


@pytest.mark.parametrize(
    ("text", "toxic"),
    [
        ("This is quite fine. " * 100 + "You are a stupid man.\n" + "And so on, I say. " * 200, ["stupid"]),
        ("fine words all along " * 200 + "you idiot" + " and more of these" * 200, ["idiot"]),
        ("很好" * 3000 + "。你是白痴。" + "很好" * 3000, ["白"]),
        ("You idiot. " + "x" * 20_000, ["idiot"]),
    ],
)
def test_of_long_texts_the_words_of_sentences_that_matter_are_found(text, toxic):
    score = Scorer()
    words = occlusion(text, score)
    assert [word.text for word in words if word.weight] == toxic
    assert len(words) == len(words_in(text))
    assert sum(score.calls) <= len(score.calls) * (1 + MOST_PASSAGES) + MOST_WORDS
    assert len(score.calls) <= (2 if len(words) < 1_000 else 3)


def test_a_sentence_leaves_with_its_punctuation():
    asked = []
    occlusion('Fine words here, "friend"!  ' * 40, lambda texts: asked.extend(texts) or np.full(len(texts), 0.5))
    longest = max(map(len, asked))
    assert {text.count("!") for text in asked if len(text) < longest} == {38}
    assert not any("! !" in text or "!!" in text for text in asked)


def test_words_that_matter_alike_are_not_searched_for_ever():
    score = Scorer()
    words = occlusion("dull " * 5000, score)
    assert 16 <= sum(bool(word.weight) for word in words) <= MOST_WORDS
    assert len(score.calls) == 3


def test_what_the_model_does_not_see_has_no_weight():
    text = "You are here. " * 30 + "You idiot. " + "You are here. " * 20
    assert any(word.weight for word in occlusion(text, Scorer()))
    assert not any(word.weight for word in occlusion(text, Scorer(seen=90)))


def test_many_texts_are_explained_as_each_alone_in_few_calls():
    texts = [f"You idiot number {number}, be kind" for number in range(600)] + ["", "You idiot"]
    texts.append("Fine words here. " * 100 + "stupid")
    score = Scorer()
    together = list(occlusions(texts, score))
    assert together == [occlusion(text, Scorer()) for text in texts]
    assert len(score.calls) == 3, "two groups of comments, one of which asks a second time"
    assert max(score.calls) <= TEXTS_PER_CALL
    assert list(occlusions([], score)) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("You're a f*cking idi0t!! sh!t a$$ f***", ["You're", "a", "f*cking", "idi0t", "sh!t", "a$$", "f***"]),
        ("Stop!You, user@site #tag 1,000", ["Stop", "You", "user@site", "tag", "1,000"]),
        ("ばかアホなバカ", ["ば", "か", "アホ", "な", "バカ"]),
        ("🇩🇪 ❤️ ok👍🏽", ["🇩🇪", "❤️", "ok", "👍🏽"]),
    ],
)
def test_words_are_those_of_unicode_and_masked_ones(text, expected):
    assert [text[begin:end] for begin, end in words_in(text)] == expected


@pytest.mark.parametrize(
    ("text", "word", "expected"),
    [
        ("You idiot!", "idiot", "You!"),
        ("You stupid-ass", "stupid", "You-ass"),
        ("idiot, you", "idiot", ", you"),
        ("Oh idiot you", "idiot", "Oh you"),
        ("白痴吗", "痴", "白吗"),
        ("an idiotically", "idiot", "an ically"),
    ],
)
def test_a_word_leaves_with_the_space_before_it(text, word, expected):
    begin = text.index(word)
    assert without(text, begin, begin + len(word)) == expected


@pytest.mark.parametrize(
    "text", ["One two. Three four! 五六。七八", "a b c d e f g h\ni j", "a. " * 50, "a b " * 100, "...!!! a"]
)
def test_passages_are_all_the_words_in_order(text):
    words = words_in(text)
    passages = passages_of(text, words, 8, 4)
    assert [number for passage in passages for number in range(*passage)] == list(range(len(words)))
    assert len(passages) <= 8
    assert all(begin < end for begin, end in passages)


@pytest.mark.parametrize("part", ["a*", "a!", ".", "\n", " ", "? ", "a\u0301", "\u200d", "'", "a'", "!", "😀", "白"])
def test_no_text_takes_long_to_split(part):
    text = f"a{part * 10_000}a"
    words = words_in(text)
    assert passages_of(text, words, MOST_PASSAGES, MOST_WORDS)


@given(st.text())
def test_any_text_has_words_in_order(text):
    words = occlusion(text, lambda texts: np.full(len(texts), 0.5))
    assert [text[word.begin : word.end] for word in words] == [word.text for word in words]
    places = [place for word in words for place in (word.begin, word.end)]
    assert places == sorted(places)
    assert all(word.text.strip() for word in words)
    assert bool(words) == bool(text.strip())
