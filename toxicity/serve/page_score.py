"""The score of a comment as a picture in words and bars, and the words that drive it, for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from toxicity.predict.explain.words import Word

# Words shown in the sentence, on each side, and the weight that one of them has at least.
MOST_WORDS = 3
LEAST_WEIGHT = 0.05
# Weights below this share of the largest one are not coloured.
LEAST_SHARE = 0.05

STYLE = """
.score { --toxic: #b3400a; --civil: #0f766e; --mark: #111827; font-variant-numeric: tabular-nums; }
.dark .score { --toxic: #fb923c; --civil: #2dd4bf; --mark: #f9fafb; }
.score p { margin: 0 0 .5rem; }
.score .verdict { font-size: 1.6rem; font-weight: 700; margin: 0; }
.score .verdict.toxic { color: var(--toxic); }
.score .verdict.civil { color: var(--civil); }
.score dl { display: grid; grid-template-columns: fit-content(45%) 1fr auto; gap: .5rem .75rem; margin: .75rem 0 0;
  align-items: center; }
.score dt { overflow-wrap: anywhere; font-weight: 400; }
.score dd { margin: 0; }
.score .bar { position: relative; height: 1rem; border-radius: .25rem; background: var(--border-color-primary); }
.score .fill { position: absolute; inset: 0 auto 0 0; border-radius: inherit; background: var(--civil); }
.score .toxic .fill { background: var(--toxic); }
.score .mark { position: absolute; top: -.25rem; bottom: -.25rem; width: 3px; margin-left: -1px;
  background: var(--mark); outline: 1px solid var(--background-fill-primary); }
.score .note { font-size: .875rem; margin: .75rem 0 0; }
"""


def picture(scores: Sequence[float], labels: Sequence[str], thresholds: Mapping[str, float]) -> str:
    """HTML: whether the comment is toxic, and a bar for each label with a mark at its threshold.

    Args:
        scores: probability of each of `labels`, the main one first.
        labels: their names.
        thresholds: label → probability from which a comment has it; the main one's at least.
    """
    main, threshold = labels[0], thresholds[labels[0]]
    kind = _kind(scores[0], threshold)
    found = [
        name for name, score in zip(labels[1:], scores[1:], strict=True) if score >= thresholds.get(name, float("inf"))
    ]
    # Of a civil comment, too: each has a threshold of its own.
    kinds = f" Kinds at or above their own thresholds: {', '.join(map(escape, found))}." if found else ""
    side = "at or above" if kind == "toxic" else "below"
    rows = "".join(_row(name, score, thresholds.get(name)) for name, score in zip(labels, scores, strict=True))
    return (
        f'<div class="score"><p class="verdict {kind}">{kind.capitalize()}</p>'
        f"<p>The score, {_number(scores[0])}, is {side} the threshold of {_number(threshold)} for "
        f"{escape(main)}.{kinds}</p><dl>{rows}</dl>"
        '<p class="note">The line across a bar is the threshold: a comment has the label from there on.</p></div>'
    )


def highlighted(text: str, words: Sequence[Word]) -> list[tuple[str, float | None]]:
    """The text in pieces for `gr.HighlightedText`, each word with its weight as a share of the largest, −1 to 1."""
    largest = max((abs(word.weight) for word in words), default=0.0)
    pieces: list[tuple[str, float | None]] = []
    end = 0
    for word in words:
        share = round(word.weight / largest, 3) if largest else 0.0
        pieces.append((text[end : word.begin], None))
        pieces.append((text[word.begin : word.end], share if abs(share) >= LEAST_SHARE else None))
        end = word.end
    pieces.append((text[end:], None))
    return [piece for piece in pieces if piece[0]]


def told(words: Sequence[Word]) -> str:
    """HTML: the words with the largest weights on each side as a sentence, for those who do not see colours."""
    ordered = sorted(words, key=lambda word: word.weight)
    sides = {
        "More toxic through": [word for word in reversed(ordered) if word.weight >= LEAST_WEIGHT],
        "More civil through": [word for word in ordered if word.weight <= -LEAST_WEIGHT],
    }
    sentences = [
        f"{side} {', '.join(f'<q>{escape(word.text)}</q> ({_signed(word.weight)})' for word in found[:MOST_WORDS])}."
        for side, found in sides.items()
        if found
    ]
    if not sentences:
        return '<div class="score"><p class="note">No word by itself changes the score much.</p></div>'
    what = "The numbers are what a word adds to the log odds of the score."
    return f'<div class="score"><p class="note">{" ".join([*sentences, what])}</p></div>'


def _row(name: str, score: float, threshold: float | None) -> str:
    shown = "none of its own" if threshold is None else _number(threshold)
    mark = "" if threshold is None else f'<span class="mark" style="left: {100 * threshold:.1f}%"></span>'
    kind = "" if threshold is None else _kind(score, threshold)
    return (
        f"<dt>{escape(name)}</dt>"
        f'<dd class="bar {kind}" role="meter" aria-valuemin="0" aria-valuemax="1" aria-valuenow="{score:.3f}" '
        f'aria-label="{escape(name)}: {_number(score)}, threshold {shown}">'
        f'<span class="fill" style="width: {100 * score:.1f}%"></span>{mark}</dd>'
        f"<dd>{_number(score)}</dd>"
    )


def _signed(weight: float) -> str:
    return f"{weight:+.1f}".replace("-", "−")


def _kind(score: float, threshold: float) -> str:
    return "toxic" if score >= threshold else "civil"


def _number(share: float) -> str:
    """A probability with three decimals, never rounded to 0 or 1."""
    if 0 < share < 0.0005:
        return "&lt; 0.001"
    return "&gt; 0.999" if 0.9995 < share < 1 else f"{share:.3f}"
