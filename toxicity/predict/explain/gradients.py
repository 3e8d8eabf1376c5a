"""How much the words of a comment push its score: integrated gradients of the logit over the embeddings."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tokenizers
import torch

from toxicity.core.errors import RequestError
from toxicity.data.encoding import HEAD_TOKENS
from toxicity.models.classifier import logits_of
from toxicity.models.labels import Labels
from toxicity.predict.explain.words import Span, Word, words_in
from toxicity.predict.scorer import Scorer

# The integral is computed with more steps, up to the most, until the weights of all tokens add up to the difference of
# the logits within this share of it, or within a small number.
FEWEST_STEPS, MOST_STEPS = 32, 256
TOLERANCE, SMALL = 0.02, 0.02
# Tokens of a batch of steps: gradients need the memory of all layers.
TOKENS_PER_BATCH = 4_096

logger = logging.getLogger(__name__)


class Token(NamedTuple):
    """A token of a text."""

    id: int
    span: Span
    special: bool  # whether it stands for no part of the text, as `[CLS]` does


def integrated_gradients(scorer: Scorer, text: str, label: str | None = None) -> list[Word]:
    """The words of a text in their order, each with what it adds to the logit of a label.

    They are the gradients of the logit by the embeddings, integrated from those of padding to those of the text, in
    which special tokens stay as they are (Sundararajan, Taly and Yan 2017, "Axiomatic Attribution for Deep Networks").
    The weights of all tokens add up to the logit of the text minus that of the padding. Here, logits are those before
    calibration. A word has the weight of its tokens; tokens that are part of no word, such as punctuation, are left
    out, and words that the model does not see as it truncates the text have weight 0.

    Args:
        scorer: computes in torch in fp32, as `Scorer(…, runtime="torch", mixed_precision="no")` does.
        text: any; where it is blank there are no words.
        label: the main one by default, or one of `scorer.subtypes`.

    Raises:
        RequestError: if captum is not installed, the scorer computes otherwise, or has no such label.
    """
    require_gradients(scorer)
    words = words_in(text)
    if not words:
        return []
    weights = _of_words(words, list(_of_tokens(scorer, text, label)))
    return [Word(text[b:e], b, e, float(weight)) for (b, e), weight in zip(words, weights, strict=True)]


def require_gradients(scorer: Scorer) -> None:
    """Raise a `RequestError` if integrated gradients cannot be computed here, or by this scorer."""
    if scorer.runtime != "torch" or scorer.mixed_precision != "no":
        raise RequestError(
            "integrated gradients are computed in torch in fp32: load the model (no export of it) with runtime torch "
            "and mixed_precision no, or explain by occlusion, which needs neither."
        )
    try:
        import captum  # noqa: F401
    except ImportError as error:
        raise RequestError(
            "integrated gradients need captum: pip install -r requirements-explain.txt, or explain by occlusion."
        ) from error


def _of_tokens(scorer: Scorer, text: str, label: str | None) -> Iterator[tuple[Span, float]]:
    """Where the tokens are that stand for a part of the text, and the weight of each."""
    from captum.attr import IntegratedGradients

    tokens = _tokens(scorer._backend, text, scorer.head_tail_truncation)
    model, device = scorer._batches.model, scorer.device
    ids = torch.tensor([[token.id for token in tokens]], device=device)
    special = torch.tensor([[token.special for token in tokens]], device=device)
    padding = torch.where(special, ids, scorer._batches.layout.pad_token_id)

    def logit(embeddings: torch.Tensor) -> torch.Tensor:
        mask = torch.ones(embeddings.shape[:2], dtype=torch.int64, device=device)
        return _logit(logits_of(model(inputs_embeds=embeddings, attention_mask=mask)), scorer.labels, label)

    with torch.no_grad():
        embed = model.get_input_embeddings()
        states, baseline = embed(ids), embed(padding)
        try:
            difference = float(logit(states) - logit(baseline))
        except NotImplementedError as error:
            raise RequestError(
                f"models of the kind {model.config.model_type} take no embeddings: explain by occlusion."
            ) from error
    rows = max(1, TOKENS_PER_BATCH // len(tokens))
    steps, method = FEWEST_STEPS, IntegratedGradients(logit)
    while True:
        found = method.attribute(states, baseline, n_steps=steps, internal_batch_size=rows)
        weights = found.sum(-1)[0].numpy(force=True).astype(np.float64)
        missing = abs(weights.sum() - difference)
        if missing <= max(TOLERANCE * abs(difference), SMALL):
            break
        if steps == MOST_STEPS:
            logger.warning(f"The weights of the words are rough: {missing:.2g} of {difference:.2g} is in none of them.")
            break
        steps *= 2
    for token, weight in zip(tokens, weights.tolist(), strict=True):
        if not token.special:
            yield token.span, weight


def _logit(logits: torch.Tensor, labels: Labels, label: str | None) -> torch.Tensor:
    """The logit of a label, `(rows,)`, as `Labels.pick` computes it."""
    if label in labels.subtypes:
        return logits[:, labels.subtypes[label]]
    toxic = logits[:, list(labels.toxic)].logsumexp(1)
    return toxic - logits[:, list(labels.civil)].logsumexp(1) if labels.civil else toxic


def _tokens(backend: tokenizers.Tokenizer, text: str, head_tail: bool) -> list[Token]:
    """The tokens that the model sees of a text, as `data.encoding.token_ids` has them."""
    encoding = backend.encode(text)
    limit = len(encoding.ids)
    if head_tail and encoding.overflowing:
        backend = tokenizers.Tokenizer.from_str(backend.to_str())
        backend.no_truncation()
        encoding = backend.encode(text)
    tokens = [
        Token(number, span, bool(special))
        for number, span, special in zip(encoding.ids, encoding.offsets, encoding.special_tokens_mask, strict=True)
    ]
    head = HEAD_TOKENS if limit > HEAD_TOKENS else limit // 2
    return tokens if len(tokens) == limit else tokens[:head] + tokens[head - limit :]


def _of_words(words: Sequence[Span], tokens: Sequence[tuple[Span, float]]) -> np.ndarray:
    """The weights of words, float64: a token that is part of several is shared among them by its characters."""
    weights, first = np.zeros(len(words)), 0
    for (begin, end), weight in tokens:
        while first < len(words) and words[first][1] <= begin:
            first += 1
        parts = []
        for place in range(first, len(words)):
            if words[place][0] >= end:
                break
            parts.append((place, min(end, words[place][1]) - max(begin, words[place][0])))
        for place, characters in parts:
            weights[place] += weight * characters / sum(part for _, part in parts)
    return weights
