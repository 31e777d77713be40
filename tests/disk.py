"""A disk that is full: the operating system refuses to let files grow."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FULL = Path("/dev/full")
"""Refuses every byte with "No space left on device"."""

needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


@contextmanager
def files_up_to(num_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size: what fits is taken, the rest refused."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
