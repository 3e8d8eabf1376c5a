"""Launch a run as `accelerate launch` does, with all its flags, and end with the exit code of the run.

    python -m toxicity.launch --config_file accelerate_configs/multi_gpu.yaml run_toxicity.py recipes/reference.yaml

`accelerate launch` ends with 1 whatever happened. What starts jobs again has to tell a run that was interrupted after
saving a checkpoint (75) from a request that cannot work (2) and from one that failed (1).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from toxicity.core.errors import (
    EXIT_CTRL_C,
    EXIT_INTERRUPTED,
    RequestError,
    RunFailure,
    one_line,
    refusals_exit_cleanly,
)


def main(argv: list[str] | None = None) -> None:
    """Launch, and exit with the code of the first process that failed, with 75 after SIGTERM, and 130 after Ctrl-C.

    Raises:
        RequestError: if the Accelerate config is not there.
        RunFailure: if the machines do not find each other.
    """
    from accelerate.commands import launch
    from torch.distributed import DistError
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    arguments = launch.launch_command_parser().parse_args(argv)
    if arguments.config_file and not Path(arguments.config_file).is_file():
        raise RequestError(f"--config_file {arguments.config_file}: there is no such file.")
    launch.simple_launcher = _become_the_run
    try:
        launch.launch_command(arguments)
    except ChildFailedError as error:
        _, first = error.get_first_failure()
        # As shells have it for a process that a signal ended.
        sys.exit(first.exitcode if first.exitcode >= 0 else 128 - first.exitcode)
    except SignalException as stop:
        # The processes had the same signal, and have had their time to save (TORCH_ELASTIC_SHUTDOWN_TIMEOUT).
        sys.exit({signal.SIGTERM: EXIT_INTERRUPTED, signal.SIGINT: EXIT_CTRL_C}.get(stop.sigval, 128 + stop.sigval))
    except (DistError, ConnectionError) as error:
        address = f"{arguments.main_process_ip}:{arguments.main_process_port}"
        raise RunFailure(
            f"the machines did not find each other at {address}, the machine of --machine_rank 0: {one_line(error)}"
        ) from error


def _become_the_run(arguments: argparse.Namespace) -> None:
    """Start a run of a single process in place of the launcher, which would die of SIGTERM before the run has saved."""
    from accelerate.utils.launch import prepare_simple_launcher_cmd_env

    command, environment = prepare_simple_launcher_cmd_env(arguments)
    os.execvpe(command[0], command, environment)


if __name__ == "__main__":
    with refusals_exit_cleanly():
        main()
