"""The words and passages of a comment, and their weights in its score."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import regex

Span = tuple[int, int]  # begin and end in characters, the end exclusive

# A word by Unicode's default word boundaries (UAX 29), by which a Chinese character is one of its own. Words that are
# masked, as in f*ck, sh!t and a$$, are one word too.
_PIECE = r"\b(?=[\w\p{Extended_Pictographic}\p{Regional_Indicator}])(?s:.+?)\b"
_WORD = regex.compile(rf"(?w){_PIECE}(?:(?:[*$@#%&]+|!+(?=\p{{Ll}})){_PIECE})*[*$]*")
# By `re`, to which the same characters are spaces as to `str.strip`.
_RUN = re.compile(r"\S+")
# What ends a sentence. The rules are few, as sentences only limit how many texts are scored.
_SENTENCE_END = regex.compile(r"(?<![.!?…])[.!?…]+[\"'”’)\]]*\s+|[。！？]+[”’」』）]*\s*|\n\s*")


@dataclass(frozen=True)
class Word:
    """A word where it stands in a comment, and how much it pushes the score."""

    text: str
    begin: int  # characters of the comment before it
    end: int  # exclusive
    weight: float  # what it adds to the log odds of the score; negative where it makes the comment more civil


def words_in(text: str) -> list[Span]:
    """Where the words of a text are, in order, emoji among them; in a text of signs alone, what spaces separate."""
    return [match.span() for match in _WORD.finditer(text)] or [match.span() for match in _RUN.finditer(text)]


def passages_of(text: str, words: Sequence[Span], most: int, longest_sentence: int) -> list[Span]:
    """Cut words into at most `most` passages, sentences where that is possible: ranges `[begin, end)` of `words`.

    Sentences of more than `longest_sentence` words are cut, and short neighbours taken together, so that a passage has
    less than `longest_sentence + len(words) / most` words.
    """
    least = -(-len(words) // most)
    passages: list[Span] = []
    for begin, end in _sentences(text, words):
        for cut in range(begin, end, longest_sentence):
            part = (cut, min(cut + longest_sentence, end))
            if passages and passages[-1][1] - passages[-1][0] < least:
                part = (passages.pop()[0], part[1])
            passages.append(part)
    return passages


def _sentences(text: str, words: Sequence[Span]) -> Iterator[Span]:
    ends = (match.end() for match in _SENTENCE_END.finditer(text, words[0][0], words[-1][0]))
    begins = sorted({bisect_left(words, (end, end)) for end in ends} - {0, len(words)})
    return pairwise([0, *begins, len(words)])


def without(text: str, begin: int, end: int) -> str:
    """The text without what lies from `begin` to `end`, and without the space that separated it."""
    before, after = text[:begin], text[end:]
    if not before.strip():
        return after.lstrip()
    # The space stays where the next word would grow together with the one before.
    return before + after if after[:1].isalnum() else before.rstrip() + after
