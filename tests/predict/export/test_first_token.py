"""What only the first token needs is computed for it alone, with the same results."""

import pytest
import torch
from exporting import needs_exporters
from families import FAMILIES, SIZES, model_of

openvino = pytest.importorskip("openvino")
needs_exporters()

from transformers import exporters  # noqa: E402

from toxicity.predict.export.conversion import silenced  # noqa: E402
from toxicity.predict.export.first_token import keep_first_token  # noqa: E402

# Those whose classifier reads the first token; ModernBERT's reads it unless its config says otherwise.
READ_FIRST = FAMILIES


def converted(model):
    ids = torch.arange(2, 14).reshape(2, 6)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with silenced():
        config = exporters.OpenVINOConfig(dynamic=True)
        return exporters.OpenVINOExporter().export(model.eval(), inputs, config=config).program


def logits(model, ids, mask):
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return torch.tensor(next(iter(compiled({"input_ids": ids.numpy(), "attention_mask": mask.numpy()}).values())))


def places_of_linear_layers(model):
    """Of the products with constant weights: how many have inputs of one place only."""
    layers = [node for node in model.get_ordered_ops() if node.get_type_name() == "MatMul"]
    shapes = [node.get_input_partial_shape(0) for node in layers]
    return sum(len(shape) == 3 and shape[1] == 1 for shape in shapes)


@pytest.mark.parametrize("family", READ_FIRST)
def test_the_result_is_the_same(family):
    model = model_of(family, "sdpa" if family != "deberta-v2" else "eager").eval()
    whole = converted(model)
    assert places_of_linear_layers(whole) == 0
    part = whole.clone()
    keep_first_token(part)
    # The output of attention and the two of the feed-forward network; queries too where they are apart.
    assert places_of_linear_layers(part) >= 3
    for rows, places in ((1, 1), (3, 11)):
        ids = torch.arange(rows * places).reshape(rows, places) % (SIZES["vocab_size"] - 2) + 2
        mask = torch.ones_like(ids)
        mask[1:, places // 2 :] = 0
        torch.testing.assert_close(logits(part, ids, mask), logits(whole, ids, mask), atol=1e-5, rtol=1e-4)


def test_a_model_that_reads_all_tokens_stays_as_it_is():
    model = converted(model_of("modernbert", "sdpa", classifier_pooling="mean"))
    before = len(model.get_ordered_ops())
    keep_first_token(model)
    assert len(model.get_ordered_ops()) == before
