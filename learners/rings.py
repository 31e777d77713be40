"""The memory of the window's rings: how it is reserved, written and looked at."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch


def empty_ring(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Reserve uint8 memory of which batches take pieces from all over.

    On the host NumPy reserves it, because it asks the system for huge pages: most of a batch's time
    would go into finding small ones.
    """
    if device.type == "cpu":
        return torch.from_numpy(np.empty(shape, np.uint8))
    return torch.empty(shape, dtype=torch.uint8, device=device)


def stacks_of(planes: torch.Tensor, stack: int) -> torch.Tensor:
    """Return a view [planes - S + 1, S, *plane]: the planes of a stack lie one after another.

    Args:
        planes: [planes, *plane].
        stack: S.
    """
    step, *inner = planes.stride()
    shape = (len(planes) - stack + 1, stack, *planes.shape[1:])
    return planes.as_strided(shape, (step, step, *inner))


@contextmanager
def host_memory(target: torch.Tensor) -> Iterator[npt.NDArray[Any]]:
    """Give memory to write that becomes the tensor's; a copy to a GPU is not waited for."""
    if target.device.type == "cpu":
        yield target.numpy()
        return
    staging = torch.empty(target.shape, dtype=target.dtype, pin_memory=True)
    yield staging.numpy()
    target.copy_(staging, non_blocking=True)
