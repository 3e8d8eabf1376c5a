"""Which words of the identity swap probe a model was trained on, too, in counterfactual copies of comments."""

from __future__ import annotations

from collections.abc import Iterable

from toxicity.evaluation.identity_probe import read_templates_and_terms


def probed_among(words: Iterable[str]) -> list[str]:
    """Those words, in upper or lower case, that a term of the probe consists of, or is a part of."""
    _, terms = read_templates_and_terms()
    forms = [form.casefold() for term in terms for form in (term.one, term.people)]
    return [word for word in words if any(f" {word.casefold()} " in f" {form} " for form in forms)]


def explain_trained_terms(words: Iterable[str]) -> str:
    """Which terms of the probe a model was trained on, too, in counterfactual copies; `words` are those of the copies.

    Words that the probe does not have are left out, so that nothing in them can break the Markdown.
    """
    known = probed_among(words)
    trained = (
        f"of its words for people these were put into copies: {', '.join(known)}"
        if known
        else "none of its words for people was put into a copy"
    )
    return (
        "The model was trained with copies of comments in which another group has the place of the one named. The "
        f"sentences of the probe were not among them; {trained}. With other words for people a shift may be larger."
    )
