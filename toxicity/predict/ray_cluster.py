"""A cluster of Ray: connecting to it or starting one here, and how many actors of which size it has room for."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from toxicity.core.errors import RequestError, one_line
from toxicity.hardware.cpu import usable_cores
from toxicity.predict.ray_actor import PACKAGE

# Cores of an actor by default. One core each would score a little more, as threads wait for each other, but each actor
# holds a model in memory.
DEFAULT_CORES = 4
# Ray itself would try for minutes.
SECONDS_TO_CONNECT = 5.0
# The least that Ray allows: shards and scores do not go through its store.
STORE_BYTES = 80 * 2**20

logger = logging.getLogger(__name__)


class Size(NamedTuple):
    """What an actor takes of a node."""

    cores: int
    gpus: int

    @property
    def told(self) -> str:
        """In words, such as `a GPU and 4 cores`."""
        cores = f"{self.cores} core{'s' if self.cores != 1 else ''}"
        return cores if not self.gpus else f"a GPU and {cores}" if self.cores else "a GPU"


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Be a driver of the cluster at an address; by default of that in `RAY_ADDRESS`, or of one that is started here.

    The sources of this package are sent to the nodes: they need not have it installed, only what it requires.

    Raises:
        RequestError: if Ray is not installed, or there is no cluster that this process can be a driver of.
    """
    try:
        # The check that it is not just a folder of that name, which Python takes for a package.
        from ray import init, shutdown
    except (ImportError, OSError) as error:
        raise RequestError(f"Ray is not installed ({one_line(error)}): pip install -r requirements-ray.txt") from error

    answer = signal.getsignal(signal.SIGTERM)
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    options: dict[str, Any] = {}
    if address == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Ray would write one into the home folder, which may be read-only.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        options = {"num_cpus": usable_cores(), "include_dashboard": False, "object_store_memory": STORE_BYTES}
    else:
        address = _reachable(address)
    try:
        runtime_env = {"py_modules": [str(PACKAGE)]}
        init(address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=runtime_env, **options)
    except Exception as error:  # of many types: versions that differ, a token that lacks, a disk that is full
        shutdown()
        what = "start Ray on this machine" if address == "local" else f"join the Ray cluster at {address}"
        raise RequestError(
            f"cannot {what}: {' '.join(str(error).split())[:500]} The same Python and Ray are needed everywhere."
        ) from error
    # With Ray's own handler the exit code would be 15.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        shutdown()
        signal.signal(signal.SIGTERM, answer or signal.SIG_DFL)


def _reachable(address: str) -> str:
    """`HOST:PORT` of the cluster at an address, when something listens there."""
    # Private, but it alone knows which cluster `auto` is.
    from ray._private.services import canonicalize_bootstrap_address

    try:
        if "://" in address:
            raise ValueError("run this command on a machine of the cluster, or with `ray job submit`")
        found = canonicalize_bootstrap_address(address)
        host, _, port = found.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_CONNECT).close()
    except (OSError, ValueError) as error:  # among them Ray's for `auto` where there is none
        raise RequestError(
            f"there is no Ray cluster at {address} ({one_line(error)}). Name the HOST:PORT that `ray start --head` "
            "told (its port is 6379 by default), or leave --ray_address out to start Ray on this machine."
        ) from error
    return found


def size_of_actors(cores: int | None, on_cpu: bool) -> Size:
    """What each actor takes: a GPU where nodes have some, unless `on_cpu`, and so many cores.

    No node needs to have as many cores as were asked for: then it is as many as one has, and as its share of a GPU.
    """
    nodes, wanted = living_nodes().values(), cores or DEFAULT_CORES
    with_gpus = [] if on_cpu else [node for node in nodes if node.get("GPU", 0) >= 1]
    if with_gpus:
        size = Size(min(wanted, *(int(node.get("CPU", 0) // node["GPU"]) for node in with_gpus)), 1)
    else:
        # A cluster that grows when work comes may have no core yet.
        most = max((int(node.get("CPU", 0)) for node in nodes), default=0) or wanted
        size = Size(min(wanted, most), 0)
    if cores and size.cores < cores:
        logger.info(f"--ray_num_cpus {cores}: no node has so many for each, and so each worker takes {size.told}.")
    return size


def room_for(size: Size) -> int:
    """How many actors the nodes would have room for, if they had nothing else to do; at least 1."""
    needed = {name: amount for name, amount in (("CPU", size.cores), ("GPU", size.gpus)) if amount}
    nodes = living_nodes().values()
    return max(1, sum(min(int(node.get(name, 0) // amount) for name, amount in needed.items()) for node in nodes))


def living_nodes() -> dict[str, dict[str, float]]:
    """The resources of the nodes that are up, by their ids."""
    import ray

    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
