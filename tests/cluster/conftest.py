"""A run and commands to start, a Ray cluster for the tests that need one, a fake one, a browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cluster.session import Backend
from tests.cartpole import write_run
from tests.commands import Answer, Stillhouse, called

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.cluster.fake_ray import FakeCluster, Ray


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder that holds teacher.safetensors and recipe.toml."""
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path)
    return tmp_path


@pytest.fixture
def ray_backend() -> Iterator[Backend]:
    """Start Ray on this machine with two CPUs and end it after the test."""
    from cluster.on_ray.backend import RayBackend

    backend = RayBackend(address=None, num_cpus=2)
    try:
        yield backend
    finally:
        backend.close()


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Start the machine's Chromium; skip where it has none."""
    path = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if path is None:
        pytest.skip("no chromium on this machine; apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


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


@pytest.fixture
def stillhouse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Stillhouse:
    """Return what runs a command line in the test's folder."""
    monkeypatch.chdir(tmp_path)

    def call(*args: str | Path) -> Answer:
        code = called(monkeypatch, *map(str, args))
        printed = capsys.readouterr()
        return Answer(code, printed.out, printed.err)

    return call
