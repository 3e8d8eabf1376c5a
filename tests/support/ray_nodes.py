"""A cluster of Ray on this machine, whose nodes are processes, and what befalls them."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

STORE_BYTES = 80 * 2**20


@contextmanager
def ray_cluster(*cores: int) -> Iterator[Any]:
    """Ray's own test cluster, with a node for each number of cores; its `address` is that of the first one."""
    from ray._common.utils import get_ray_address_file
    from ray.cluster_utils import Cluster

    # Ray writes there which cluster was started last, but makes the folder only for a cluster that has no other one.
    Path(get_ray_address_file(None)).parent.mkdir(exist_ok=True)
    # The paths of sockets may not be long.
    folder = tempfile.mkdtemp(prefix="ray")
    head = {"num_cpus": cores[0], "num_gpus": 0, "object_store_memory": STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args=head | {"include_dashboard": False, "temp_dir": folder})
    try:
        for number in cores[1:]:
            add_node(cluster, number)
        yield cluster
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def add_node(cluster: Any, cores: int) -> Any:
    """Add a node without GPUs, and return it."""
    return cluster.add_node(num_cpus=cores, num_gpus=0, object_store_memory=STORE_BYTES)


def kill_one_actor(cluster: Any, seconds: float = 60) -> None:
    """Kill the process of an actor of the cluster that scores at this moment."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for node in cluster.list_all_nodes():
            for info in node.all_processes["raylet"]:
                for process in psutil.Process(info.process.pid).children(recursive=True):
                    # Ray has them named after what they do.
                    if process.is_running() and " ".join(process.cmdline()).startswith("ray::ScoringActor.score"):
                        process.kill()
                        return
    raise AssertionError("there is no actor that scores")


def wait_for_outputs(folder: Any, count: int, process: Any, seconds: float = 120) -> None:
    """Wait until a job has written so many outputs."""
    until = time.monotonic() + seconds
    while len(list(folder.glob("*.parquet"))) < count:
        assert process.is_alive(), "it ended before"
        assert time.monotonic() < until, "it takes too long"
        time.sleep(0.01)
