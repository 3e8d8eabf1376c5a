import pytest
import torch
from families import model_of
from launches import count_launches, watch_waits
from packed_models import GROUPINGS, make_tokens, packed_layout, pair_of, run, sample_lengths
from transformers.masking_utils import (
    bidirectional_mask_function,
    causal_mask_function,
    eager_mask,
    sdpa_mask,
    sliding_window_bidirectional_mask_function,
)
from varlen_kernels import kernels_on_cpu

from toxicity.models import varlen_attention
from toxicity.models.attention import without_waiting
from toxicity.models.packing import Layout

# Kinds that are padded, and one that is packed: on a card of its own kind, and where it gets padded batches.
PADDED = {
    "bert": {},
    "modernbert": {"local_attention": 16},
    "modernbert, mean": {"local_attention": 16, "classifier_pooling": "mean"},
    "deberta-v2": {"position_biased_input": False},
    "rembert": {},
}


def padded_model(kind):
    return model_of(kind.split(",")[0], None, **PADDED[kind]).eval()


@pytest.fixture(autouse=True)
def nothing_chosen_yet(monkeypatch):
    monkeypatch.setattr(varlen_attention, "_kernels", {})


@pytest.mark.parametrize("kind", PADDED)
def test_a_padded_batch_is_computed_without_waiting_for_the_device(kind):
    # On the meta device there are no values, so whoever waits for one raises an error.
    model = padded_model(kind).to("meta").train()
    batch = {name: value.to("meta") for name, value in Layout(False)(make_tokens()).items()}
    assert "attention_mask" in batch
    model(**batch).logits.sum().backward()


@pytest.mark.parametrize("kind", PADDED)
def test_a_mask_that_was_made_without_waiting_changes_no_result(kind, monkeypatch):
    model = padded_model(kind)
    for lengths in ((40, 38, 20, 1), (40, 40)):
        batch = Layout(False)(make_tokens(lengths))
        batch.setdefault("attention_mask", torch.ones_like(batch["input_ids"]))
        with torch.no_grad():
            expected = model(**batch).logits
            with monkeypatch.context() as patch:
                # As on an accelerator.
                patch.setattr("toxicity.models.attention.NEVER_BUSY", ())
                got = model(**batch).logits
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("make_mask", [sdpa_mask, eager_mask])
@pytest.mark.parametrize(
    "function", [bidirectional_mask_function, causal_mask_function, sliding_window_bidirectional_mask_function(4)]
)
def test_a_mask_on_a_cpu_is_that_of_transformers(make_mask, function):
    for padding in (None, torch.arange(6) < torch.tensor([[6], [3]]), torch.ones(2, 6, dtype=torch.bool)):
        options = {
            "mask_function": function,
            "attention_mask": padding,
            "allow_is_causal_skip": function is causal_mask_function,
            "allow_is_bidirectional_skip": function is bidirectional_mask_function,
        }
        expected, got = make_mask(2, 6, 6, **options), without_waiting(make_mask)(2, 6, 6, **options)
        assert (got is None) == (expected is None)
        assert got is None or torch.equal(got, expected)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize(("grouping", "multiple"), GROUPINGS)
@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_a_packed_batch_goes_both_ways_without_waiting_for_the_device(kind, grouping, multiple, dtype):
    _, model = pair_of(kind)
    batch = packed_layout(model, grouping, multiple, dtype or torch.float32)(make_tokens())
    with kernels_on_cpu():
        run(model, batch, dtype)  # kernels test themselves at their first use
        with watch_waits() as waits:
            run(model, batch, dtype)
    # The stand-ins compute one comment after another.
    assert not [wait for wait in waits if "varlen_kernels.py" not in wait]


def test_groups_of_similar_length_cost_no_copies_in_a_layer_but_one(monkeypatch):
    """On an accelerator: a group's states are views, its mask is ready, and results are concatenated once."""
    masks = []

    def kernel(query, key, value, attn_mask, dropout_p, scale):
        """What the memory-efficient kernel takes as it is, and gives back, with the heads of a token together."""
        assert attn_mask is None or attn_mask.dtype == query.dtype
        assert attn_mask is None or all(step % 8 == 0 for step in attn_mask.stride()[:-1])
        masks.append(attn_mask)
        return torch.empty_like(query.transpose(1, 2), memory_format=torch.contiguous_format).transpose(1, 2)

    monkeypatch.setattr("toxicity.models.attention.scaled_dot_product_attention", kernel)
    _, model = pair_of("bert")
    batch = packed_layout(model, "similar", 8)(make_tokens(sample_lengths(32, 0).clip(max=48)))
    groups = len(batch["packing"].groups)
    assert groups > 1
    encoder = model.bert.to("meta").eval()
    batch = {name: value.to("meta") for name, value in batch.items()}
    with torch.no_grad(), count_launches() as launches:
        encoder(**batch)
    layers = model.config.num_hidden_layers
    assert len(masks) == layers * groups
    assert launches["aten.cat"] == layers
    copies = ("copy_", "_to_copy", "clone", "zeros", "where", "constant_pad_nd", "bitwise_not", "masked_fill")
    assert not [name for name in copies if launches[f"aten.{name}"]]
