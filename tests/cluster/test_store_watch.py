from dataclasses import replace

from actors.collector import CollectorStats
from cluster.session import Snapshot
from cluster.store_watch import QUIET_SNAPSHOTS, StoreWatch
from tests.cluster.snapshots import COLLECTOR, SNAPSHOT


def waited(*seconds: float, incarnation: int = 0) -> Snapshot:
    collectors: list[CollectorStats] = [
        replace(COLLECTOR, runner_id=runner, incarnation=incarnation, store_wait_s=wait)
        for runner, wait in enumerate(seconds)
    ]
    return replace(SNAPSHOT, collectors=tuple(collectors))


def test_a_store_with_room_is_no_news() -> None:
    watch = StoreWatch()
    assert [watch.news(waited(0.01 * i, 0.02 * i)) for i in range(30)] == [None] * 30


def test_waiting_is_told_once_when_it_begins_and_once_when_it_is_over() -> None:
    watch = StoreWatch()
    assert watch.news(waited(0.0, 0.0)) is None
    line = watch.news(waited(0.6, 0.0))
    assert line is not None
    assert "object store of a node is full" in line
    assert watch.news(waited(1.6, 1.0)) is None
    quiet = [watch.news(waited(1.6, 1.4)) for _ in range(QUIET_SNAPSHOTS)]
    assert quiet[:-1] == [None] * (QUIET_SNAPSHOTS - 1)
    assert quiet[-1] == "the object store has room again; the run waited 3 s"
    assert watch.news(waited(1.6, 1.4)) is None
    assert watch.news(waited(2.6, 1.4)) == line


def test_a_learner_that_gets_no_answers_is_told_of_though_no_env_runner_waits() -> None:
    def unanswered(seconds: float) -> Snapshot:
        return replace(waited(0.0), trainer=replace(SNAPSHOT.trainer, store_wait_s=seconds))

    watch = StoreWatch()
    assert watch.news(unanswered(0.0)) is None
    line = watch.news(unanswered(1.0))
    assert line is not None
    assert "object store of a node is full" in line


def test_a_pause_shorter_than_a_moment_is_not_the_end_of_it() -> None:
    watch = StoreWatch()
    watch.news(waited(0.0))
    lines = [watch.news(waited(1.0 * (i // 5))) for i in range(5, 50)]
    assert sum(line is not None for line in lines) == 1


def test_an_env_runner_that_starts_again_counts_from_zero() -> None:
    watch = StoreWatch()
    watch.news(waited(0.0))
    assert watch.news(waited(100.0)) is not None
    assert watch.news(waited(0.0, incarnation=1)) is None
    watch.news(waited(3.0, incarnation=1))
    for _ in range(QUIET_SNAPSHOTS - 1):
        watch.news(waited(3.0, incarnation=1))
    assert watch.news(waited(3.0, incarnation=1)) == (
        "the object store has room again; the run waited 103 s"
    )
