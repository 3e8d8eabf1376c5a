"""The flags of how scores become probabilities and labels, after training and in scoring."""

from __future__ import annotations

from dataclasses import dataclass

from transformers.hf_argparser import HfArg

from toxicity.core.wanted import Wanted, require_shares, wanted_threshold


@dataclass
class CalibrationArguments:
    """How scores become probabilities and labels, after training."""

    threshold_for: list[str] | None = HfArg(
        default=None,
        help="What to choose thresholds for beside the usual precisions: `recall=0.95`, `precision=0.98` or "
        "`flagged=0.02`, the share of all comments that may be flagged.",
    )
    prior: list[float] | None = HfArg(
        default=None,
        help="Share of toxic comments where the model is to be used, such as 0.02, for which probabilities and "
        "thresholds are adjusted: that of the main label, or one for each label.",
    )

    def __post_init__(self) -> None:
        for text in self.threshold_for or ():
            wanted_threshold(text)
        require_shares(self.prior)

    @property
    def wanted(self) -> tuple[Wanted, ...]:
        """What thresholds are wanted for."""
        return tuple(map(wanted_threshold, self.threshold_for or ()))
