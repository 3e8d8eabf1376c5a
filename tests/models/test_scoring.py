import numpy as np
import pytest
import torch
from families import FAMILIES, model_of
from packed_models import packed_bert
from torch import nn

from toxicity.core.errors import RunFailure
from toxicity.data.token_dataset import TokenRows
from toxicity.models.output_layer import compute_logits_in_fp32, output_layer
from toxicity.models.packing import Layout
from toxicity.models.scoring import BatchScorer, in_half, scoring_tokens

CPU = torch.device("cpu")
PACKED, PADDED = Layout(packed=True), Layout(packed=False)


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    return TokenRows.from_lists([rng.integers(5, 60, length) for length in rng.integers(1, 50, 16)])


@pytest.fixture
def model(tiny_config):
    torch.manual_seed(0)
    return packed_bert(tiny_config)


@pytest.fixture
def one_by_one(model, rows):
    model.eval()
    with torch.no_grad():
        return torch.cat([model(torch.tensor(ids)[None]).logits for ids in rows.tokens_of(range(len(rows)))])


@pytest.mark.parametrize("layout", [PACKED, PADDED], ids=["packed", "padded"])
@pytest.mark.parametrize("max_tokens", [1, 100, 10_000])
def test_scores_come_back_in_order_whatever_the_batches(model, rows, one_by_one, layout, max_tokens):
    model.train()
    logits = BatchScorer(model, layout, CPU, max_tokens).score(rows)
    assert logits.dtype == torch.float32
    assert one_by_one.std() > 0.01
    torch.testing.assert_close(logits, one_by_one, rtol=0, atol=1e-5)
    assert model.training
    assert not logits.requires_grad


@pytest.mark.parametrize("world_size", [2, 3, 20])
def test_processes_share_the_rows_and_call_equally_often(model, rows, one_by_one, world_size):
    parts, calls = [], []
    for rank in range(world_size):
        told = []
        parts.append(BatchScorer(model, PACKED, CPU, 100).score(rows, rank, world_size, told.append))
        calls.append(len(told))
        assert set(told) == {len(told)}
    assert len(set(calls)) == 1
    torch.testing.assert_close(sum(parts), one_by_one, rtol=0, atol=1e-5)
    assert (torch.stack([part != 0 for part in parts]).sum(0) == 1).all()


class SmallMemory(nn.Module):
    """A model that runs out of memory for more than `most` comments."""

    def __init__(self, model, most, error=None):
        super().__init__()
        self.model, self.most, self.error = model, most, error or torch.OutOfMemoryError("too much")

    def forward(self, input_ids, attention_mask=None):
        if len(input_ids) > self.most:
            raise self.error
        return self.model(input_ids=input_ids, attention_mask=attention_mask)


@pytest.mark.parametrize("error", [None, RuntimeError("MPS backend out of memory")])
def test_a_batch_that_does_not_fit_is_scored_in_halves(model, rows, one_by_one, caplog, error):
    logits = BatchScorer(SmallMemory(model, 3, error), PADDED, CPU, 10_000).score(rows)
    torch.testing.assert_close(logits, one_by_one, rtol=0, atol=1e-5)
    assert "16 comments do not fit" in caplog.text


def test_a_comment_that_does_not_fit_alone_is_an_error(model, rows):
    with pytest.raises(torch.OutOfMemoryError):
        BatchScorer(SmallMemory(model, 0), PADDED, CPU, 10_000).score(rows)


def test_a_sharded_model_is_called_no_more_often_than_by_the_other_processes(model, rows):
    with pytest.raises(RunFailure, match="choose a smaller --per_device_eval_batch_size"):
        BatchScorer(SmallMemory(model, 3), PADDED, CPU, 10_000, halve_when_full=False).score(rows)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_weights_score_alike_and_leave_the_model_alone(model, rows, one_by_one, dtype):
    # Accelerate wraps `forward` like this.
    model.forward = model._original_forward = lambda *args, **kwargs: pytest.fail("the original was called")
    twin = in_half(model, dtype)
    assert {weight.dtype for weight in twin.bert.parameters()} == {dtype}
    assert twin.classifier.weight.dtype == twin.classifier.bias.dtype == torch.float32
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    logits = BatchScorer(twin, PACKED, CPU, 100).score(rows)
    assert logits.dtype == torch.float32
    assert np.corrcoef(logits.ravel(), one_by_one.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_layer_of_any_family_computes_in_fp32(family, rows):
    model = model_of(family).eval()
    compute_logits_in_fp32(model)
    twin = in_half(model, torch.bfloat16)
    last = output_layer(twin)[1]
    assert {name for name, weight in twin.named_parameters() if weight.dtype == torch.float32} == {
        f"{output_layer(twin)[0]}.{name}" for name, _ in last.named_parameters()
    }
    # The frequencies of rotary positions, for one.
    assert not any(buffer.dtype == torch.bfloat16 for buffer in twin.buffers())
    whole, half = (BatchScorer(each, PADDED, CPU, 100).score(rows) for each in (model, twin))
    assert half.dtype == torch.float32
    assert not torch.equal(half, half.bfloat16().float())
    torch.testing.assert_close(half, whole, rtol=0, atol=0.05)


def test_a_gpu_scores_many_tokens_at_a_time():
    assert scoring_tokens(CPU) == 8_192
    assert {scoring_tokens(torch.device(kind)) for kind in ("cuda", "mps")} == {65_536}


@pytest.mark.parametrize(("device", "asked"), [("cuda", ["pinned", True]), ("mps", [False])])
def test_only_copies_to_cuda_are_not_waited_for(model, monkeypatch, device, asked):
    seen = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: seen.append("pinned") or tensor)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, device, non_blocking: seen.append(non_blocking))
    BatchScorer(model, PADDED, torch.device(device), 100)._moved({"input_ids": torch.ones(2)})
    assert seen == asked
