"""Fixtures that tests of several folders share."""

from pathlib import Path

import pytest

from common.threads import set_threads


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Compute with one thread, as every process of the service does."""
    set_threads(1)


@pytest.fixture(scope="session")
def shared_teachers() -> Path:
    """Return the folder of teachers made by others; skip where it is not beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "teachers"
    if not folder.is_dir():
        pytest.skip("no ../shared/teachers beside the checkout")
    return folder
