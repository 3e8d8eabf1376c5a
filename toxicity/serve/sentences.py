"""The sentences of a comment, by their place in it."""

from __future__ import annotations

import math
import re
from itertools import accumulate

import sentencex

# Each is scored for itself. A text of 20,480 bytes may have thousands.
MOST_SENTENCES = 100
# sentencex 1.0.32 takes each of these for one byte, and panics where one is between an initial and a full stop.
_OTHER_SPACE = re.compile(r"[^\S \t\n\r]")


def sentence_spans(text: str, language: str) -> list[tuple[int, int]]:
    """Begin and end of each sentence, in characters, without the white space around it.

    Every character but white space is in one of them. Of more than `MOST_SENTENCES`, so many neighbours are taken
    together that there are no more.

    Args:
        text: of any characters that UTF-8 can hold.
        language: ISO 639-1 code, whose abbreviations end no sentence.
    """
    pieces = sentencex.segment(language, _OTHER_SPACE.sub(" ", text))
    ends = list(accumulate(map(len, pieces)))
    trimmed = (
        (end - len(piece.lstrip()), end - len(piece) + len(piece.rstrip()))
        for piece, end in zip(pieces, ends, strict=True)
    )
    spans = [(begin, end) for begin, end in trimmed if begin < end]
    together = math.ceil(len(spans) / MOST_SENTENCES)
    groups = [spans[start : start + together] for start in range(0, len(spans), max(1, together))]
    return [(group[0][0], group[-1][1]) for group in groups]
