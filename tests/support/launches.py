"""What code would ask of a GPU, found on a CPU: the kernels it launches, and where the host waits for the device.

A dispatch mode sees every operator, forward and backward. A GPU runs most of them in one kernel each, so their number
stands for that of kernel launches, and is the same on every machine. It is a lower bound where a GPU needs several
kernels (a matrix product that splits its reduction).

Counted as one launch: every operator not named below; attention and its gradient each, as the fused kernels are;
dropout and its gradient each, though `F.dropout` is several operators on a CPU; and a `_foreach` operator where tensors
and sources have the same shapes and strides, which CUDA needs to run them together, else one for each tensor.
Not counted: views, and what else returns an alias of its input and writes nothing; memory that is allocated and not
filled; numbers that are read back, which are waits.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

ALLOCATIONS = ("aten.empty", "aten.new_empty", "aten.empty_like", "aten.empty_strided", "aten.new_empty_strided")
# A view whose schema does not say so.
VIEWS = ("aten._unsafe_view",)
# Operators whose result is a number on the host or a size that hangs on the content of a tensor; `lift_fresh` is what
# `torch.tensor(number, device=...)` comes to, which copies from memory that is not pinned.
WAITS = (
    *("aten._local_scalar_dense", "aten.item", "aten.is_nonzero", "aten.equal", "aten.nonzero", "aten.lift_fresh"),
    *("aten.masked_select", "aten._unique", "aten._unique2", "aten.unique_dim", "aten.unique_consecutive"),
    *("aten.repeat_interleave", "aten.bincount", "aten.argwhere", "aten.histc"),
)
# Methods that copy a tensor to the host, without an operator where it is there already.
COPIES = ("tolist", "numpy", "cpu", "item", "__array__")


@contextmanager
def count_launches() -> Iterator[Counter]:
    """The kernels that the code in the `with` block would launch on a GPU, counted by operator."""
    launches = Counter()

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
            launches[_name(operator)] += _launches_of(operator, args)
            return operator(*args, **(kwargs or {}))

    with patch("torch.nn.functional.dropout", _dropout_kernel), Mode():
        yield launches


@contextmanager
def watch_waits() -> Iterator[list[str]]:
    """Where the host would wait for a GPU in the `with` block: operator or method, and the line that called it.

    What a data loader does is left out: its batches are on the host.
    """
    waits: list[str] = []

    def note(name):
        frames, frame = [], sys._getframe(2)
        while frame:
            frames.append(f"{frame.f_code.co_filename}:{frame.f_lineno}")
            frame = frame.f_back
        if not any("utils/data/dataloader.py" in place for place in frames):
            own = (__file__, "/torch/utils/", "/torch/_", "/torch/overrides.py")
            waits.append(f"{name} at {next(place for place in frames if not any(part in place for part in own))}")

    class Operators(TorchDispatchMode):
        def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
            if _name(operator) in WAITS or _has_mask_as_index(operator, args):
                note(_name(operator))
            return operator(*args, **(kwargs or {}))

    class Methods(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            name = getattr(function, "__name__", "")
            if name in COPIES or (name == "to" and "cpu" in [*filter(_is_text, args), *(kwargs or {}).values()]):
                note(name)
            return function(*args, **(kwargs or {}))

    with Operators(), Methods():
        yield waits


def _launches_of(operator, args) -> int:
    reads_only = any(out.alias_info is not None and not out.alias_info.is_write for out in operator._schema.returns)
    if reads_only or _name(operator) in (*ALLOCATIONS, *VIEWS, *WAITS) or _name(operator).startswith("prim"):
        return 0
    if _name(operator).startswith("aten._foreach_") and len(args) > 1 and isinstance(args[1], list | tuple):
        together = all(a.shape == b.shape and a.stride() == b.stride() for a, b in zip(args[0], args[1], strict=True))
        return 1 if together else len(args[0])
    return 1


def _has_mask_as_index(operator, args) -> bool:
    if _name(operator) not in ("aten.index", "aten.index_put", "aten.index_put_", "aten._index_put_impl_"):
        return False
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])


def _name(operator) -> str:
    """The name of an operator without that of its overload, such as `aten.add`."""
    return ".".join(str(operator).split(".")[:2])


def _dropout_kernel(states, p=0.5, training=True, inplace=False):
    return torch.native_dropout(states, p, True)[0] if training and p else states


def _is_text(value) -> bool:
    return isinstance(value, str)
