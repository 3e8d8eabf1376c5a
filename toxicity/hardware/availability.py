"""Whether torch can compute on the GPU of this machine; if not, why, and what mends it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from toxicity.core.errors import RequestError, one_line
from toxicity.hardware.kinds import kind_of
from toxicity.hardware.machine import driver_gpus
from toxicity.hardware.precision import compute_capability


def why_on_processor(cards: Sequence[tuple[str, str]], gpu: str | None = None) -> str | None:
    """Why torch finds no GPU, though NVIDIA's driver lists some, and what helps; None if it lists none.

    Args:
        cards: the result of `machine.driver_gpus`.
        gpu: the kind that was asked for, for the advice.
    """
    if not cards:
        return None
    name, driver = cards[0]
    card, version = f"the {name} of this machine", f"torch {torch.__version__}"
    if torch.version.cuda is None:
        what = "a build for AMD's GPUs" if torch.version.hip else "a build for CPUs"
        # An environment that has a torch of the same version keeps it.
        setup = f"make clean, then make setup GPU={gpu or _kind_by_name(name) or 'ampere'}"
        return f"{version} is {what} and cannot use {card}: {setup}"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and _hides_all(visible, len(cards)):
        value = visible or "''"
        return f"CUDA_VISIBLE_DEVICES={value} hides {card} from torch: leave it out, or name a GPU by its number."
    older = "."
    if not torch.__version__.startswith("2.7."):
        older = ", or, for a card from before Blackwell, take a build for older drivers: pip install torch==2.7.1"
    return (
        f"{version}, built for CUDA {torch.version.cuda}, cannot use {card} with driver {driver} ({_cuda_error()}). "
        f"Update the driver{older}"
    )


def unused_gpu() -> str | None:
    """`why_on_processor` for a process of this machine that computes on the CPU without having been asked to."""
    return why_on_processor(driver_gpus())


def require_kernels(machine: Mapping[str, Any]) -> None:
    """Raise `RequestError` if this build of torch has no kernels for an NVIDIA GPU, naming one that has.

    Args:
        machine: `device_name`, `compute_capability`, `wheel_architectures` and `torch`, as of `describe_machine`.
    """
    capability, name = machine["compute_capability"], machine["device_name"]
    if capability is None or has_kernels(capability, machine["wheel_architectures"]):
        return
    raise RequestError(
        f"torch {machine['torch']} has no kernels for the {described(name, capability)}. "
        f"{_build_for(capability, kind_of(name, capability))}"
    )


def require_kernels_for(device: torch.device) -> None:
    """`require_kernels` for a device of this machine; raises `RequestError` too for a GPU that torch cannot use."""
    if device.type != "cuda":
        return
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise RequestError(unused_gpu() or f"there is no GPU that torch can use as {device}: leave the device out.")
    if (device.index or 0) >= count:
        raise RequestError(f"{device} is not among the {count} that torch sees, of which the first is cuda:0.")
    require_kernels(
        {
            "device_name": torch.cuda.get_device_name(device),
            "compute_capability": compute_capability(device),
            "wheel_architectures": torch.cuda.get_arch_list(),
            "torch": torch.__version__,
        }
    )


def require_bf16(name: str, capability: str | None, fix: str) -> None:
    """Raise `RequestError` for an NVIDIA GPU without bf16, which torch would compute in fp32 units, slowly."""
    if capability is not None and number(capability) < (8, 0):
        raise RequestError(f"the {described(name, capability)} has no bf16, which starts at sm_80. {fix}")


def has_kernels(capability: str, architectures: Sequence[str]) -> bool:
    """Whether a build of torch has kernels that run on a card.

    Binary code (`sm_70`) runs on cards with the same major and the same or a higher minor capability, architecture-
    specific code (`sm_90a`) on that capability only, and intermediate code (`compute_70`) is compiled for any later
    card. (CUDA C++ Programming Guide, "Binary Compatibility" and "PTX Compatibility".) If `architectures`, the result
    of `torch.cuda.get_arch_list()`, names no CUDA architecture, nothing can be said, and the result is True.
    """
    built = [match.groups() for text in architectures if (match := re.fullmatch(r"(sm|compute)_(\d+)(\d)(\D?)", text))]
    card = number(capability)
    for form, major, minor, suffix in built:
        target = int(major), int(minor)
        later = target <= card and suffix != "a" and (form == "compute" or target[0] == card[0])
        if later or target == card:
            return True
    return not built


def described(name: str, capability: str | None) -> str:
    """A GPU in words: `Tesla T4 (sm_75)`."""
    return name if capability is None else f"{name} (sm_{capability.replace('.', '')})"


def number(capability: str) -> tuple[int, ...]:
    """A compute capability as numbers that can be compared."""
    return tuple(map(int, capability.split(".")))


def _hides_all(visible: str, count: int) -> bool:
    """Whether this value of CUDA_VISIBLE_DEVICES hides all of `count` GPUs: its first entry names none."""
    first = visible.split(",")[0].strip()
    return not (first.startswith(("GPU-", "MIG-")) or (first.isdigit() and int(first) < count))


def _cuda_error() -> str:
    """What CUDA says when it is started; torch only warns of it."""
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return one_line(error).split(". ")[0].rstrip(".")
    return "it finds none"


def _kind_by_name(name: str) -> str | None:
    """The kind of a card that torch cannot look at, as far as its name says it."""
    return next((kind for kind in ("p100", "v100", "t4") if kind in name.lower()), None)


def _build_for(capability: str, kind: str | None) -> str:
    if kind:
        return f"Install the build that has: make setup GPU={kind}"
    if number(capability) < (5, 0):  # the lowest of torch 2.7.1, the oldest version that this package supports
        return "None from 2.7.1 on has. Take another machine, or the processor: make bench GPU=cpu"
    # The build for the P100 covers sm_50 to sm_90; later cards need the current build.
    return f"Install a build that has: make setup GPU={'p100' if number(capability) <= (9, 0) else 'blackwell'}"
