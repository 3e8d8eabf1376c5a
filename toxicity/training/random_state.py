"""Random state of accelerators that the Trainer keeps none of in a checkpoint: Apple's GPUs and Intel's."""

from __future__ import annotations

import os
from pathlib import Path

import torch

# Devices whose state is in the Trainer's own `rng_state.pth`.
KEPT_BY_TRAINER = ("cpu", "cuda")


def save_random_state(folder: Path, device: torch.device) -> None:
    """Write the random state of this process's device beside that which the Trainer writes."""
    if device.type not in KEPT_BY_TRAINER:
        torch.save(torch.get_device_module(device).get_rng_state(), _file(folder, device))


def restore_random_state(folder: Path, device: torch.device) -> None:
    """Take over the random state that `save_random_state` wrote; without that file, of an older version, keep it."""
    if device.type not in KEPT_BY_TRAINER and (path := _file(folder, device)).is_file():
        torch.get_device_module(device).set_rng_state(torch.load(path, map_location="cpu", weights_only=True))


def _file(folder: Path, device: torch.device) -> Path:
    return folder / f"rng_state_{device.type}_{os.environ.get('RANK', '0')}.pth"
