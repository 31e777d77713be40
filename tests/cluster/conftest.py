"""A Ray cluster for the tests that need one, and a fake one for those that need every mishap."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cluster.session import Backend

if TYPE_CHECKING:
    from tests.cluster.fake_ray import FakeCluster, Ray


@pytest.fixture
def ray_backend() -> Iterator[Backend]:
    """Start Ray on this machine with two CPUs and end it after the test."""
    from cluster.ray_backend import RayBackend

    backend = RayBackend(address=None, num_cpus=2)
    try:
        yield backend
    finally:
        backend.close()


@pytest.fixture
def fake_ray(monkeypatch: pytest.MonkeyPatch) -> "Ray":
    """Put a fake Ray in the place of the real one."""
    from tests.cluster.fake_ray import patched

    return patched(monkeypatch)


@pytest.fixture
def cluster(tmp_path: Path, fake_ray: "Ray", monkeypatch: pytest.MonkeyPatch) -> "FakeCluster":
    """Return where sessions are started on the fake Ray."""
    from tests.cluster.fake_ray import FakeCluster

    return FakeCluster(tmp_path, monkeypatch)
