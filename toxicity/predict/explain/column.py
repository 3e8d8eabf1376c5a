"""The column `words` of scores: the words that push the score of a comment up most."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pyarrow as pa

from toxicity.predict.explain.occlusion import SHARE_THAT_MATTERS, Score, occlusions
from toxicity.predict.explain.words import Word

TYPE = pa.list_(pa.struct([("word", pa.string()), ("weight", pa.float64())]))


def words_column(texts: Sequence[str | None], score: Score, most: int, as_text: bool) -> pa.Array:
    """The words that push up the scores of texts, those that do so most first, by `occlusion`.

    Args:
        texts: None for what is not to be explained; its cell is null.
        score: gives the calibrated probabilities of texts, float64 `(texts,)`.
        most: how many words a cell has at most. Words that push less than a tenth of what the first one does are left
            out, and a word that occurs several times is there once, with its largest weight.
        as_text: whether a cell is text for people, such as `idiot 2.31, stupid 0.80`, in place of a list of structs of
            `word` and `weight`, float64.
    """
    distinct = dict.fromkeys(text for text in texts if text is not None)
    # Of all the words only those are kept that are told.
    told = map(partial(_most_pushing, most=most), occlusions(distinct, score))
    cells = [*map(dict(zip(distinct, told, strict=True)).get, texts)]
    if as_text:
        cells = [
            None if words is None else ", ".join(f"{word['word']} {word['weight']:.2f}" for word in words)
            for words in cells
        ]
        return pa.array(cells, pa.string())
    return pa.array(cells, TYPE)


def _most_pushing(words: Sequence[Word], most: int) -> list[dict[str, str | float]]:
    # What rounding does to the score looks like a small weight.
    least = SHARE_THAT_MATTERS * max((word.weight for word in words), default=0.0)
    pushing = sorted((word for word in words if word.weight >= least > 0), key=lambda word: -word.weight)
    first: dict[str, Word] = {}
    for word in pushing:
        first.setdefault(word.text.casefold(), word)
    return [{"word": word.text, "weight": word.weight} for word in list(first.values())[:most]]
