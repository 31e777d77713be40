import threading

import pytest

from common.background import BackgroundWriter
from common.errors import StorageError

LONG_S = 30.0


def full() -> None:
    raise StorageError("x: cannot be written (No space left on device)")


def test_a_job_runs_while_its_starter_goes_on() -> None:
    writer = BackgroundWriter("a test")
    go_on, done = threading.Event(), threading.Event()

    def job() -> None:
        assert go_on.wait(LONG_S)
        done.set()

    assert not writer.busy
    writer.start(job)
    assert writer.busy
    go_on.set()
    assert writer.wait() is None
    assert done.is_set()
    assert not writer.busy


def test_jobs_come_one_after_the_other() -> None:
    writer = BackgroundWriter("a test")
    order: list[str] = []
    go_on = threading.Event()

    def first() -> None:
        go_on.wait(LONG_S)
        order.append("first")

    writer.start(first)
    timer = threading.Timer(0.05, go_on.set)
    timer.start()
    writer.start(lambda: order.append("second"))
    writer.wait()
    timer.join()
    assert order == ["first", "second"]


def test_failures_are_told_once_and_again_when_they_are_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    writer = BackgroundWriter("a checkpoint")
    for job in (full, full, full):
        writer.start(job)
        assert writer.wait() == "x: cannot be written (No space left on device)"
    (failed,) = caplog.messages
    assert failed.startswith("writing a checkpoint failed: x: cannot be written (No space left")
    assert "goes on and tries again" in failed
    writer.start(lambda: None)
    assert writer.wait() is None
    writer.start(lambda: None)
    writer.wait()
    assert caplog.messages[1:] == ["writing a checkpoint works again"]
    writer.start(full)
    writer.wait()
    assert caplog.messages[2:] == [failed]


def test_a_mistake_of_the_program_is_raised_where_somebody_waits() -> None:
    writer = BackgroundWriter("a test")
    writer.start(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        writer.wait()
    assert writer.wait() is None
