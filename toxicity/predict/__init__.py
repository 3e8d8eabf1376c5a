"""Scores for comments: `from toxicity.predict import Scorer`, or `python -m toxicity.predict`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toxicity.predict.scorer import Scorer

__all__ = ["Scorer"]


def __getattr__(name: str) -> Any:
    # Only when it is asked for, so that a typing error in the command's flags is answered before torch is loaded.
    if name == "Scorer":
        from toxicity.predict.scorer import Scorer

        return Scorer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
