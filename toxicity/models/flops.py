"""Number of floating-point operations (FLOPs) of a transformer encoder for a given number of tokens.

Only matrix products are counted, and a multiplication and an addition count as two, as in the peak FLOP/s of data
sheets. The formula is that of Chowdhery et al. 2022, "PaLM", appendix B: the forward pass takes 2 FLOPs per weight and
token, and 4 × layers × width per pair of tokens that attend to each other; the backward pass takes twice as many. As
there, they are the model's, whatever an implementation leaves out because no logit needs it (`first_tokens`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Encoder:
    """The sizes that determine the FLOPs."""

    weights: int  # in the matrices that every token is multiplied with
    layers: int
    width: int  # hidden size

    def forward_flops(self, rows: float, tokens: float) -> float:
        """FLOPs of a forward pass over `rows` comments that have `tokens` tokens in total.

        Attention is counted as if all comments were of mean length, which is about 1 % too low for BERT-base and
        comments of 70 tokens on average.
        """
        pairs = tokens * tokens / rows if rows else 0.0
        return 2.0 * self.weights * tokens + 4.0 * self.layers * self.width * pairs

    def training_flops(self, rows: float, tokens: float) -> float:
        """FLOPs of forward and backward pass over `rows` comments that have `tokens` tokens in total."""
        return 3.0 * self.forward_flops(rows, tokens)


# bert-base-uncased: 12 layers with four 768 × 768 matrices and two of 768 × 3072.
BERT_BASE = Encoder(weights=12 * (4 * 768 * 768 + 2 * 768 * 3072), layers=12, width=768)


def encoder_of(model: Any) -> Encoder:
    """The sizes of a `transformers` model's encoder, without embeddings, pooler and head.

    The matrices that every token is multiplied with are the two-dimensional parameters within numbered layers; pooler
    and head are applied to one token per comment.
    """
    weights = sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if parameter.ndim == 2 and any(part.isdigit() for part in name.split("."))
    )
    return Encoder(weights, model.config.num_hidden_layers, model.config.hidden_size)
