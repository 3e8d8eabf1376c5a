"""What thresholds and priors are wanted, as flags and configs name them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from toxicity.core.errors import RequestError

PRECISION, RECALL, FLAGGED = KINDS = ("precision", "recall", "flagged")


@dataclass(frozen=True)
class Wanted:
    """What is wanted of a threshold: a precision or a recall of at least, or a share flagged of at most, `value`."""

    kind: str  # of `KINDS`
    value: float  # above 0, below 1

    @property
    def name(self) -> str:
        """Its key in `thresholds` of a config: `0.9` for a precision, as ever, else `recall=0.95`."""
        return str(self.value) if self.kind == PRECISION else f"{self.kind}={self.value}"

    @property
    def told(self) -> str:
        """The same in words."""
        return f"at most {100 * self.value:g} % flagged" if self.kind == FLAGGED else f"{self.kind} {self.value:g}"

    @classmethod
    def from_name(cls, text: str) -> Wanted:
        """What such a key means; `precision=0.9` is taken, too.

        Raises:
            ValueError: for any other text.
        """
        kind, _, value = text.strip().rpartition("=")
        wanted = cls(kind.strip().lower() or PRECISION, float(value))
        if wanted.kind not in KINDS or not 0 < wanted.value < 1:
            raise ValueError(f"{text} is no threshold")
        return wanted


def wanted_threshold(text: str) -> Wanted:
    """What `--threshold_for` asks for; raises `RequestError` for what it cannot mean."""
    try:
        return Wanted.from_name(text)
    except ValueError:
        raise RequestError(
            f"--threshold_for {text}: give precision, recall or flagged with a share above 0 and below 1, such as "
            "recall=0.95."
        ) from None


def require_shares(prior: Sequence[float] | None) -> None:
    """Raise `RequestError` if a value of `--prior` is no share of comments of two classes."""
    for share in prior or ():
        if not 0 < share < 1:
            raise RequestError(f"--prior {share:g}: give a share of toxic comments above 0 and below 1, such as 0.02.")


def priors_of(prior: Sequence[float] | None, labels: int) -> list[float | None]:
    """The prior of each label: those given, or the one given for the main label and None for the others.

    Raises:
        RequestError: for another number of them.
    """
    if not prior:
        return [None] * labels
    if len(prior) not in (1, labels):
        raise RequestError(
            f"--prior has {len(prior)} values, and there {'is' if labels == 1 else 'are'} {labels} label"
            f"{'' if labels == 1 else 's'}: give one for the main label, or one for each."
        )
    return [*prior, *[None] * (labels - len(prior))]
