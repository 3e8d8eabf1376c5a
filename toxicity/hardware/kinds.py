"""The supported kinds of GPU (and the CPU). Each has an Accelerate config and a torch build of the same name."""

from __future__ import annotations

import difflib
import re
from typing import NamedTuple

from toxicity.core.errors import RequestError


class Kind(NamedTuple):
    """How to recognise a kind of GPU, and its peak FLOP/s on dense matrix products according to the data sheet.

    For a family of cards the peak is that of its fastest common card, in the precision of the kind's config; for the
    P100 in fp32, as its published run stayed within that.
    """

    capabilities: tuple[str, ...]  # CUDA compute capabilities
    word: str = ""  # part of the device's name, in lower case
    peak_flops: float | None = None
    peak_format: str = ""


KINDS = {
    "cpu": Kind(()),
    "p100": Kind(("6.0",), "p100", 9.3e12, "fp32, PCIe"),
    "v100": Kind(("7.0",), "v100", 112e12, "fp16 tensor cores, PCIe"),
    "t4": Kind(("7.5",), "t4", 65e12, "fp16 tensor cores"),
    "ampere": Kind(("8.0", "8.6", "8.7", "8.9"), "", 312e12, "bf16 tensor cores, A100"),
    "hopper": Kind(("9.0",), "", 989e12, "bf16 tensor cores, H100 SXM"),
    # B200, B300, RTX 50 and GB10; Jetson Thor is 10.1 for CUDA 12, and 11.0 for CUDA 13. "NVIDIA Blackwell Datasheet",
    # HGX B200: 4.5 PFLOP/s a GPU in bf16 with sparsity, half of that without.
    "blackwell": Kind(
        ("10.0", "10.1", "10.3", "11.0", "12.0", "12.1"), "", 2250e12, "bf16 tensor cores, B200 in HGX B200"
    ),
}
# For those who name a card by which none of the kinds is called.
FAMILIES = "A100 and L4 are ampere, H100 and H200 hopper, B200 blackwell"


def known_kind(name: str) -> str:
    """The name in lower case; a `RequestError` that lists the known ones if it is none of `KINDS`."""
    kind = name.strip().lower()
    if kind not in KINDS:
        # Not so wide that h100 would be taken for v100.
        nearest = difflib.get_close_matches(kind, KINDS, n=1, cutoff=0.8)
        hint = f", and the nearest is {nearest[0]}" if nearest else f". {FAMILIES}"
        raise RequestError(f"unknown GPU `{name}`; the known ones are {', '.join(KINDS)}{hint}.")
    return kind


def kind_of(device_name: str, compute_capability: str | None) -> str | None:
    """The kind of a GPU with this name and CUDA compute capability; None if it is of no known kind, or not NVIDIA's."""
    for name, kind in KINDS.items():
        if compute_capability in kind.capabilities and kind.word in device_name.lower():
            return name
    return None


def short_name(device_name: str) -> str:
    """A card's name in tables: `Tesla P100-PCIE-16GB` → `p100`, `NVIDIA A100 … MIG 1g.5gb` → `a100 mig 1g.5gb`."""
    words = device_name.lower().replace("-", " ").split() or ["gpu"]
    name = next((word for word in words if any(letter.isdigit() for letter in word)), words[-1])
    return f"{name}{slice_name(device_name)}"


def slice_name(device_name: str) -> str:
    """What a label says of a part of a card (Multi-Instance GPU), such as ` mig 1g.5gb`; empty for a whole card."""
    found = re.search(r" MIG (\S+)", device_name)
    return f" mig {found[1].lower()}" if found else ""
