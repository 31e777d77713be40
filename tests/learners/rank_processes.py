"""Two processes that are ranks of one group, started once for all tests of a module."""

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch.distributed as dist

from common.threads import set_threads
from learners.ranks import GLOO, Address, Ranks, join, open_meeting

WAIT_S = 60.0
"""For an answer that should come in a second; the first one waits for imports."""

Scenario = Callable[..., Any]
"""A function of a test module: takes its `Ranks` and arguments, and returns what can be pickled."""


class RankProcesses:
    """Runs scenarios as the ranks of a group, each time of a new one."""

    def __init__(self, size: int = 2) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Any] = []
        self._processes: list[Any] = []
        for _ in range(size):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(there,), daemon=True)
            process.start()
            self._pipes.append(here)
            self._processes.append(process)

    def __call__(self, scenario: Scenario, *args: Any) -> list[Any]:
        """Return what `scenario(ranks, *args)` returns on each rank."""
        meeting, address = open_meeting("127.0.0.1")
        for rank, pipe in enumerate(self._pipes):
            pipe.send((scenario, args, address, rank, len(self._pipes)))
        found = []
        for rank, pipe in enumerate(self._pipes):
            assert pipe.poll(WAIT_S), f"rank {rank} does not come to an end"
            error, value = pipe.recv()
            assert error is None, error
            found.append(value)
        del meeting
        return found

    def kill(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.kill()
            process.join()


def _serve(pipe: "Connection[Any, Any]") -> None:
    set_threads(1)
    while True:
        scenario, args, address, rank, size = pipe.recv()
        try:
            pipe.send((None, _joined(scenario, args, address, rank, size)))
        except Exception:
            pipe.send((traceback.format_exc(), None))


def _joined(scenario: Scenario, args: Any, address: Address, rank: int, size: int) -> Any:
    ranks: Ranks = join(address, rank=rank, size=size, backend=GLOO)
    try:
        return scenario(ranks, *args)
    finally:
        dist.destroy_process_group()
