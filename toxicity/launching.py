"""As many processes as were asked for, where the launcher starts fewer."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import psutil
import yaml

# By these a process is told which one of several it is, by torch's launcher or by MPI's.
RANK_VARIABLES = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")


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


def processes_asked_for(command: list[str]) -> int:
    """Number of processes that a command line of `accelerate launch` on one machine asks for, 1 where it names none."""
    line = " ".join(command)
    if "accelerate" not in line or "launch" not in line:
        return 1
    if match := re.search(r"--num[-_]processes[= ](\d+)", line):
        return int(match[1])
    if match := re.search(r"--config[-_]file[= ](\S+)", line):
        try:
            config = yaml.safe_load(Path(match[1]).read_text(encoding="utf-8"))
            return int(config["num_processes"])
        except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValueError):
            return 1
    return 1
