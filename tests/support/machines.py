"""Two machines of one run, as two processes or as two launchers on loopback."""

import os
import subprocess
from pathlib import Path

from builders import ROOT
from processes import Run, free_port


def two_machines(folder: Path, *flags: object, faults: tuple = ((), ())) -> list[Run]:
    """The processes of a run on two machines, with one on each; relative paths are on the disk of each, `disk0` and
    `disk1` in the folder, and so are the caches.
    """
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1"}
    # Else each would take the machine to be its own, and start a thread for each of its cores.
    common["OMP_NUM_THREADS"] = "1"
    return [
        Run(
            folder / f"machine{rank}",
            *flags,
            fault=(("work_in", folder / f"disk{rank}"), *faults[rank]),
            RANK=str(rank),
            LOCAL_RANK="0",
            HF_DATASETS_CACHE=str(folder / f"disk{rank}" / "cache"),
            **common,
        )
        for rank in range(2)
    ]


class Job:
    """A command that starts a part of a run, with one core and its log in a file."""

    def __init__(self, log: Path, command: list[object], **environment: str) -> None:
        self.log = log
        own = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(log.with_suffix(".cache"))}
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                **{"cwd": ROOT, "env": os.environ | own | environment, "stdout": file, "stderr": file},
            )
