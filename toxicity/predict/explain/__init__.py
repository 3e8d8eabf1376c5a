"""Which words of a comment push its score up or down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from toxicity.core.console import quoted
from toxicity.core.errors import RequestError
from toxicity.predict.explain.words import Word

if TYPE_CHECKING:  # it loads torch
    from toxicity.predict.scorer import Scorer


def explain(
    scorer: Scorer, text: str, label: str | None = None, method: Literal["occlusion", "gradients"] = "occlusion"
) -> list[Word]:
    """The words of a text in their order, each with its weight: above 0 where it pushes the score up.

    Args:
        scorer: a trained model.
        text: any; where it is blank there are no words.
        label: the main one by default, or one of `scorer.subtypes`.
        method: `occlusion` scores the text without each word, with any runtime (see `occlusion.occlusion`); the weights
            are log odds of the probability. `gradients` are integrated gradients of the logit, in torch in fp32, and
            need captum (see `gradients.integrated_gradients`).

    Raises:
        RequestError: for a label or a method that there is not, or gradients that cannot be computed.
    """
    main, *_ = scorer.calibrations
    label = main if label is None else label
    if label not in (main, *scorer.subtypes):
        known = ", ".join(map(quoted, (main, *scorer.subtypes)))
        raise RequestError(f"the model has no label {quoted(label)}: choose one of {known}.")
    # Here, as one loads torch, and the other's name is also that of its module.
    if method == "gradients":
        from toxicity.predict.explain.gradients import integrated_gradients

        return integrated_gradients(scorer, text, label)
    if method != "occlusion":
        raise RequestError(f"there is no method {quoted(method)}: choose occlusion or gradients.")

    from toxicity.predict.explain.occlusion import occlusion

    def score(texts: Sequence[str]) -> np.ndarray:
        return scorer(texts) if label == main else scorer.by_label(texts)[label]

    return occlusion(text, score)
