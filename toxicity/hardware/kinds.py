"""The kinds of machine there are settings for: each name has an Accelerate config and a torch build of that name."""

from __future__ import annotations

from typing import NamedTuple

from toxicity.core.errors import RequestError


class Kind(NamedTuple):
    """What makes a card one of a kind, and how fast its data sheet says it is.

    `capabilities` are CUDA's, `word` must be in the device's name. `peak_flops` is for dense matrix products, per
    second, in the number format `peak_format`: that of the kind's config, but for the P100, whose published run
    kept to its fp32 rate. Families are given by their fastest common card.
    """

    capabilities: tuple[str, ...]
    word: str = ""
    peak_flops: float | None = None
    peak_format: str = ""


KINDS = {
    "cpu": Kind(()),
    "p100": Kind(("6.0",), "p100", 9.3e12, "fp32, PCIe"),
    "v100": Kind(("7.0",), "v100", 112e12, "fp16 tensor cores, PCIe"),
    "t4": Kind(("7.5",), "t4", 65e12, "fp16 tensor cores"),
    "ampere": Kind(("8.0", "8.6", "8.7", "8.9"), "", 312e12, "bf16 tensor cores, A100"),
    "hopper": Kind(("9.0",), "", 989e12, "bf16 tensor cores, H100 SXM"),
}


def known_kind(name: str) -> str:
    """Return `name` in lower case.

    Raises:
        RequestError: if it is none of `KINDS`; the message lists them.
    """
    if name.lower() not in KINDS:
        raise RequestError(f"unknown GPU `{name}`; the known ones are {', '.join(KINDS)}.")
    return name.lower()


def kind_of(device_name: str, compute_capability: str | None) -> str | None:
    """The kind of a device by its name and CUDA capability (None on a CPU), or None if it is of no known kind."""
    if compute_capability is None:
        return "cpu"
    for name, kind in KINDS.items():
        if compute_capability in kind.capabilities and kind.word in device_name.lower():
            return name
    return None
