"""Fixtures that tests of several folders share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_teachers() -> Path:
    """Return the folder of teachers made by others; skip where it is not beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "teachers"
    if not folder.is_dir():
        pytest.skip("no ../shared/teachers beside the checkout")
    return folder
