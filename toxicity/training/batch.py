"""A batch whose tensors go to a GPU without the host waiting for it."""

from __future__ import annotations

from typing import Any

import torch


class Batch(dict[str, Any]):
    """What the data collator returns. Accelerate asks it for `to`, before it looks for tensors in it.

    Accelerate moves batches itself, and waits for each tensor after a resume: its `skip_first_batches` forgets the
    option `non_blocking` of the loader.
    """

    def to(self, device: torch.device | str | int, non_blocking: bool = False) -> Batch:
        """A copy on another device; to a CUDA device never blocking, which pinned memory is needed for.

        Tensors, and what else has a method `to`, are copied in dicts and lists at any depth; the rest is handed on.
        """
        non_blocking = non_blocking or torch.device(device).type == "cuda"

        def moved(value: Any) -> Any:
            if isinstance(value, dict):
                return type(value)({name: moved(part) for name, part in value.items()})
            if isinstance(value, list):
                return [moved(part) for part in value]
            return value.to(device, non_blocking=non_blocking) if hasattr(value, "to") else value

        return moved(self)
