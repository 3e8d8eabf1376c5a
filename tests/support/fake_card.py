"""A GPU that is told to be one: its memory, and what passes of a model take of it."""

from contextlib import contextmanager, nullcontext

import torch


class FakeCard:
    """A card of `total` bytes, of which other processes hold some, and a pass of a model takes some for each token.

    Attributes:
        of_exchange: bytes that the first exchange between processes takes.
        passes: tokens of each pass, padding included.
    """

    def __init__(self, total, others=0, per_token=0, of_exchange=0):
        self.total, self.others, self.per_token, self.of_exchange = total, others, per_token, of_exchange
        self.allocated = self.peak = self.outside = 0
        self.passes = []

    def exchange(self, tensor):
        """The first exchange with other processes, for which NCCL takes memory that torch does not know of."""
        self.outside += self.of_exchange

    def _pass(self, module, args, inputs):
        tokens = inputs["input_ids"].numel()
        self.passes.append(tokens)
        self.peak = self.allocated + self.per_token * tokens
        if self.peak > self.total - self.others - self.outside:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    @contextmanager
    def holding(self, model, monkeypatch):
        """Have torch tell of this card, and the model be on it, within the `with` block."""
        self.allocated = sum(weight.nbytes for weight in model.parameters())
        hook = model.register_forward_pre_hook(self._pass, with_kwargs=True)
        with monkeypatch.context() as patch:
            for name, value in {
                "mem_get_info": lambda _: (self.total - self.others - self.outside - self.allocated, self.total),
                "memory_allocated": lambda _: self.allocated,
                "memory_reserved": lambda _: self.allocated,
                "max_memory_allocated": lambda _: self.peak,
                "reset_peak_memory_stats": lambda _: None,
                "get_device_name": lambda _: "V100",
            }.items():
                patch.setattr(torch.cuda, name, value)
            patch.setattr(torch.random, "fork_rng", lambda *args, **kwargs: nullcontext())
            yield
        hook.remove()
