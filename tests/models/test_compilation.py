import copy

import numpy as np
import pytest
import torch
from families import ALL_FAMILIES, model_of
from packed_models import packed_bert
from varlen_kernels import kernels_on_cpu

from toxicity.models.classifier import logits_of
from toxicity.models.compilation import compile_layers
from toxicity.models.packing import Layout

pytestmark = pytest.mark.usefixtures("graphs")


def batches(layout, count):
    """Batches of 3 and more comments of other lengths each."""
    rng = np.random.default_rng(0)
    for rows in range(3, 3 + count):
        lengths = sorted(rng.integers(2, 60, rows), reverse=True)
        yield layout([rng.integers(1, 40, length).astype(np.uint16) for length in lengths])


def logits_and_gradients(model, inputs):
    logits = logits_of(model(**inputs))
    logits.sum().backward()
    gradients = torch.cat([weight.grad.flatten() for weight in model.parameters()])
    model.zero_grad()
    return logits.detach(), gradients


def same_results_from_few_graphs(model, layout, graphs):
    model.eval()  # without dropout
    plain = copy.deepcopy(model)
    compile_layers(model, backend="eager")
    assert model.state_dict().keys() == plain.state_dict().keys()
    made = []
    for inputs in batches(layout, 4):
        for results in zip(logits_and_gradients(model, inputs), logits_and_gradients(plain, inputs), strict=True):
            torch.testing.assert_close(*results, rtol=0, atol=1e-5)
        made.append(graphs())
    return made


@pytest.mark.parametrize("grouping", ["equal", "similar", "none"])
def test_attention_is_not_compiled_for_each_batch(tiny_config, graphs, grouping):
    with kernels_on_cpu():
        layout = Layout(packed=True, grouping=grouping)
        made = same_results_from_few_graphs(packed_bert(tiny_config), layout, graphs)
    assert made == made[:1] * 4


def test_packed_batches_of_any_shape_share_the_graphs_of_one_layer(tiny_config, graphs):
    model = packed_bert(tiny_config)
    made = same_results_from_few_graphs(model, Layout(packed=True), graphs)
    with torch.no_grad():
        scored = [graphs() for inputs in batches(Layout(packed=True), 3) if model(**inputs) is not None]
    torch._dynamo.reset()
    alone = packed_bert(tiny_config)
    alone.bert.encoder.layer = alone.bert.encoder.layer[:1]
    before = graphs()
    (of_one_layer, *_) = same_results_from_few_graphs(alone, Layout(packed=True), graphs)
    assert made == [of_one_layer - before] * 4, "none for the second layer, and none for later batches"
    assert len(set(scored)) == 1


@pytest.mark.parametrize("name", ALL_FAMILIES)
def test_padded_batches_of_all_families_compile_once(graphs, name):
    made = same_results_from_few_graphs(model_of(name), Layout(packed=False), graphs)
    assert made[0] > 0
    assert made[-1] == made[1]


def test_a_copy_is_not_compiled(tiny_config, graphs):
    model = packed_bert(tiny_config).eval()
    compile_layers(model, backend="eager")
    with torch.no_grad():
        copy.deepcopy(model)(**next(batches(Layout(packed=True), 1)))
    assert graphs() == 0


def test_a_model_without_layers_is_compiled_as_a_whole(graphs):
    class Doubled(torch.nn.Linear):
        def forward(self, states):
            return 2 * super().forward(states)

    model = Doubled(2, 2)
    assert compile_layers(model, backend="eager") == 1
    model(torch.ones(3, 2))
    assert graphs() == 1
