"""How many kernels a GPU would launch for a part of a training step: 12 layers of BERT in half precision."""

import copy

import pytest
import torch
from launches import count_launches
from packed_models import make_tokens, packed_bert, packed_layout
from varlen_kernels import kernels_on_cpu

from toxicity.models import varlen_attention
from toxicity.models.half_weights import cast_once
from toxicity.training.losses import training_loss

# What is left over what a layer needs: casts of its inputs, and sums of the gradients of query, key and value.
# torch 2.7 makes two more.
MOST_LAUNCHES = 702 if torch.__version__.startswith("2.7.") else 700
# In three groups of similar length, with the copies that only a CPU makes.
MOST_IN_GROUPS = 900


@pytest.fixture
def launches_of_a_part(tiny_config, monkeypatch):
    """Count the launches of forward pass, loss and backward pass, with a grouping of attention."""
    monkeypatch.setattr(varlen_attention, "_kernels", {})
    config = copy.deepcopy(tiny_config)
    config.num_hidden_layers, config.hidden_dropout_prob = 12, 0.1

    def count(grouping, multiple=1, once=True):
        model = packed_bert(config).train()
        if once:
            cast_once(model, torch.bfloat16)
        batch = packed_layout(model, grouping, multiple, torch.bfloat16)(make_tokens())
        labels = torch.linspace(0, 1, len(make_tokens()))[:, None]
        with kernels_on_cpu():
            varlen_attention.kernel_for(torch.device("cpu"), torch.bfloat16, 16)  # its self-test is no part of a step
            with count_launches() as launches:
                with torch.autocast("cpu", torch.bfloat16):
                    logits = model(**batch).logits
                training_loss(logits, labels, torch.tensor(7)).backward()
        return launches

    return count


def test_a_part_is_few_launches(launches_of_a_part):
    launches = launches_of_a_part("none")
    assert launches.total() <= MOST_LAUNCHES, launches
    assert launches["aten._foreach_copy_"] == 24
    # Autocast by itself converts 16 weights and biases of a layer, and as many gradients.
    assert launches_of_a_part("none", once=False).total() == launches.total() + 12 * 2 * 11


def test_groups_of_similar_length_are_a_few_more(launches_of_a_part):
    launches = launches_of_a_part("similar", 8)
    assert launches["aten._scaled_dot_product_flash_attention_for_cpu"] == 3 * 12
    assert launches.total() <= MOST_IN_GROUPS, launches


def test_launches_are_counted_as_a_gpu_makes_them():
    states, others, same = torch.ones(4, 4), torch.ones(4, 4), [torch.ones(2, 3), torch.ones(3)]
    cases = {
        "one": (lambda: states.mul(2), 1),
        "views": (lambda: states.t()[0].unsqueeze(0).expand(2, -1), 0),
        "memory": (lambda: torch.empty_like(states), 0),
        "a copy that is none": (lambda: states.float(), 0),
        "a copy": (lambda: states.half(), 1),
        "dropout": (lambda: torch.nn.functional.dropout(states, 0.5), 1),
        "together": (lambda: torch._foreach_copy_(same, [part.clone() for part in same]), 1 + 2),
        "other strides": (lambda: torch._foreach_copy_([states, states], [others.t(), others.t()]), 2),
    }
    for name, (run, expected) in cases.items():
        with count_launches() as launches:
            run()
        assert launches.total() == expected, name
