"""Which backend a command works with, and what this machine has for it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.session import Backend


@contextmanager
def opened_backend(address: str | None, local: bool) -> Iterator[Backend]:
    """Start what does the work, and give it back in the end.

    Args:
        address: of a Ray cluster; None to start one here.
        local: everything in this process instead.
    """
    backend: Backend
    if local:
        from cluster.local_backend import LocalBackend

        backend = LocalBackend()
    else:
        from cluster.on_ray.backend import RayBackend

        backend = RayBackend(address=address, num_cpus=num_cpus_here())
    try:
        yield backend
    finally:
        backend.close()


def num_cpus_here() -> int:
    """Return the CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def num_gpus_here() -> int:
    """Return the GPUs that this process may use."""
    import torch

    return torch.cuda.device_count()
