"""What is free on the cluster, and who waits for it."""

import logging
import time
from collections.abc import Callable
from typing import Any

import ray
from ray._private import state  # the only place where Ray tells of single nodes and actors

from cluster.on_ray.head import AWAY, HeadAwayError, ask_head
from common.errors import ResourceError

logger = logging.getLogger(__name__)

PLACED_WITHIN_S = 10.0
"""An actor that was asked for less long ago is not said to wait for resources."""

PATIENCE_S = 2
"""Seconds of waiting that nobody is told of."""

UNKNOWN = "unknown"


def node_of(actor: Any) -> str | None:
    """Return the id of the node where an actor has its CPUs, or None; it may still start there.

    While the head is away that is unknown, and UNKNOWN is returned.
    """
    try:
        return ask_head(lambda: _node_of(actor))
    except HeadAwayError:
        return UNKNOWN


def missing(num: int, what: str, num_cpus: float, num_gpus: float = 0.0) -> str:
    """Return, in one line, what `num` actors wait for.

    Args:
        num: how many wait.
        what: their name in the singular.
        num_cpus: that each needs.
        num_gpus: that each needs.
    """
    waiting = f"{num} {what}s wait" if num != 1 else f"1 {what} waits"
    needs = amount(num_cpus, num_gpus) + (" each" if num != 1 else "")
    try:
        there = ask_head(lambda: free(num_gpus > 0))
    except HeadAwayError:
        there = AWAY
    return f"{waiting} for {needs}: {there}"


def amount(num_cpus: float, num_gpus: float) -> str:
    """Return so many CPUs and GPUs in words."""
    return f"{num_cpus:g} CPUs" + (f" and {num_gpus:g} GPUs" if num_gpus else "")


def free(with_gpus: bool) -> str:
    """Return how many CPUs, and where it matters GPUs, are free, in words."""
    nodes = _free_by_node()
    there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    parts = []
    for name in ("CPU", "GPU") if with_gpus else ("CPU",):
        each = [node.get(name, 0.0) for node in nodes]
        found = f"{sum(each):g} of {there.get(name, 0.0):g} {name}s are free"
        most = f", at most {max(each):g} on one node" if len(each) > 1 else ""
        parts.append(found + most)
    return " and ".join(parts)


def wait_for_room(what: str, num_cpus: float, num_gpus: float, *, timeout_s: int) -> None:
    """Wait until a node has so many CPUs and GPUs free, for tasks that would queue without a word.

    Args:
        what: who waits, as the line's subject.
        num_cpus: that a task needs.
        num_gpus: that a task needs.
        timeout_s: to wait at most.

    Raises:
        ResourceError: no node had them in time.
    """

    def room(seconds: int) -> bool:
        until = time.monotonic() + seconds
        while True:
            for node in _free_by_node():
                if node.get("CPU", 0.0) >= num_cpus and node.get("GPU", 0.0) >= num_gpus:
                    return True
            if time.monotonic() >= until:
                return False
            time.sleep(0.2)

    wait_patiently(room, f"{what} waits for {amount(num_cpus, num_gpus)}", num_gpus > 0, timeout_s)


def wait_patiently(
    arrives: Callable[[int], bool], who: str, with_gpus: bool, timeout_s: int
) -> None:
    """Wait for resources, and say in one line that they are waited for, and for how long.

    Args:
        arrives: waits for so many seconds at most and returns whether they are there.
        who: waits for what.
        with_gpus: whether GPUs are among it.
        timeout_s: to wait at most.

    Raises:
        ResourceError: they were not there in time.
    """
    if arrives(min(PATIENCE_S, timeout_s)):
        return
    logger.warning("%s: %s; it gives up after %d s", who, free(with_gpus), timeout_s)
    if not arrives(max(0, timeout_s - PATIENCE_S)):
        raise ResourceError(
            f"{who}, in vain for {timeout_s} s (supervision.wait_for_resources_s): "
            f"{free(with_gpus)}; end another run, add nodes, or ask for less"
        )


def _free_by_node() -> list[dict[str, float]]:
    found: Any = state.available_resources_per_node()  # type: ignore[no-untyped-call]
    return list(found.values())


def _node_of(actor: Any) -> str | None:
    found = state.actors(actor_id=actor._actor_id.hex())
    if not found:
        return None
    node, port = found["Address"]["NodeID"], found["Address"]["Port"]
    # While Ray still looks for room, a node is told already: without a port, or with the port of
    # the node itself, which is not yet that of a process with CPUs.
    ports = {there["NodeID"]: there["NodeManagerPort"] for there in _nodes()}
    return node if port not in (0, ports.get(node)) else None


def _nodes() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return found
