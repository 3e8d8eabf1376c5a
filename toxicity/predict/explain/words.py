"""A word of a comment and its weight in the comment's score."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """A word where it stands in a comment, and how much it pushes the score."""

    text: str
    begin: int  # characters of the comment before it
    end: int  # exclusive
    weight: float  # what it adds to the log odds of the score; negative where it makes the comment more civil
