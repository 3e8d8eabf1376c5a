"""The flags of what is done to the training comments: typos, and comments that name a group of people."""

from __future__ import annotations

from dataclasses import dataclass

from transformers.hf_argparser import HfArg

from toxicity.core.errors import RequestError

# As many copies of a comment differ little from those that it has by then.
MOST_COPIES = 20


@dataclass
class AugmentationArguments:
    """What is done to the training comments."""

    augment_typos: float = HfArg(
        default=0.0, help="Write this share of the training comments, 0 to 1, with typos, one in ten words."
    )
    identity_terms: str | None = HfArg(
        default=None,
        help="YAML file of the words for groups of people, instead of the package's toxicity/data/identity_terms.yaml, "
        "which describes the format.",
    )
    counterfactuals: float = HfArg(
        default=0.0,
        help="Also train on copies of the comments that name a group, with another group in its place and the same "
        "labels: so many for each on average, such as 2, or 0.5 for every second; 0 for none.",
    )
    identity_rows: float = HfArg(
        default=0.0,
        help="Share of the training rows that are to be civil comments that name a group: those that are wanting come "
        "from rows that would not be used, in the place of civil ones that name none; 0 for no such change.",
    )

    def __post_init__(self) -> None:
        if not 0 <= self.augment_typos <= 1:
            raise RequestError(f"--augment_typos is {self.augment_typos:g}; it is a share, from 0 to 1.")
        copies, share = self.counterfactuals, self.identity_rows
        if not 0 <= copies <= MOST_COPIES:  # NaN neither
            raise RequestError(
                f"--counterfactuals is {copies:g}; it is the number of copies of each comment, from 0 to "
                f"{MOST_COPIES}: 2 is usual."
            )
        if not 0 <= share < 1:
            raise RequestError(f"--identity_rows is {share:g}; it is a share of the training rows, such as 0.1.")
        if self.identity_terms is not None and not copies and not share:
            raise RequestError(
                "--identity_terms names words that nothing looks for here: add --counterfactuals or --identity_rows, "
                "or leave it out."
            )
