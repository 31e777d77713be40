"""A Ray cluster for the tests that need one."""

from collections.abc import Iterator

import pytest

from cluster.session import Backend


@pytest.fixture
def ray_backend() -> Iterator[Backend]:
    """Start Ray on this machine with two CPUs and end it after the test."""
    from cluster.ray_backend import RayBackend

    backend = RayBackend(address=None, num_cpus=2)
    try:
        yield backend
    finally:
        backend.close()
