"""A batch whose tensors go to a GPU without the host waiting for it."""

from __future__ import annotations

from typing import Any

import torch


class Batch(dict[str, Any]):
    """What the data collator returns. Accelerate asks it for `to`, before it looks for tensors in it.

    Accelerate has an option `non_blocking`, which is not asked: after a resume it is forgotten (`skip_first_batches`),
    and on Apple's GPUs it would be wrong.
    """

    def to(self, device: torch.device | str | int, non_blocking: bool = False) -> Batch:
        """A copy on another device; to a CUDA device never blocking, which pinned memory is needed for, else always.

        Tensors, and what else has a method `to`, are copied in dicts and lists at any depth; the rest is handed on.
        """
        # As of torch 2.13, MPS would read the memory of tensors that are gone by then (pytorch issue 189690).
        non_blocking = torch.device(device).type == "cuda"

        def moved(value: Any) -> Any:
            if isinstance(value, dict):
                return type(value)({name: moved(part) for name, part in value.items()})
            if isinstance(value, list):
                return [moved(part) for part in value]
            return value.to(device, non_blocking=non_blocking) if hasattr(value, "to") else value

        return moved(self)
