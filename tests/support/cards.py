"""Machines with a GPU that are not at hand: what torch, the driver and the environment say on each of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import torch

from toxicity.hardware import availability, machine

CUDA_126 = ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90")
CUDA_130 = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
GIB = 2**30


@dataclass(frozen=True)
class Card:
    """One GPU, the torch build beside it, and what torch can see of it."""

    name: str
    capability: tuple[int, int] | None
    memory: int = 16 * GIB
    free: int | None = None  # by default all of it
    device: str = "cuda"  # what torch computes on; `cpu` where it cannot use the card
    torch: str = "2.13.0+cu130"
    cuda: str | None = "13.0"
    hip: str | None = None
    architectures: tuple[str, ...] = CUDA_130
    driver: str | None = "580.82.07"
    listed_as: str | None = None  # by the driver, where it gives another name
    gcn: str = ""  # AMD's name of the architecture
    environment: dict[str, str] = field(default_factory=dict)
    cuda_error: str = "No CUDA GPUs are available"


OLD_BUILD = {"torch": "2.7.1+cu126", "cuda": "12.6", "architectures": CUDA_126}
P100 = Card("Tesla P100-PCIE-16GB", (6, 0), **OLD_BUILD)
V100 = Card("Tesla V100-SXM2-16GB", (7, 0), **OLD_BUILD)
T4 = Card("Tesla T4", (7, 5), memory=15 * GIB)
A100 = Card("NVIDIA A100-SXM4-40GB", (8, 0), memory=40 * GIB)
H100 = Card("NVIDIA H100 80GB HBM3", (9, 0), memory=80 * GIB)
RTX_2080 = Card("NVIDIA GeForce RTX 2080 Ti", (7, 5), memory=11 * GIB)
K80 = Card("Tesla K80", (3, 7), memory=12 * GIB, **OLD_BUILD)
GTX_1080 = Card("NVIDIA GeForce GTX 1080", (6, 1), memory=8 * GIB, **OLD_BUILD)
NO_CARD = Card("none", None, device="cpu", torch="2.13.0+cpu", cuda=None, architectures=(), driver=None)

CARDS = {
    "P100": P100,
    "V100": V100,
    "T4": T4,
    "A100": A100,
    "A100, a slice": Card(
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb", (8, 0), memory=5 * GIB, listed_as="NVIDIA A100-SXM4-40GB"
    ),
    "H100": H100,
    "GH200": Card("NVIDIA GH200 480GB", (9, 0), memory=95 * GIB),
    "B200": Card("NVIDIA B200", (10, 0), memory=180 * GIB),
    "B300": Card("NVIDIA B300 SXM6 AC", (10, 3), memory=270 * GIB),
    "RTX 5090": Card("NVIDIA GeForce RTX 5090", (12, 0), memory=32 * GIB),
    "GB10": Card("NVIDIA GB10", (12, 1), memory=120 * GIB),
    "Jetson Orin": Card("Orin", (8, 7), memory=30 * GIB, driver=None),
    "MI300X": Card(
        "AMD Instinct MI300X",
        (9, 4),
        memory=192 * GIB,
        torch="2.13.0+rocm6.4",
        cuda=None,
        hip="6.4.43482",
        architectures=("gfx90a", "gfx942"),
        driver=None,
        gcn="gfx942:sramecc+:xnack-",
    ),
    "Apple GPU": Card(
        "Apple M2 Pro", None, memory=21 * GIB, device="mps", torch="2.13.0", cuda=None, architectures=(), driver=None
    ),
    "hidden": replace(V100, device="cpu", environment={"CUDA_VISIBLE_DEVICES": ""}),
    "driver too old": replace(
        P100,
        device="cpu",
        driver="450.80.02",
        cuda_error="The NVIDIA driver on your system is too old (found version 11000). Please update it",
    ),
    "build for CPUs": replace(V100, device="cpu", torch="2.13.0+cpu", cuda=None, architectures=()),
    "filled": replace(V100, free=300 * 2**20),
    "unknown kind": GTX_1080,
    "of tomorrow": Card("NVIDIA R100", (13, 0), memory=288 * GIB),
}


def put_in(monkeypatch, card: Card) -> torch.device:
    """Have torch, the driver and the environment answer as on the machine of this card; returns the device of it."""
    usable = card.device == "cuda"
    properties = SimpleNamespace(total_memory=card.memory, gcnArchName=card.gcn, name=card.name)
    answers = {
        "is_available": usable,
        "device_count": int(usable),
        "current_device": 0,
        "get_device_name": card.name,
        "get_device_capability": card.capability,
        "get_device_properties": properties,
        "get_arch_list": list(card.architectures),
        "mem_get_info": (card.memory if card.free is None else card.free, card.memory),
        "memory_reserved": 0,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda *args, answer=answer, **kwargs: answer)
    monkeypatch.setattr(torch, "__version__", card.torch)
    monkeypatch.setattr(torch.version, "cuda", card.cuda)
    monkeypatch.setattr(torch.version, "hip", card.hip)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: card.memory)
    accelerator = None if card.device == "cpu" else torch.device(card.device)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: accelerator)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: accelerator is not None)

    def start_cuda():
        raise RuntimeError(card.cuda_error)

    monkeypatch.setattr(torch.cuda, "init", start_cuda)
    listed = [(card.listed_as or card.name, card.driver)] if card.driver else []
    for module in (machine, availability):
        monkeypatch.setattr(module, "driver_gpus", lambda: listed)
    if card.device == "mps":
        monkeypatch.setattr(machine, "_processor_name", lambda: card.name)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name, value in card.environment.items():
        monkeypatch.setenv(name, value)
    return torch.device(card.device)
