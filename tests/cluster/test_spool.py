import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from cluster import spool as module
from cluster.run_directory import RunDirectory
from cluster.spool import INTERVAL_S, Spool
from common.errors import StorageError
from common.storage import Location, locate


class Clock:
    """Stands still until it is told the time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def open_spool(directory: Location) -> Spool:
    return Spool(RunDirectory(directory))


def append(spool: Spool, name: str, text: str) -> None:
    path = spool.folder / name
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        file.write(text)


def after(clock: Clock, seconds: float, spool: Spool) -> None:
    clock.now += seconds
    spool.upload_when_due()
    spool._writer.wait()


def test_a_folder_on_this_disk_is_its_own_spool(tmp_path: Path, clock: Clock) -> None:
    spool = open_spool(locate(tmp_path))
    assert spool.folder == tmp_path
    append(spool, "metrics.jsonl", "1\n")
    after(clock, 2 * INTERVAL_S, spool)
    spool.close()
    assert (tmp_path / "metrics.jsonl").read_text() == "1\n"


def test_files_are_uploaded_at_their_interval_and_at_the_end(bucket: str, clock: Clock) -> None:
    directory = locate(bucket) / "run"
    metrics = directory / "metrics.jsonl"
    spool = open_spool(directory)
    append(spool, "metrics.jsonl", "1\n")
    append(spool, "tensorboard/events.1", "event")
    after(clock, INTERVAL_S - 1, spool)
    assert directory.names() == []
    after(clock, 1, spool)
    assert metrics.read_text() == "1\n"
    assert (directory / "tensorboard" / "events.1").read_text() == "event"
    append(spool, "metrics.jsonl", "2\n")
    after(clock, 1, spool)
    assert metrics.read_text() == "1\n"
    after(clock, INTERVAL_S, spool)
    assert metrics.read_text() == "1\n2\n"
    append(spool, "metrics.jsonl", "3\n")
    spool.close()
    assert metrics.read_text() == "1\n2\n3\n"
    assert not spool.folder.exists()


def test_a_run_that_goes_on_adds_to_what_is_there(bucket: str) -> None:
    directory = locate(bucket) / "run"
    for line in ("1\n", "2\n"):
        spool = open_spool(directory)
        append(spool, spool.metrics.name, line)
        append(spool, spool.log.name, f"said {line}")
        append(spool, f"tensorboard/events.{line[0]}", line)
        spool.close()
    assert (directory / "metrics.jsonl").read_text() == "1\n2\n"
    assert (directory / "log.jsonl").read_text() == "said 1\nsaid 2\n"
    assert (directory / "tensorboard").names() == ["events.1", "events.2"]


def test_only_what_has_changed_is_uploaded(
    bucket: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    write = Location.write_bytes

    def count(location: Location, content: bytes) -> object:
        written.append(location.name)
        return write(location, content)

    monkeypatch.setattr(Location, "write_bytes", count)
    spool = open_spool(locate(bucket))
    for name in ("metrics.jsonl", "old"):
        append(spool, name, "1\n")
    after(clock, INTERVAL_S, spool)
    append(spool, "metrics.jsonl", "2\n")
    after(clock, INTERVAL_S, spool)
    spool.close()
    assert written == ["metrics.jsonl", "old", "metrics.jsonl"]


def test_nobody_waits_for_a_slow_upload(
    bucket: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the longer uploads take, the seldomer they are."""
    started, go_on = threading.Event(), threading.Event()
    write = Location.write_bytes

    def slow(location: Location, content: bytes) -> object:
        started.set()
        assert go_on.wait(30.0)
        clock.now += 60.0
        return write(location, content)

    monkeypatch.setattr(Location, "write_bytes", slow)
    spool = open_spool(locate(bucket))
    append(spool, "metrics.jsonl", "1\n")
    clock.now += INTERVAL_S
    spool.upload_when_due()
    assert started.wait(30.0)
    spool.upload_when_due()
    go_on.set()
    spool._writer.wait()
    append(spool, "metrics.jsonl", "2\n")
    after(clock, 10 * INTERVAL_S, spool)
    assert (locate(bucket) / "metrics.jsonl").read_text() == "1\n"
    after(clock, 40 * INTERVAL_S, spool)
    assert (locate(bucket) / "metrics.jsonl").read_text() == "1\n2\n"
    spool.close()


def test_what_cannot_be_uploaded_is_told_and_tried_again(
    bucket: str,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    spool = open_spool(locate(bucket))
    append(spool, "metrics.jsonl", "1\n")
    with monkeypatch.context() as patch:
        patch.setattr(Location, "write_bytes", refused)
        for _ in range(3):
            after(clock, INTERVAL_S, spool)
    (failed,) = caplog.messages
    assert "writing metrics and log failed: s3: no answer" in failed
    after(clock, INTERVAL_S, spool)
    assert caplog.messages[1:] == ["writing metrics and log works again"]
    assert (locate(bucket) / "metrics.jsonl").read_text() == "1\n"
    spool.close()


def test_what_cannot_be_uploaded_at_the_end_stays_on_this_disk(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = open_spool(locate(bucket))
    append(spool, "metrics.jsonl", "1\n")
    monkeypatch.setattr(Location, "write_bytes", refused)
    failed = spool.flush()
    assert failed is not None
    assert str(spool.folder) in failed
    spool.close()
    assert (spool.folder / "metrics.jsonl").read_text() == "1\n"
    (spool.folder / "metrics.jsonl").unlink()
    spool.folder.rmdir()


def refused(location: Location, content: bytes) -> None:
    raise StorageError("s3: no answer")
