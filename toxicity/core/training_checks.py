"""Checks of training options that transformers makes too late, when data are read or an epoch is trained."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
from pathlib import Path

import torch
from transformers import TrainingArguments, get_scheduler
from transformers.trainer_utils import IntervalStrategy, SaveStrategy, SchedulerType
from transformers.training_args import OptimizerNames

from toxicity.core.errors import RequestError, one_line

# What an evaluation during training measures (`training.trainer.ToxicityTrainer.evaluation_loop`), and whether more is
# better; with several labels also `auc_NAME` of each.
METRICS = {"loss": False, "auc": True, "mean_auc": True}
OF_A_LABEL = "auc_"

# Flags that hold a dictionary as JSON, and whether they may name a file with it instead.
DICTIONARIES = {
    "lr_scheduler_kwargs": False,
    "activation_checkpointing_kwargs": False,
    "gradient_checkpointing_kwargs": False,
    "accelerator_config": True,
    "fsdp_config": True,
}
# For these nothing can be missing, and to make them would take a second or two, which torch's compiler and the Trainer
# take to import.
OPTIMISERS_OF_TORCH = (OptimizerNames.ADAMW_TORCH, OptimizerNames.ADAMW_TORCH_FUSED)
# Of `torch.compile`.
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
SCHEDULES_WITHOUT_NEEDS = (
    *(SchedulerType.LINEAR, SchedulerType.COSINE, SchedulerType.COSINE_WITH_RESTARTS, SchedulerType.INVERSE_SQRT),
    *(SchedulerType.CONSTANT, SchedulerType.CONSTANT_WITH_WARMUP),
)
# Options of the schedules that cannot do without.
NEEDED_OPTIONS = {
    SchedulerType.COSINE_WITH_MIN_LR: {"min_lr": 1e-6},
    SchedulerType.COSINE_WARMUP_WITH_MIN_LR: {"min_lr": 1e-6},
    SchedulerType.WARMUP_STABLE_DECAY: {"num_decay_steps": 100},
}
# Schedules whose options transformers would ignore.
WITHOUT_OPTIONS = (SchedulerType.CONSTANT, SchedulerType.CONSTANT_WITH_WARMUP)
# What their makers raise for options that they do not take.
FAULTS = (ValueError, TypeError, KeyError, AttributeError, ImportError, RuntimeError, AssertionError)
# More steps than any schedule has that is written out in --lr_scheduler_kwargs.
MANY_STEPS = 10**9


def require_dictionaries(args: TrainingArguments) -> None:
    """Raise `RequestError` for a flag whose value should be a dictionary, or a file with one, and is neither."""
    for name, may_be_file in DICTIONARIES.items():
        value = getattr(args, name, None)  # transformers 5.17 lacks the newest of them
        if not isinstance(value, str):
            continue
        try:
            text = value if value.startswith("{") or not may_be_file else Path(value).read_text(encoding="utf-8")
            if isinstance(json.loads(text), dict):
                continue
            fault = "it is no dictionary"
        except (OSError, ValueError) as error:
            fault = one_line(error)
        example = """'{"name": value}'""" + (", or a file with that" if may_be_file else "")
        raise RequestError(f"--{name} {value} cannot be read ({fault}): give JSON, such as {example}.")


def require_metric(args: TrainingArguments) -> None:
    """Raise `RequestError` if the best weights are chosen by what no evaluation measures, or by none, or the worst are.

    Args:
        args: as they were asked for, before transformers fills in what was left out.
    """
    choices = "loss or auc"
    best = args.metric_for_best_model
    name = "loss" if best is None else best.removeprefix("eval_")
    if name not in METRICS and not name.startswith(OF_A_LABEL):
        raise RequestError(
            f"--metric_for_best_model {best}: an evaluation during training measures {choices}, of several labels also "
            f"mean_auc and {OF_A_LABEL}NAME, and nothing else."
        )
    more_is_better = METRICS.get(name, True)
    if args.greater_is_better not in (None, more_is_better):
        better = "greater" if more_is_better else "smaller"
        raise RequestError(f"the {name} is better when it is {better}: leave --greater_is_better out.")
    if args.save_strategy == SaveStrategy.BEST:
        if best is None and not args.load_best_model_at_end:
            raise RequestError(f"--save_strategy best needs a --metric_for_best_model: {choices}.")
        if args.eval_strategy == IntervalStrategy.NO:
            raise RequestError("--save_strategy best needs evaluations: add --eval_strategy epoch, or steps.")


def require_packages(args: TrainingArguments) -> None:
    """Raise `RequestError` for options that need what is not installed, or have no effect here."""
    if args.use_liger_kernel:
        if importlib.util.find_spec("liger_kernel") is None:
            raise RequestError("--use_liger_kernel needs a package that is not installed: pip install liger-kernel")
        if not torch.accelerator.is_available() or args.use_cpu:
            raise RequestError("--use_liger_kernel is for GPUs, and this run is on a CPU: leave it out.")
    if args.deepspeed or os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() in ("true", "1"):
        raise RequestError(
            "DeepSpeed is not supported: a model that one GPU holds is trained on several by accelerate launch "
            "--multi_gpu, and a larger one with accelerate_configs/fsdp.yaml."
        )
    # transformers turns compilation on for each of the three.
    if not (args.torch_compile or args.torch_compile_backend or args.torch_compile_mode):
        return
    if args.torch_compile_backend is not None:
        # Here, as torch's compiler takes seconds to import.
        from accelerate.utils import DynamoBackend
        from torch.compiler import list_backends

        known = {backend.value.lower() for backend in DynamoBackend}.intersection(list_backends(()))
        if args.torch_compile_backend not in known:
            raise RequestError(
                f"--torch_compile_backend {args.torch_compile_backend}: what works is {', '.join(sorted(known))}."
            )
    if args.torch_compile_mode not in (None, *COMPILE_MODES):
        raise RequestError(f"--torch_compile_mode {args.torch_compile_mode}: what works is {', '.join(COMPILE_MODES)}.")
    on_cpu = args.use_cpu or not torch.accelerator.is_available()
    if on_cpu and args.torch_compile_backend in (None, "inductor") and not _has_compiler():
        raise RequestError(
            "--torch_compile compiles C++ for a CPU, and there is no compiler: install g++ or clang, or leave it out."
        )


def require_optimiser_and_schedule(args: TrainingArguments) -> None:
    """Raise `RequestError` if the optimiser or the schedule of its learning rate cannot be made.

    Both are made for a single weight, by the functions that the Trainer calls.
    """
    weight, optimizer = torch.nn.Parameter(torch.zeros(1)), None
    if args.optim not in OPTIMISERS_OF_TORCH or args.optim_args:
        optimizer = _optimiser(args, weight)
    schedule, options = args.lr_scheduler_type, args.lr_scheduler_kwargs
    if not options and schedule in SCHEDULES_WITHOUT_NEEDS:
        return
    if options and schedule in WITHOUT_OPTIONS:
        raise RequestError(f"--lr_scheduler_type {schedule.value} has no options: leave --lr_scheduler_kwargs out.")
    try:
        optimizer = optimizer or torch.optim.SGD([weight], lr=args.learning_rate)
        get_scheduler(schedule, optimizer, args.get_warmup_steps(MANY_STEPS), MANY_STEPS, options)
    except FAULTS as error:
        example = f"--lr_scheduler_kwargs '{json.dumps(NEEDED_OPTIONS.get(schedule, {'name': 1.0}))}'"
        fault = f"does not take {json.dumps(options)}" if options else "needs options"
        raise RequestError(
            f"--lr_scheduler_type {schedule.value} {fault}: {one_line(error)} Give such as {example}."
        ) from error


def _optimiser(args: TrainingArguments, weight: torch.nn.Parameter) -> torch.optim.Optimizer | None:
    """The optimiser of one weight, None for those that are made for the layers of a model."""
    # Here, as the Trainer takes seconds to import.
    from transformers import Trainer
    from transformers.trainer_optimizer import is_optimizer_factory

    if args.optim_args and not re.fullmatch(r"\s*\w+\s*=[^=,]+(,\s*\w+\s*=[^=,]+)*", args.optim_args):
        raise RequestError(f"--optim_args {args.optim_args}: give NAME=VALUE, and commas between several.")
    try:
        make, options = Trainer.get_optimizer_cls_and_kwargs(args)
        return None if is_optimizer_factory(make) else make([weight], **options)
    except FAULTS as error:
        if "pass a model" in str(error) or "pass a `model`" in str(error):
            return None  # and all before that, its package among it, was found in order
        given = f" with --optim_args {args.optim_args}" if args.optim_args else ""
        raise RequestError(f"--optim {args.optim.value}{given} cannot be used: {one_line(error)}") from error


def _has_compiler() -> bool:
    return any(map(shutil.which, ("g++", "clang++", "c++", "gcc", "clang")))
