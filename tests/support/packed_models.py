"""Small classifiers of the kinds that take packed batches, and comments for them."""

import copy

import numpy as np
import torch
from families import config_of, model_of
from transformers import BertForSequenceClassification

from toxicity.models.packing import Layout
from toxicity.models.padding_free import PACKED_TYPES, layout_for, make_padding_free

CPU = torch.device("cpu")
# Of the tests' packed batches: longest first, some equal, the last of a single token.
LENGTHS = (40, 38, 38, 20, 19, 7, 1)
# Each grouping of attention, and what lengths are rounded up to.
GROUPINGS = [("equal", 1), ("similar", 1), ("similar", 8), ("none", 1)]


def packed_bert(config):
    """A BERT classifier with a copy of the config that takes packed batches."""
    model = BertForSequenceClassification(copy.deepcopy(config))
    make_padding_free(model)
    return model


def pair_of(kind, dropout=0.0):
    """A classifier of `transformers` with two labels, and the same that takes packed batches."""
    options = {name: dropout for name in vars(config_of(kind)) if "dropout" in name}
    # Weights are drawn wide enough that comments differ.
    theirs = model_of(kind, None, max_position_embeddings=48, pad_token_id=1, initializer_range=0.2, **options)
    ours = copy.deepcopy(theirs)
    make_padding_free(ours)
    return theirs, ours


def packed_layout(model, grouping, multiple=1, dtype=torch.float32):
    """The layout of packed batches for a model of `pair_of` or `packed_bert`, with another grouping."""
    first_position = layout_for(model, CPU, 1).first_position
    return Layout(True, 1, multiple, grouping, first_position, dtype)


def make_tokens(lengths=LENGTHS):
    """Token ids of comments with these lengths."""
    rng = np.random.default_rng(0)
    return [rng.integers(5, 60, length) for length in lengths]


def sample_lengths(rows, seed):
    """Lengths like those of the sample's comments, cut at 220, longest first."""
    lengths = np.random.default_rng(seed).lognormal(np.log(42), 0.95, rows).astype(int) + 3
    return np.sort(np.minimum(lengths, 220))[::-1]


def run(model, batch, dtype=None):
    """Logits of a batch, and the gradient of a weighted sum of them; `dtype` is that of autocast."""
    model.zero_grad()
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        logits = model(**batch).logits
    weights = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).view(logits.shape)
    (logits * weights).sum().backward()
    # Weights without a gradient are those of a pooler that the head does not use.
    gradient = torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])
    return logits.detach(), gradient


ALL_KINDS = sorted(PACKED_TYPES)
