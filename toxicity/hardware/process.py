"""Settings that are made once per process, before the first tensor."""

from __future__ import annotations

import os
import platform
import sys

import torch

from toxicity.hardware.cpu import prepare_cpu

# Both are read; the first is for any accelerator, from torch 2.9 on.
ALLOCATOR_SETTINGS = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")


def prepare_process(scoring: bool = False) -> None:
    """Make the settings of the processor (`cpu.prepare_cpu`) and of CUDA; call it once, before the first tensor.

    Args:
        scoring: whether the process only scores.
    """
    _prepare_cuda()
    prepare_cpu(scoring)


def _prepare_cuda() -> None:
    if torch.version.cuda is None or not torch.cuda.is_available():
        return
    # Every batch has another shape: blocks of fixed size would leave gaps in memory that none of the next fits into.
    # Elsewhere than on Linux torch has no such segments, and in WSL the driver may refuse them with a meaningless error
    # (pytorch issue 192330). What the user has set stays.
    on_linux = sys.platform == "linux" and "microsoft" not in platform.release().lower()
    if on_linux and not any(name in os.environ for name in ALLOCATOR_SETTINGS):
        os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"
    # cuDNN's attention makes a plan for each new shape of a batch with a mask, which takes longer than the batch.
    torch.backends.cuda.enable_cudnn_sdp(False)
