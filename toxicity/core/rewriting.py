"""Other ways in which people write the same words, by accident or to deceive a filter.

A word is a run of three letters or more, in whatever script, for capitals also of fewer. The rate of a rewriting is the
share of words that are rewritten, each drawn on its own. What is drawn depends on the seed, the name of the rewriting
and the text alone, so that a text is rewritten alike wherever it stands.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import NamedTuple

WORD, ANY_WORD = re.compile(r"[^\W\d_]{3,}"), re.compile(r"[^\W\d_]+")

LEET = str.maketrans("aeiostAEIOST", "431057431057")
# Cyrillic letters that look like Latin ones, and Greek ones where there is none.
LOOK_ALIKES = str.maketrans(
    "aceijopsxyABCEHIKMNOPSTXYZv", "асеіјорѕхуАВСЕНІКМΝОРЅТХΥΖν"
)  # fmt: skip
EMOJIS = "😀😂😍😡👍👎🔥💩"
KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
# Each row of keys begins a little to the right of the one above it.
NEARBY = ((0, -1), (0, 1), (-1, 0), (-1, 1), (1, -1), (1, 0))
NEIGHBOURS = {
    key: "".join(
        KEYS[row + down][place + right]
        for down, right in NEARBY
        if 0 <= row + down < len(KEYS) and 0 <= place + right < len(KEYS[row + down])
    )
    for row, keys in enumerate(KEYS)
    for place, key in enumerate(keys)
}


def leetspeak(word: str, draw: random.Random) -> str:
    """At a rate of 0.3 words: all of its letters a, e, i, o, s and t become the figures 4, 3, 1, 0, 5 and 7."""
    return word.translate(LEET)


def spaced(word: str, draw: random.Random) -> str:
    """At a rate of 0.3 words: a space between any two of its letters."""
    return " ".join(word)


def doubled(word: str, draw: random.Random) -> str:
    """At a rate of 0.3 words: one of its letters, drawn, stands twice."""
    place = draw.randrange(len(word))
    return word[: place + 1] + word[place:]


def capitals(word: str, draw: random.Random) -> str:
    """At a rate of 1, all words: in capital letters, as with the key for them locked."""
    return word.upper()


def homoglyphs(word: str, draw: random.Random) -> str:
    """At a rate of 0.3 words: all of its letters that have one become their look-alikes, Cyrillic or else Greek."""
    return word.translate(LOOK_ALIKES)


def emojis(word: str, draw: random.Random) -> str:
    """At a rate of 0.3 words: one of eight emojis, drawn, right behind it."""
    return word + draw.choice(EMOJIS)


def typos(word: str, draw: random.Random) -> str:
    """At a rate of 0.1 words: one slip, drawn, at one of its letters but the last: it changes places with the next one,
    is left out, or becomes that of a neighbouring key of an English keyboard, if it has one there.
    """
    place = draw.randrange(len(word) - 1)
    before, letter, after = word[:place], word[place], word[place + 1 :]
    slip = draw.choice((_swap, _drop, _miss))
    return before + slip(letter, after, draw)


def _swap(letter: str, after: str, draw: random.Random) -> str:
    return after[0] + letter + after[1:]


def _drop(letter: str, after: str, draw: random.Random) -> str:
    return after


def _miss(letter: str, after: str, draw: random.Random) -> str:
    nearby = NEIGHBOURS.get(letter.lower(), letter.lower())
    pressed = draw.choice(nearby)
    return (pressed.upper() if letter.isupper() else pressed) + after


class Rewriting(NamedTuple):
    """A way of writing a word, given what to draw from, the share of words that it is done to, and what is a word."""

    of_word: Callable[[str, random.Random], str]
    rate: float
    words: re.Pattern[str] = WORD


REWRITINGS = {
    "leetspeak": Rewriting(leetspeak, 0.3),
    "letters spaced": Rewriting(spaced, 0.3),
    "letters doubled": Rewriting(doubled, 0.3),
    "capitals": Rewriting(capitals, 1.0, ANY_WORD),
    "homoglyphs": Rewriting(homoglyphs, 0.3),
    "emojis": Rewriting(emojis, 0.3),
    "typos": Rewriting(typos, 0.1),
}


def rewrite(text: str, name: str, seed: int) -> str:
    """A text with its words rewritten in the way of `REWRITINGS` that is named, at its rate."""
    of_word, rate, words = REWRITINGS[name]
    draw = random.Random(f"{seed} {name} {text}")
    return words.sub(lambda word: of_word(word[0], draw) if draw.random() < rate else word[0], text)
