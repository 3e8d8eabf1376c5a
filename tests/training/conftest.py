"""Models of the kinds that the Trainer tells apart."""

import copy

import pytest
import torch

from toxicity.models.classifier import with_labels
from toxicity.models.padding_free import PACKED_ATTENTION, BertForSequenceClassification


@pytest.fixture(params=[True, False], ids=["packed", "padded"])
def model_of_either_kind(request, tiny_config, tiny_model):
    if not request.param:
        return tiny_model
    packed = BertForSequenceClassification._from_config(
        copy.deepcopy(tiny_config), attn_implementation=PACKED_ATTENTION
    )
    packed.load_state_dict(tiny_model.state_dict())
    return packed


@pytest.fixture
def model_of_three(tiny_config):
    """The tiny model with logits of two auxiliary targets."""
    torch.manual_seed(0)
    config = with_labels(tiny_config, ("toxic", "insult", "male"))
    return BertForSequenceClassification._from_config(config, attn_implementation=PACKED_ATTENTION)
