"""How much the words of a comment push its score: the score without a word, against the score with it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

import numpy as np

from toxicity.predict.explain.words import Span, Word, passages_of, without, words_in

# A text of at most so many words is scored without each of them.
MOST_WORDS = 64
# A longer one is scored without each of at most so many passages first, sentences of at most so many words, and then
# without each word of those passages that change the score by this share of the largest change or more.
MOST_PASSAGES = 32
LONGEST_SENTENCE = 32
SHARE_THAT_MATTERS = 0.1
# Limits for comments that are explained together, and for the texts of a call of `score`, so that memory is bounded.
COMMENTS_TOGETHER, CHARACTERS_TOGETHER = 512, 2**20
TEXTS_PER_CALL, CHARACTERS_PER_CALL = 8_192, 2**24

# Calibrated probabilities, float64 `(texts,)`, of texts.
Score = Callable[[Sequence[str]], np.ndarray]
# What is left out where nothing is.
WHOLE = (0, 0)
# Asks for log odds of the text without these spans, gets them, and returns the words in the end.
Steps = Generator[list[Span], np.ndarray, list[Word]]


def occlusion(text: str, score: Score) -> list[Word]:
    """The words of a text in their order, each with what it adds to the log odds of the score.

    The weight of a word is the log odds of the text minus those of the text without it (Zeiler and Fergus 2014,
    "Visualizing and Understanding Convolutional Networks", section 4.2; for words Li, Monroe and Jurafsky 2016,
    "Understanding Neural Networks through Representation Erasure"). Calibration rises strictly, so that it changes
    neither signs nor ranking; a prior changes nothing.

    In a text of more than `MOST_WORDS` words, sentences are left out first, and then the words of those sentences that
    matter most, `MOST_WORDS` at most: a hundred texts are scored, and of thousands of words some more, as a passage
    may have to be cut again. Words that were not left out have weight 0, and so have those that the model does not see,
    as it truncates the text. Of a truncated text, more of the end is seen where a word is left out.

    Args:
        text: any; where it is blank there are no words.
        score: gives the calibrated probabilities of texts, float64 `(texts,)`; it is called once for a short text.
    """
    (words,) = occlusions([text], score)
    return words


def occlusions(texts: Iterable[str], score: Score) -> Iterator[list[Word]]:
    """What `occlusion` gives for each text, in their order, with large batches for `score`."""
    for together in _bounded(texts, COMMENTS_TOGETHER, CHARACTERS_TOGETHER):
        yield from _together(together, score)


def _together(texts: Sequence[str], score: Score) -> list[list[Word]]:
    found: list[list[Word]] = [[] for _ in texts]
    steps = [_steps(text) for text in texts]
    answers: dict[int, np.ndarray | None] = dict.fromkeys(range(len(texts)))
    while answers:
        asked: dict[int, list[Span]] = {}
        for number, answer in answers.items():
            try:
                asked[number] = steps[number].send(answer)
            except StopIteration as stop:
                found[number] = stop.value
        pairs = ((texts[number], span) for number, spans in asked.items() for span in spans)
        log_odds = np.concatenate([np.empty(0), *_log_odds(pairs, score)])
        ends = np.cumsum([len(spans) for spans in asked.values()])
        answers = dict(zip(asked, np.split(log_odds, ends[:-1]), strict=True)) if asked else {}
    return found


def _steps(text: str) -> Steps:
    words = words_in(text)
    if not words:
        return []
    weights = np.zeros(len(words))
    numbers, base = range(len(words)), None
    while len(numbers) > MOST_WORDS:
        passages = passages_of(text, [words[number] for number in numbers], MOST_PASSAGES, LONGEST_SENTENCE)
        passages = [numbers[first:end] for first, end in passages]
        # With the punctuation that follows.
        ends = [*(begin for begin, _ in words), len(text)]
        base, *others = yield [WHOLE, *((words[passage[0]][0], ends[passage[-1] + 1]) for passage in passages)]
        numbers = _that_matter(passages, np.abs(base - np.asarray(others)))
    if numbers:
        base, *others = yield [WHOLE, *(words[number] for number in numbers)]
        weights[list(numbers)] = base - np.asarray(others)
    return [Word(text[b:e], b, e, float(weight)) for (b, e), weight in zip(words, weights, strict=True)]


def _that_matter(passages: Sequence[Sequence[int]], changes: np.ndarray) -> Sequence[int]:
    """Numbers of the words of the passages that change the score most: `MOST_WORDS`, or those of the first passage."""
    chosen: list[int] = []
    for place in np.argsort(-changes, kind="stable"):
        if changes[place] == 0 or changes[place] < SHARE_THAT_MATTERS * changes.max():
            break
        if chosen and len(chosen) + len(passages[place]) > MOST_WORDS:
            break
        chosen += passages[place]
    return chosen


def _log_odds(pairs: Iterator[tuple[str, Span]], score: Score) -> Iterator[np.ndarray]:
    """Log odds, float64, of the scores of texts without a span, in calls of bounded size."""
    occluded = (without(text, *span) if any(span) else text for text, span in pairs)
    for texts in _bounded(occluded, TEXTS_PER_CALL, CHARACTERS_PER_CALL):
        distinct = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        scores = np.asarray(score(list(distinct)), dtype=np.float64)
        # Of a score that was rounded to 0 or 1 they would be infinite.
        limits = np.finfo(np.float64)
        scores = np.clip(scores, limits.tiny, 1 - limits.epsneg)
        yield (np.log(scores) - np.log1p(-scores))[[distinct[text] for text in texts]]


def _bounded(texts: Iterable[str], most: int, most_characters: int) -> Iterator[list[str]]:
    batch, characters = [], 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if len(batch) == most or characters >= most_characters:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
