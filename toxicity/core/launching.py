"""As many processes as were asked for, where the launcher starts fewer."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil
import yaml
from accelerate.commands.config import default_config_file, load_config_from_file
from accelerate.commands.launch import launch_command_parser

# By these a process is told which one of several it is, by torch's launcher or by MPI's.
RANK_VARIABLES = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
LAUNCHERS = ("accelerate", "accelerate-launch", "accelerate.commands.launch", "torchrun", "torch.distributed.run")


def start_missing_processes() -> None:
    """Become torch's launcher of `--num_processes` processes, if Accelerate's launcher started one of them.

    Without GPUs `accelerate launch --num_processes 2` starts one process and says nothing, so that half of the
    machine would be idle and the batch half as large as asked for. It gives itself away by naming a port to meet at.
    """
    if "MASTER_PORT" not in os.environ or any(name in os.environ for name in RANK_VARIABLES):
        return
    try:
        wanted = processes_asked_for(psutil.Process().parent().cmdline())
    except (psutil.Error, AttributeError):
        return
    if wanted > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={wanted}"]
        os.execv(sys.executable, [*launcher, *sys.argv])


def is_launcher(command: list[str]) -> bool:
    """Whether the command line of a process is that of Accelerate's or torch's launcher, not of what mentions one."""
    programs = [part for part in command if not part.startswith("-")]
    if programs and Path(programs[0]).name.startswith("python"):
        del programs[0]
    return bool(programs) and Path(programs[0]).name in LAUNCHERS


def processes_asked_for(command: list[str]) -> int:
    """Number of processes that a command line of `accelerate launch` on one machine asks for, 1 where it names none."""
    if not is_launcher(command):
        return 1
    names = ("launch", "accelerate-launch", "accelerate.commands.launch")
    start = next((index for index, part in enumerate(command) if Path(part).name in names), None)
    if start is None:
        return 1
    asked = launch_command_parser().parse_args(command[start + 1 :])
    if asked.num_processes is not None:
        return asked.num_processes
    if asked.config_file is None and (asked.cpu or not Path(default_config_file).is_file()):
        return 1
    try:
        return int(load_config_from_file(asked.config_file).num_processes)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError):
        return 1
