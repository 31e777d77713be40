"""Fixtures that tests of several folders share, and how the process that runs tests ends."""

import atexit
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.threads import set_threads
from tests.object_store import ObjectStore

SESSION = pytest.StashKey[pytest.Session]()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Keep the session, whose exit status is asked for at the end."""
    session.config.stash[SESSION] = session


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End the process once pytest has said everything, without taking the interpreter apart.

    Every connection to a Ray leaves native threads behind that go on working, about two hundred
    after all tests. The interpreter's end takes their memory from under them: it has crashed so
    after every test had passed.
    """
    if SESSION not in config.stash or hasattr(config, "workerinput"):
        return
    status = int(config.stash[SESSION].exitstatus)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


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


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """Start an S3 server for all tests that need one."""
    store = ObjectStore()
    yield store
    store.close()


@pytest.fixture
def bucket(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URI of a new bucket, which the environment tells how to reach."""
    object_store.use(monkeypatch)
    return f"s3://{object_store.new_bucket()}"


@pytest.fixture(scope="module")
def ray_of_this_process() -> Iterator[None]:
    """Start the Ray in which RLlib trains in this process."""
    import ray

    ray.init(
        address="local",
        num_cpus=1,
        object_store_memory=100 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield
    ray.shutdown()
