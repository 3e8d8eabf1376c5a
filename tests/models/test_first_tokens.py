import threading

import pytest
import torch
from packed_models import ALL_KINDS, make_tokens, packed_layout, pair_of

from toxicity.models.first_tokens import AFTER_ATTENTION, compute_first_tokens_only
from toxicity.models.half_weights import encoder_layers
from toxicity.models.packing import Layout

PADDED = Layout(packed=False, pad_token_id=1)
KINDS = sorted(AFTER_ATTENTION)


def tokens_after_attention(model, batch):
    """For each layer, how many tokens its normalisation after attention is computed for, comments times tokens each."""
    counts = []
    for layer in encoder_layers(model):
        module = layer.get_submodule(AFTER_ATTENTION[model.config.model_type])
        module.register_forward_hook(lambda module, inputs, output: counts.append(output.shape[:2].numel()))
    with torch.no_grad():
        model.eval()(**batch)
    return counts


def test_all_kinds_that_are_packed_are_known_but_the_one_with_shared_layers():
    assert sorted({*AFTER_ATTENTION, "albert"}) == ALL_KINDS


@pytest.mark.parametrize("grouping", ["equal", "similar"])
@pytest.mark.parametrize("kind", KINDS)
def test_of_a_packed_batch_only_first_tokens_are_computed_after_the_last_attention(kind, grouping):
    _, ours = pair_of(kind)
    batch = packed_layout(ours, grouping)(make_tokens())
    assert tokens_after_attention(ours, batch) == [batch["input_ids"].numel(), len(make_tokens())]


@pytest.mark.parametrize("kind", KINDS)
def test_a_padded_batch_of_a_packed_model_is_computed_whole(kind):
    # Whoever calls it may ask for the last hidden states.
    _, ours = pair_of(kind)
    batch = PADDED(make_tokens())
    assert tokens_after_attention(ours, batch) == [batch["input_ids"].numel()] * 2


@pytest.mark.parametrize("config", [{"is_decoder": True}, {"num_hidden_layers": 0}])
def test_a_model_without_such_a_layer_stays_as_it_is(config):
    theirs, _ = pair_of("bert")
    for name, value in config.items():
        setattr(theirs.config, name, value)
    if not theirs.config.num_hidden_layers:
        theirs.bert.encoder.layer = torch.nn.ModuleList()
    compute_first_tokens_only(theirs)
    assert not any(module._forward_pre_hooks for module in theirs.modules())


def test_threads_do_not_mix_up_their_batches():
    _, ours = pair_of("bert")
    layout = packed_layout(ours.eval(), "equal")
    batches = [layout(make_tokens(lengths)) for lengths in ((9, 5), (4, 4, 3, 2))]
    with torch.no_grad():
        expected = [ours(**batch).logits for batch in batches]
    meet, got = threading.Barrier(2), {}
    # Both threads are in the last layer before one of them goes on.
    encoder_layers(ours)[-1].attention.self.register_forward_pre_hook(lambda *inputs: (meet.wait(30), None)[1])

    def score(index):
        with torch.no_grad():
            got[index] = ours(**batches[index]).logits

    threads = [threading.Thread(target=score, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for index in (0, 1):
        torch.testing.assert_close(got[index], expected[index])
