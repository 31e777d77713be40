"""Object stores that are full: by hand here, and a real one under a run."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray.exceptions import ActorDiedError, ObjectStoreFullError, OutOfDiskError, RayTaskError

from cluster.on_ray import object_store
from cluster.on_ray.object_store import RoomTimer, is_full, when_room
from cluster.prepare import prepare
from cluster.session import Snapshot
from cluster.store_watch import StoreWatch
from tests.cartpole import cartpole_teacher, load_config
from tests.cluster.polling import poll_until
from tests.cluster.raylets import raylets


def task_error(cause: Exception) -> RayTaskError:
    error = RayTaskError("sample", "Traceback", cause, proctitle="p", pid=1, ip="10.0.0.1")
    return error.as_instanceof_cause()


@pytest.mark.parametrize("error", [ObjectStoreFullError(), OutOfDiskError()])
def test_no_room_is_known_here_and_from_a_task(error: Exception) -> None:
    assert is_full(error)
    assert is_full(task_error(error))


@pytest.mark.parametrize("error", [ActorDiedError(), task_error(ValueError("bad")), MemoryError()])
def test_other_errors_are_not_taken_for_it(error: BaseException) -> None:
    assert not is_full(error)


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A call that finds room at its third try."""
    monkeypatch.setattr(object_store, "RETRY_S", 0.001)
    return iter([ObjectStoreFullError(), OutOfDiskError(), "stored", AssertionError("too often")])


def put(tries: Iterator[Any]) -> str:
    result = next(tries)
    if isinstance(result, Exception):
        raise result
    return str(result)


def test_a_call_is_made_until_there_is_room(tries: Iterator[Any]) -> None:
    assert when_room(lambda: put(tries)) == "stored"


def test_whoever_has_to_stop_waits_no_longer(tries: Iterator[Any]) -> None:
    assert when_room(lambda: put(tries), lambda: True) is None
    assert isinstance(next(tries), OutOfDiskError)


def test_another_error_is_passed_on() -> None:
    def fail() -> None:
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        when_room(fail)


def test_waiting_is_counted_while_it_lasts_and_afterwards() -> None:
    timer = RoomTimer()
    assert timer.waited_s == 0.0
    with timer:
        first = timer.waited_s
        time.sleep(0.01)
        assert timer.waited_s >= first + 0.01
    waited = timer.waited_s
    assert waited >= 0.01
    time.sleep(0.01)
    assert timer.waited_s == waited
    with timer:
        time.sleep(0.01)
    assert timer.waited_s >= waited + 0.01


class Hog:
    """Fills a node's object store with objects that it reads, so that they cannot leave it."""

    def __init__(self) -> None:
        self._held: list[Any] = []

    def fill(self) -> None:
        """Put objects in until one finds no room, or finds it only after a wait."""
        import ray

        waited = False
        while not waited:
            started = time.monotonic()
            try:
                reference = ray.put(np.zeros(PIECE_BYTES, np.uint8))
            except (ObjectStoreFullError, OutOfDiskError):
                return
            waited = time.monotonic() - started > 1.0
            self._held.append((reference, ray.get(reference)))

    def empty(self) -> None:
        """Let all go."""
        self._held.clear()


PIECE_BYTES = 128 * 1024
STORE_BYTES = 80 * 2**20
FULL_DISK = {"local_fs_capacity_threshold": 0.0, "local_fs_monitor_interval_ms": 100}
"""Ray then takes the node's disk for full, however empty it is."""
LARGE = (
    "total_env_steps=10_000_000",
    "actors.num_envs_per_runner=64",  # chunks and weights of a size that lies in the object store
    "actors.unroll_length=128",
    "replay.capacity=100_000",
    "student.network.hidden=[256, 256]",
    "learner.publish_interval_steps=100",
)
TWO_CHUNKS = 2 * 64 * 128


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("system", [{}, FULL_DISK], ids=["disk_has_room", "disk_is_full"])
def test_a_run_slows_down_says_so_and_goes_on(tmp_path: Path, system: dict[str, Any]) -> None:
    import ray

    from cluster.on_ray.backend import RayBackend

    preparation = prepare(load_config(tmp_path, *LARGE), num_cpus=2, num_gpus=0)
    head = {"num_cpus": 2, "object_store_memory": STORE_BYTES, "_system_config": system}
    with raylets(1, **head) as cluster:
        backend = RayBackend(address=cluster.address, num_cpus=2)
        try:
            session = backend.distil(preparation, cartpole_teacher(), tmp_path / "checkpoints")
            watch, hog = StoreWatch(), ray.remote(num_cpus=0)(Hog).remote()
            poll_until(session, lambda found: found.trainer.env_steps >= TWO_CHUNKS)

            def says_that_it_waits(found: Snapshot) -> bool:
                news = watch.news(found)
                ray.get(hog.fill.remote())
                return news is not None and "object store of a node is full" in news

            full = poll_until(session, says_that_it_waits)
            if system:
                ray.get(hog.empty.remote())
            last = poll_until(
                session,
                lambda found: found.trainer.env_steps >= full.trainer.env_steps + TWO_CHUNKS,
            )
            assert [collector.incarnation for collector in last.collectors] == [0]
            assert last.trainer.learner_steps > full.trainer.learner_steps
            session.abort()
        finally:
            backend.close()
