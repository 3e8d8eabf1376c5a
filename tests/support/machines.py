"""Two machines of one run: as two processes, or as the jobs in examples/ start them, on loopback."""

import os
import random
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from builders import ROOT
from processes import Run, free_port

# On a core of each machine's own, where there are several.
PYTHON = """\
#!/bin/bash
machine=${{SLURM_NODEID:-${{JOB_COMPLETION_INDEX:-$SKYPILOT_NODE_RANK}}}}
[ -x "$(command -v taskset)" ] && taskset -cp "$((machine % $(nproc)))" $$ > /dev/null
exec {python} "$@"
"""
# What Slurm gives: srun starts the same on each machine, sends SIGTERM to the others when one fails and it is to, and
# ends with the highest exit code; scontrol names machines.
SRUN = """\
#!/bin/bash
kill=0
while [[ $1 == --* ]]; do
    echo "$1" >> "$LOGS/srun.options"
    [[ $1 == --kill-on-bad-exit=1 ]] && kill=1
    shift
done
for ((node = 0; node < SLURM_NNODES; node++)); do
    SLURM_NODEID=$node "$@" > "$LOGS/$node.log" 2>&1 &
    pids[node]=$!
    echo $! > "$LOGS/$node.pid"
done
worst=0
for _ in "${pids[@]}"; do
    wait -n "${pids[@]}"
    code=$?
    ((code > worst)) && worst=$code
    ((kill && code)) && kill "${pids[@]}" 2> /dev/null
done
exit $worst
"""
SCONTROL = """\
#!/bin/bash
case $1 in
show) printf '127.0.0.1\\n127.0.0.2\\n' ;;
*) echo "$@" >> "$LOGS/scontrol.log" ;;
esac
"""


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
    """A job of examples/ on two machines, as its cluster starts it from a checkout.

    Args:
        folder: for logs, and what stands for the disks that the machines share.
        recipe: takes the place of the published one, in jobs that name it.
        gpus: of each machine.
    """

    def __init__(self, folder: Path, recipe: str = "recipes/reference.yaml", gpus: int = 1) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.recipe, self.gpus = folder, recipe, str(gpus)
        self.bin = folder / "bin"
        self.bin.mkdir(exist_ok=True)
        self.stand_in("python", PYTHON.format(python=shlex.quote(sys.executable)))
        self.processes: list[subprocess.Popen] = []

    def stand_in(self, name: str, text: str) -> None:
        """Put a program where the job looks for it first."""
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def log(self, machine: int) -> str:
        path = self.folder / f"{machine}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_for(self, text: str, seconds: float = 150) -> None:
        """Wait until the first machine has said something."""
        until = time.monotonic() + seconds
        while text not in self.log(0):
            if time.monotonic() > until or any(process.poll() is not None for process in self.processes):
                self.stop()
                pytest.fail(f"it never said {text!r}: {self.log(0)[-2000:]}{self.log(1)[-2000:]}")
            time.sleep(0.05)

    def ended(self, seconds: float = 200) -> list[int]:
        """The exit codes."""
        try:
            return [process.wait(seconds) for process in self.processes]
        finally:
            self.stop()

    def stop(self) -> None:
        for process in self.processes:
            process.kill()

    def terminate_second_machine(self) -> None:
        """Send SIGTERM to its launcher."""
        self.processes[1].terminate()

    def _start(self, name: str, command: list[str], **environment: str) -> None:
        own = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HF_HOME": str(self.folder / name)}
        own |= {"PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}", "LOGS": str(self.folder)}
        with (self.folder / f"{name}.log").open("w") as file:
            self.processes.append(
                subprocess.Popen(
                    command, **{"cwd": ROOT, "env": os.environ | own | environment, "stdout": file, "stderr": file}
                )
            )


def _is_free(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) != 0


class SlurmJob(Job):
    """`examples/train.slurm` under stand-ins for srun and scontrol; of both machines the exit code is one."""

    def start(self, *flags: object) -> None:
        self.stand_in("srun", SRUN)
        self.stand_in("scontrol", SCONTROL)
        # The script derives the port from the number of the job.
        number = next(number for number in random.sample(range(10_000), 100) if _is_free(20_000 + number))
        machines = {"SLURM_JOB_NODELIST": "two", "SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": self.gpus}
        machines["SLURM_CPUS_PER_TASK"] = "16"
        command = ["bash", str(ROOT / "examples" / "train.slurm"), *map(str, flags)]
        self._start("slurm", command, SLURM_JOB_ID=str(number), **machines)

    def terminate_second_machine(self) -> None:
        os.kill(int((self.folder / "1.pid").read_text()), 15)


def documents(name: str) -> list[dict]:
    """What a file in examples/ holds."""
    return list(yaml.safe_load_all((ROOT / "examples" / name).read_text(encoding="utf-8")))


class KubernetesJob(Job):
    """The pods of `examples/train-kubernetes.yaml`, with loopback instead of the Service."""

    def start(self, *flags: object) -> None:
        (container,) = documents("train-kubernetes.yaml")[1]["spec"]["template"]["spec"]["containers"]
        port = free_port()
        command = [part.replace("29500", port) for part in container["command"]]
        command += [part.replace("recipes/reference.yaml", self.recipe) for part in container["args"]]
        command = [part.replace("/shared", str(self.folder)) for part in command]
        environment = {entry["name"]: entry["value"] for entry in container["env"]}
        environment |= {"MAIN": "127.0.0.1", "GPUS": self.gpus}
        del environment["HF_HOME"]
        for machine in range(2):
            self._start(str(machine), [*command, *map(str, flags)], JOB_COMPLETION_INDEX=str(machine), **environment)


class SkyPilotJob(Job):
    """The nodes of `examples/train-skypilot.yaml`."""

    def start(self, *flags: object) -> None:
        (task,) = documents("train-skypilot.yaml")
        script = task["run"].replace("recipes/reference.yaml", self.recipe).replace("/shared", str(self.folder))
        script = script.replace("run_toxicity.py", f"--main_process_port {free_port()} run_toxicity.py")
        script = f"{script.rstrip()} {shlex.join(map(str, flags))}"
        nodes = {"SKYPILOT_NUM_NODES": "2", "SKYPILOT_NUM_GPUS_PER_NODE": self.gpus}
        nodes |= {"SKYPILOT_NODE_IPS": "127.0.0.1\n127.0.0.2"} | task["envs"]
        for machine in range(2):
            self._start(str(machine), ["bash", "-c", script], SKYPILOT_NODE_RANK=str(machine), **nodes)


JOBS = {"Slurm": SlurmJob, "Kubernetes": KubernetesJob, "SkyPilot": SkyPilotJob}
