"""The flags of what training minimises."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from transformers.hf_argparser import HfArg

from toxicity.core.errors import RequestError

# Of --positive_class_weight.
BALANCED = "balanced"


@dataclass
class ObjectiveArguments:
    """What training minimises."""

    targets: Literal["hard", "soft", "smoothed"] = HfArg(
        default="hard",
        help="Training targets: `hard`, 0 or 1; `soft`, the share of annotators who said toxic; `smoothed`, "
        "that share moved towards one half, the further the fewer annotators there were.",
    )
    identity_weights: Literal["none", "any", "share", "detoxify"] = HfArg(
        default="none", help="Weight civil comments that mention an identity, and toxic ones that mention none, higher."
    )
    auxiliary_targets: list[str] = HfArg(
        default_factory=list, help="Also learn the six `subtypes`, the nine `identities` or both, or `none` of them."
    )
    positive_class_weight: list[str] | None = HfArg(
        default=None,
        help="Weight of toxic comments in the loss: a number, one for each label, or `balanced`, the number of civil "
        "comments by that of toxic ones.",
    )
    focal_gamma: float | None = HfArg(
        default=None,
        help="Focal loss: the loss of a comment is multiplied by this power of one minus the probability of its "
        "class, so that those count most which the model gets wrong; 2 is usual.",
    )
    counterfactual_pairing: float = HfArg(
        default=0.0,
        help="Counterfactual logit pairing: the copies of --counterfactuals have no loss of their own, and those of "
        "civil comments are compared with these: how much the squared difference of their logits counts in the loss.",
    )
    init_head_bias: bool = HfArg(
        default=False, help="Initialise the classifier's bias to the log odds of the share of toxic comments, not to 0."
    )

    def __post_init__(self) -> None:
        if unknown := set(self.auxiliary_targets) - {"subtypes", "identities", "none"}:
            raise RequestError(
                f"--auxiliary_targets knows subtypes and identities, and not {', '.join(sorted(unknown))}."
            )
        self.auxiliary_targets = sorted(set(self.auxiliary_targets) - {"none"}, reverse=True)
        if self.focal_gamma is not None and not 0 <= self.focal_gamma < math.inf:
            raise RequestError(f"--focal_gamma is {self.focal_gamma:g}; it is a power of 0 or more, and 2 is usual.")
        if not 0 <= self.counterfactual_pairing < math.inf:
            raise RequestError(
                f"--counterfactual_pairing is {self.counterfactual_pairing:g}; it is 0 or more, such as 0.5."
            )
        for given in self.positive_class_weight or ():
            if given != BALANCED and not _is_positive(given):
                raise RequestError(
                    f"--positive_class_weight {given}: give a number above 0, one for each label, or `{BALANCED}`."
                )


def _is_positive(given: str) -> bool:
    try:
        return 0 < float(given) < math.inf
    except ValueError:
        return False
