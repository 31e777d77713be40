"""Ranks: learners in several processes that take every gradient step together.

Each rank reads shards of its own into a window of its own and draws its share of the batch from
there; torch's DistributedDataParallel averages the gradients, so all ranks hold the same weights.
What else must be the same on all of them (how many steps to take, what the schedule has seen, when
to stop and to save) is never decided by one rank:

| a rank waits for the others | to                                                          |
|-----------------------------|-------------------------------------------------------------|
| once a round (`together`)   | agree on the steps that every one of them has data for      |
| once a step                 | average gradients; then (`mean`) the figures of the step    |
| at a checkpoint (`gather`)  | collect on rank 0 what is each rank's own                   |
| at start (`share`)          | get from rank 0 the checkpoint that it read                 |

A rank without data says so in its next report, so it holds the others up but never blocks them.
`ALONE` is the group of one: no process group, no wrapper, and nothing travels.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import astuple, dataclass
from datetime import timedelta
from typing import Any, Protocol, TypeVar, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")

Address = tuple[str, int]
"""Host and port."""

GLOO = "gloo"
NCCL = "cpu:gloo,cuda:nccl"
"""Gradients by NCCL between GPUs; what the ranks agree on stays on the CPU."""

TIMEOUT = timedelta(minutes=5)
"""How long a rank waits for another: longer than starting, or writing a checkpoint, takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a rank tells before its next steps; or, merged, what holds for all of them."""

    steps: int
    """Gradient steps that it has data for; merged: the fewest."""
    env_steps: int
    """Transitions that it counted since its last report; merged: the sum."""
    window_size: int
    """Transitions in its window; merged: the sum."""
    received: bool
    """Whether it got an item of its feed; merged: any of them."""
    stop: bool
    """Whether it was asked to stop; merged: any of them."""
    save: bool
    """Whether a checkpoint is due, which rank 0 says."""
    share_of_teacher: float
    """What the student was said to reach of its teacher's return; merged: what rank 0 was told."""


class Ranks(Protocol):
    """A rank's place in its group, and its line to the others; every rank makes every call."""

    @property
    def rank(self) -> int:
        """This rank's number; rank 0 publishes and saves."""

    @property
    def size(self) -> int:
        """Number of ranks."""

    def together(self, report: Report) -> Report:
        """Return the merged reports of all ranks."""

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Return the mean over the ranks of a float tensor, which may be overwritten."""

    def gather(self, part: T) -> list[T] | None:
        """Return the parts of all ranks, by rank, on rank 0 and None on the others."""

    def share(self, value: T) -> T:
        """Return rank 0's value."""

    def replicate(self, network: nn.Module, *, may_leave_unused: bool) -> nn.Module:
        """Return what to call in the network's place so that gradients are averaged.

        Args:
            network: with the same parameters on every rank, on this rank's device.
            may_leave_unused: whether a loss may not depend on all parameters.
        """

    def accumulate(self, replica: nn.Module) -> AbstractContextManager[None]:
        """Keep gradients to this rank in here; the next backward pass outside averages all."""


class OneRank:
    """A group of one."""

    rank = 0
    size = 1

    def together(self, report: Report) -> Report:
        """Return the report."""
        return report

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Return the values."""
        return values

    def gather(self, part: T) -> list[T] | None:
        """Return the only part."""
        return [part]

    def share(self, value: T) -> T:
        """Return the value."""
        return value

    def replicate(self, network: nn.Module, *, may_leave_unused: bool) -> nn.Module:
        """Return the network."""
        return network

    def accumulate(self, replica: nn.Module) -> AbstractContextManager[None]:
        """Do nothing."""
        return nullcontext()


ALONE: Ranks = OneRank()


class ProcessRanks:
    """A rank of this process's torch process group, which `join` makes."""

    def __init__(self) -> None:
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()

    def together(self, report: Report) -> Report:
        """Exchange a few numbers; counts are exact up to 2⁵³."""
        own = torch.tensor(astuple(report), dtype=torch.float64)
        every = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(every, own)
        return merged([_report(values.tolist()) for values in every])

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Sum up on the values' device and divide."""
        dist.all_reduce(values)
        return values / self.size

    def gather(self, part: T) -> list[T] | None:
        """Pickle the parts to rank 0."""
        parts: list[T] | None = [part] * self.size if self.rank == 0 else None
        dist.gather_object(part, parts)
        return parts

    def share(self, value: T) -> T:
        """Pickle rank 0's value to the others."""
        values = [value]
        dist.broadcast_object_list(values, device=torch.device("cpu"))
        return values[0]

    def replicate(self, network: nn.Module, *, may_leave_unused: bool) -> nn.Module:
        """Wrap the network in DistributedDataParallel."""
        return DistributedDataParallel(
            network, broadcast_buffers=False, find_unused_parameters=may_leave_unused
        )

    def accumulate(self, replica: nn.Module) -> AbstractContextManager[None]:
        """Use the wrapper's own `no_sync`."""
        return cast(DistributedDataParallel, replica).no_sync()


def merged(reports: Sequence[Report]) -> Report:
    """Return what holds for all ranks together."""
    return Report(
        steps=min(report.steps for report in reports),
        env_steps=sum(report.env_steps for report in reports),
        window_size=sum(report.window_size for report in reports),
        received=any(report.received for report in reports),
        stop=any(report.stop for report in reports),
        save=any(report.save for report in reports),
        share_of_teacher=reports[0].share_of_teacher,
    )


def _report(values: list[float]) -> Report:
    steps, env_steps, window_size, received, stop, save, share_of_teacher = values
    return Report(
        steps=int(steps),
        env_steps=int(env_steps),
        window_size=int(window_size),
        received=bool(received),
        stop=bool(stop),
        save=bool(save),
        share_of_teacher=share_of_teacher,
    )


def open_meeting(host: str) -> tuple[object, Address]:
    """Open, in rank 0's process, the port where ranks find each other.

    Args:
        host: this machine's address as the other ranks reach it.

    Returns:
        What must be kept while they meet, and the address for `join`.
    """
    store = _tcp_store(host, 0, is_master=True)
    return store, (host, store.port)


def join(address: Address, *, rank: int, size: int, backend: str) -> ProcessRanks:
    """Meet the other ranks; return once all of them are there.

    Args:
        address: of `open_meeting`.
        rank: this process's number.
        size: number of ranks.
        backend: `GLOO` or `NCCL`.

    Raises:
        RuntimeError: not all of them came within `TIMEOUT`.
    """
    store = _tcp_store(*address, is_master=False)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    return ProcessRanks()


def _tcp_store(host: str, port: int, *, is_master: bool) -> Any:
    # torch exports the name in a way that mypy does not follow.
    return dist.TCPStore(  # type: ignore[attr-defined]
        host, port, is_master=is_master, wait_for_workers=False, timeout=TIMEOUT
    )
