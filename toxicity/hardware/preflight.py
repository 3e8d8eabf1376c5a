"""Refuse requests that cannot work on this machine before any data is read, with a message that says how to fix them.

    python -m toxicity.hardware.preflight --gpu p100

The checks of the machine take its description (`machine.describe_machine`), so tests can check machines that are not
at hand. The checks of distributed training take the parsed training arguments.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import yaml

from toxicity.core.errors import RequestError, refusals_exit_cleanly
from toxicity.core.files import bundled
from toxicity.hardware.availability import described, number, require_bf16, require_kernels, why_on_processor
from toxicity.hardware.kinds import kind_of, known_kind, slice_name
from toxicity.hardware.machine import describe_machine
from toxicity.hardware.memory import full_card_explained, require_room

if TYPE_CHECKING:  # importing it at run time would load transformers' Trainer, which takes seconds
    from toxicity.core.arguments import MachineArguments
    from toxicity.core.training_arguments import TrainingArguments

CONFIGS = bundled("accelerate_configs")

logger = logging.getLogger(__name__)


def check_machine(asked: MachineArguments, args: TrainingArguments) -> dict[str, Any]:
    """The result of `machine.describe_machine`, labelled for tables; raises a `RequestError` as the functions below.

    Where the processor is used without having been asked for, though there is a GPU, a warning says why.
    """
    require_working_sharing(args)
    machine = describe_machine(args.device, args.world_size)
    use_cpu = args.use_cpu or os.environ.get("ACCELERATE_USE_CPU") == "True"
    machine["label"] = require_working_machine(
        machine,
        asked.gpu,
        asked.allow_other_gpu,
        mixed_precision=args.mixed_precision,
        torch_compile=args.torch_compile,
        use_cpu=use_cpu,
    )
    require_room(args.device)
    unasked = machine["device_type"] == "cpu" and not use_cpu and asked.gpu is None
    if unasked and (reason := _why_on_processor(machine)):
        logger.warning(f"Working on the processor: {reason}")
    return machine


def require_working_machine(
    machine: Mapping[str, Any],
    gpu: str | None = None,
    allow_other_gpu: bool = False,
    mixed_precision: str = "no",
    torch_compile: bool = False,
    use_cpu: bool = False,
) -> str:
    """Check that the requested settings work on this machine.

    Args:
        machine: the result of `machine.describe_machine`.
        gpu: the requested kind of machine, one of `kinds.KINDS`; None to use whatever is there.
        allow_other_gpu: accept another card than the requested one, and say so in the label.
        mixed_precision: `no`, `fp16` or `bf16`.
        torch_compile: whether `torch.compile` is requested.
        use_cpu: whether a CPU is requested explicitly.

    Returns:
        The label of the run in tables: the requested kind, `t4 as p100` where another card was accepted, or the card's
        own short name where none was requested; ` mig 1g.5gb` and the like after it for a slice of a card.

    Raises:
        RequestError: if a GPU is requested and torch can use none, this build of torch has no kernels for the card, the
            card is not the requested one, or the card is too old for bf16 (sm_80) or torch.compile (sm_70).
    """
    gpu = known_kind(gpu) if gpu else None
    capability, name = machine["compute_capability"], machine["device_name"]
    if machine["device_type"] == "cpu":
        # fp16 does run on a CPU, but so slowly that a forgotten GPU would only be noticed after days.
        if gpu not in (None, "cpu") or (mixed_precision == "fp16" and not use_cpu):
            raise RequestError(_no_gpu(machine, gpu))
        return gpu or machine["label"]

    card, kind = described(name, capability), kind_of(name, capability)
    require_kernels(machine)
    if gpu and gpu != kind and not allow_other_gpu:
        settings = f"make bench GPU={kind}" if kind else "choose the nearest kind"
        if gpu == "cpu":
            settings = "add --use_cpu"
        raise RequestError(
            f"{gpu} was asked for, and this machine computes on the {card}: {settings}, or add --allow_other_gpu "
            f"(make: ALLOW_OTHER_GPU=1) to run it with the settings of {gpu} and a label that says so."
        )
    if mixed_precision == "bf16":
        config = f"accelerate launch --config_file accelerate_configs/{kind or 'v100'}.yaml"
        require_bf16(name, capability, f"Work in fp16: {config} (or --mixed_precision fp16).")
    if torch_compile and capability and number(capability) < (7, 0):
        raise RequestError(f"torch.compile needs sm_70, and this is a {card}: launch with --torch_compile false.")
    if gpu not in (None, kind):
        return f"{kind + slice_name(name) if kind else machine['label']} as {gpu}"
    # A slice is no whole card of its kind, whose peak and runs it would be compared with.
    return gpu + slice_name(name) if gpu else machine["label"]


def require_working_sharing(args: TrainingArguments) -> None:
    """Check that the requested kind of distributed training is supported.

    Raises:
        RequestError: for several GPUs in one process (DataParallel), FSDP on a CPU or with a token budget, or options
            by which the loss is not the mean over the comments of all processes.
    """
    if args.n_gpu > 1:
        # The Trainer would use DataParallel, which multiplies loss and gradient by the number of GPUs.
        raise RequestError(
            f"this process sees {args.n_gpu} GPUs, and would use them in a way that is slow and trains otherwise. Put "
            "CUDA_VISIBLE_DEVICES=0, or the number of another, before the command to use one, or start a process for "
            f"each: accelerate launch --multi_gpu --num_processes {args.n_gpu} run_toxicity.py."
        )
    if args.is_sharded and args.device.type == "cpu":
        # On a CPU, Accelerate skips FSDP, but loads the weights in the first process only.
        raise RequestError(
            "FSDP shards a model over GPUs, and this run is on a CPU: leave fsdp.yaml (or --use_fsdp) out, and start "
            "several processes with torchrun --standalone --nproc_per_node 2 run_toxicity.py."
        )
    if args.fsdp and args.world_size == 1:
        raise RequestError(
            "--fsdp shards a model over the GPUs of several processes, and this is one: leave it out, or start with "
            "accelerate launch --config_file accelerate_configs/fsdp.yaml."
        )
    if args.is_sharded and args.max_tokens_per_batch is not None:
        # Processes may split their steps into different numbers of micro-batches, and FSDP would then deadlock.
        raise RequestError(
            "--max_tokens_per_batch cuts each process's step as its own comments need, and with FSDP all must call the "
            "model equally often: leave it out, and set --per_device_train_batch_size and "
            "--gradient_accumulation_steps."
        )
    if args.world_size > 1 and (not args.average_tokens_across_devices or args.accelerator_config.split_batches):
        raise RequestError(
            "the loss is the mean over the comments of all processes: leave out --average_tokens_across_devices, and "
            "split_batches in --accelerator_config."
        )


def _no_gpu(machine: Mapping[str, Any], gpu: str | None) -> str:
    return _why_on_processor(machine, gpu) or (
        f"{gpu or 'fp16, which is for GPUs,'} was asked for, and this machine has no GPU that nvidia-smi knows of. "
        "Run it on a machine that has, or on the processor: make bench GPU=cpu"
    )


def _why_on_processor(machine: Mapping[str, Any], gpu: str | None = None) -> str | None:
    return why_on_processor([(name, machine["driver"]) for name in machine["driver_gpus"]], gpu)


def main(argv: list[str] | None = None) -> None:
    """Check that this machine is of the kind `--gpu` and supports the precision of that kind's Accelerate config."""
    parser = argparse.ArgumentParser(prog="python -m toxicity.hardware.preflight", description=main.__doc__)
    parser.add_argument("--gpu", required=True, help="kind of machine asked for")
    parser.add_argument("--allow_other_gpu", action="store_true", help="take another card, and label the row so")
    arguments = parser.parse_args(argv)
    gpu = known_kind(arguments.gpu)
    config = yaml.safe_load((CONFIGS / f"{gpu}.yaml").read_text(encoding="utf-8"))
    device = torch.device("cuda" if gpu != "cpu" and torch.cuda.is_available() else "cpu")
    with full_card_explained(device):
        machine = describe_machine(device, 1)
    label = require_working_machine(
        machine, gpu, arguments.allow_other_gpu, config["mixed_precision"], use_cpu=gpu == "cpu"
    )
    require_room(device)
    print(f"{label}: {machine['device_name']}, {machine['cpu_count']} cores, torch {machine['torch']}: ready.")


if __name__ == "__main__":
    with refusals_exit_cleanly():
        main()
