import logging

import pytest
import torch
from packed_models import CPU
from varlen_kernels import kernels_on_cpu

from toxicity.models import varlen_attention
from toxicity.models.varlen_attention import attend, fault_of, flash, kernel_for, memory_efficient

FP32, FP16, BF16 = torch.float32, torch.float16, torch.bfloat16
CUDA = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def nothing_chosen_yet(monkeypatch):
    monkeypatch.setattr(varlen_attention, "_kernels", {})


@pytest.fixture
def card(monkeypatch):
    """Call it with what is wrong with each kernel: as if a card were there."""

    def make(**faults):
        monkeypatch.setattr(varlen_attention, "fault_of", lambda kernel, *_: faults.get(kernel.__name__))

    return make


@pytest.mark.parametrize(
    ("dtype", "faults", "chosen", "told"),
    [
        (BF16, {}, flash, "bfloat16 takes comments of variable length, by the kernel flash"),
        (FP16, {}, flash, "float16 takes comments of variable length, by the kernel flash"),
        (FP32, {}, memory_efficient, "float32 takes comments of variable length, by the kernel memory_efficient"),
        (FP16, {"flash": "too old"}, memory_efficient, "by the kernel memory_efficient"),
        (FP32, {"memory_efficient": "off by 2"}, None, "test on cuda:0 (memory_efficient: off by 2)"),
        (BF16, {"flash": "a", "memory_efficient": "b"}, None, "(flash: a; memory_efficient: b)"),
    ],
)
def test_the_fastest_kernel_that_passes_is_chosen_and_told_once(card, caplog, dtype, faults, chosen, told):
    card(**faults)
    with caplog.at_level(logging.INFO):
        assert [kernel_for(CUDA, dtype, 64), kernel_for(CUDA, dtype, 64)] == [chosen, chosen]
    (record,) = caplog.records
    assert told in record.message
    assert record.levelname == "INFO"


@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize(
    ("kernel", "dtype"), [(flash, FP16), (flash, BF16), (memory_efficient, FP32), (memory_efficient, BF16)]
)
def test_kernels_that_compute_attention_pass(kernel, dtype, width):
    state = torch.random.get_rng_state()
    with kernels_on_cpu() as calls:
        assert fault_of(kernel, CPU, dtype, width) is None
        assert len(calls) == 3, "forward and backward, and for scoring"
        with torch.inference_mode():
            assert fault_of(kernel, CPU, dtype, width, True) is None
    assert len(calls) == 8, "with dropout forward and backward again"
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_head_that_a_kernel_does_not_take():
    with kernels_on_cpu():
        assert "AssertionError: flash attention takes heads of multiples of 8" in fault_of(flash, CPU, FP16, 12)


@pytest.mark.parametrize("kernel", [flash, memory_efficient])
def test_a_kernel_that_is_not_there(kernel):
    assert fault_of(kernel, CPU, FP16, 64).startswith("NotImplementedError")
    assert fault_of(kernel, CUDA, FP16, 64) is not None


def test_other_makers_and_cards_before_ampere(monkeypatch):
    assert fault_of(memory_efficient, torch.device("mps"), FP32, 64) == "only tried on cards of NVIDIA"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    assert fault_of(flash, CUDA, FP16, 64) == "needs a card of compute capability 8.0"
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert fault_of(memory_efficient, CUDA, FP16, 64) == "only tried on cards of NVIDIA"


def sees_its_neighbours(query, key, value, boundaries, longest, dropout, scaling):
    everything = torch.tensor([0, len(query)], dtype=torch.int32)
    return memory_efficient(query, key, value, everything, len(query), dropout, scaling)


def without_scale(query, key, value, boundaries, longest, dropout, scaling):
    return memory_efficient(query, key, value, boundaries, longest, dropout, 1.0)


def without_gradient(query, *others):
    return memory_efficient(query.detach(), *others) + 0 * query


def not_a_number(query, *others):
    return memory_efficient(query, *others) * float("nan")


def gradient_is_not_a_number(query, key, value, *others):
    out = memory_efficient(query, key, value, *others)
    if value.requires_grad:
        value.register_hook(lambda gradient: gradient * float("nan"))
    return out


def wrong_in_scoring(query, *others):
    return memory_efficient(query, *others) * (1 if query.requires_grad else 2)


def computes_nothing(query, key, value, *others):
    return 0 * (query + key + value)


def drops_others(first):
    """A kernel whose backward pass drops other weights, but for the first so many comments."""

    class Attention(torch.autograd.Function):
        @staticmethod
        def forward(context, *states_and_options):
            context.save_for_backward(*states_and_options[:3])
            context.options = states_and_options[3:]
            context.state = torch.random.get_rng_state()
            return memory_efficient(*states_and_options)

        @staticmethod
        def backward(context, gradient):
            inputs = [part.detach().requires_grad_() for part in context.saved_tensors]
            same = context.options[0][first]
            with torch.enable_grad(), torch.random.fork_rng([]):
                torch.random.set_rng_state(context.state)
                one = memory_efficient(*inputs, *context.options)
                other = memory_efficient(*inputs, *context.options)
                out = torch.cat([one[:same], other[same:]])
            return *torch.autograd.grad(out, inputs, gradient), *[None] * 4

    return Attention.apply


@pytest.mark.parametrize("dtype", [FP32, BF16])
@pytest.mark.parametrize(
    ("kernel", "fault"),
    [
        (sees_its_neighbours, "off by"),
        (without_scale, "off by"),
        (without_gradient, "off by"),
        (computes_nothing, "off by"),
        (not_a_number, "off by nan"),
        (gradient_is_not_a_number, "off by nan"),
        (wrong_in_scoring, "off by"),
        (drops_others(0), "another dropout"),
        (drops_others(1), "another dropout"),
        (drops_others(2), "another dropout"),
    ],
)
def test_kernels_that_compute_something_else_do_not_pass(kernel, fault, dtype):
    with kernels_on_cpu():
        assert fault_of(kernel, CPU, dtype, 64, True).startswith(fault)
        if "dropout" in fault:
            assert fault_of(kernel, CPU, dtype, 64) is None


def states_of(dtype):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(7, 2, 16, generator=generator).to(dtype).requires_grad_() for _ in range(3)]


BOUNDARIES = torch.tensor([0, 4, 7], dtype=torch.int32)


@pytest.mark.parametrize(("autocast", "operator"), [(None, "_efficient"), (FP16, "_flash"), (BF16, "_flash")])
def test_under_autocast_attention_is_in_half_precision(autocast, operator):
    with kernels_on_cpu() as calls, torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
        out = attend(*states_of(FP32), BOUNDARIES, 4, 0.0, 0.25)
    assert out.dtype == (autocast or FP32)
    assert calls[-1] == f"{operator}_attention_forward"


def test_a_device_without_kernels_is_told():
    with pytest.raises(NotImplementedError, match="no kernel for attention of variable length in torch.float32 on cpu"):
        attend(*states_of(FP32), BOUNDARIES, 4, 0.0, 0.25)


@pytest.mark.parametrize("with_gradient", [True, False])
def test_what_a_backward_pass_needs_is_kept_for_one_alone(monkeypatch, with_gradient):
    asked = []

    def forward(*arguments, scale):
        asked.append(arguments[10])
        return (arguments[0],)

    monkeypatch.setattr(torch.ops.aten, "_efficient_attention_forward", forward)
    with torch.set_grad_enabled(with_gradient):
        memory_efficient(*states_of(FP32), BOUNDARIES, 4, 0.0, 0.25)
    assert asked == [with_gradient]


@pytest.mark.parametrize("dtype", [FP32, BF16])
def test_what_is_compiled_around_it_computes_the_same(dtype):
    def layer(*states):
        return attend(*(part * 2 for part in states), BOUNDARIES, 4, 0.0, 0.25) + 1

    with kernels_on_cpu():
        expected = layer(*states_of(dtype))
        compiled = torch.compile(layer, backend="aot_eager")(*states_of(dtype))
        compiled.sum().backward()
    torch.testing.assert_close(compiled, expected)
