"""Launch a run as `accelerate launch` does, with all its flags, and end with the exit code of the run.

    python -m toxicity.launch --config_file accelerate_configs/multi_gpu.yaml run_toxicity.py recipes/reference.yaml

`accelerate launch` ends with 1 whatever happened. What starts jobs again has to tell a run that was interrupted after
saving a checkpoint (75) from a request that cannot work (2) and from one that failed (1).
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from subprocess import CalledProcessError

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
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed import DistError
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    arguments = launch_command_parser().parse_args(argv)
    if arguments.config_file and not Path(arguments.config_file).is_file():
        raise RequestError(f"--config_file {arguments.config_file}: there is no such file.")
    # With --quiet, the launcher of a single process keeps its exit code to itself.
    arguments.quiet = False
    try:
        launch_command(arguments)
    except CalledProcessError as error:
        sys.exit(_code(error.returncode))
    except ChildFailedError as error:
        _, first = error.get_first_failure()
        sys.exit(_code(first.exitcode))
    except SignalException as stop:
        # The processes had the same signal, and have had their time to save (TORCH_ELASTIC_SHUTDOWN_TIMEOUT).
        sys.exit({signal.SIGTERM: EXIT_INTERRUPTED, signal.SIGINT: EXIT_CTRL_C}.get(stop.sigval, 128 + stop.sigval))
    except (DistError, ConnectionError) as error:
        address = f"{arguments.main_process_ip}:{arguments.main_process_port}"
        raise RunFailure(
            f"the machines did not find each other at {address}, the machine of --machine_rank 0: {one_line(error)}"
        ) from error


def _code(code: int) -> int:
    """The exit code of a process, as shells have it for one that a signal ended."""
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    with refusals_exit_cleanly():
        main()
