"""Models of the kinds that the Trainer tells apart."""

import pytest
import torch
from packed_models import packed_bert
from training_steps import LABELS

from toxicity.models.classifier import with_labels


@pytest.fixture(params=[True, False], ids=["packed", "padded"])
def model_of_either_kind(request, tiny_config, tiny_model):
    if not request.param:
        return tiny_model
    packed = packed_bert(tiny_config)
    packed.load_state_dict(tiny_model.state_dict())
    return packed


@pytest.fixture
def model_of_three(tiny_config):
    """The tiny model with logits of two auxiliary targets."""
    torch.manual_seed(0)
    config = with_labels(tiny_config, ("toxic", "insult", "male"))
    return packed_bert(config)


@pytest.fixture
def model_of_labels(tiny_config):
    """The tiny model with `training_steps.LABELS`, and the logit of an auxiliary target."""
    torch.manual_seed(0)
    return packed_bert(with_labels(tiny_config, (*LABELS, "male")))
