import itertools
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import platformdirs
import pytest

from common import measured
from common.measured import remembered, time_in_turn


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path / name))
    return tmp_path / "stillhouse"


def test_an_answer_is_asked_for_once(cache):
    asked = []

    def answer() -> dict[str, float]:
        asked.append(1)
        return {"a": 1.5, "b": 2.0}

    assert remembered(["q", 1], answer) == remembered(["q", 1], answer) == {"a": 1.5, "b": 2.0}
    assert len(asked) == 1
    remembered(["q", 2], answer)
    assert len(asked) == 2
    assert {path.suffix for path in cache.iterdir()} == {".json"}


def test_another_processor_measures_anew(cache, monkeypatch):
    assert remembered("q", lambda: {"a": 1.0}) == {"a": 1.0}
    monkeypatch.setattr(measured, "processor", lambda: "another")
    assert remembered("q", lambda: {"a": 2.0}) == {"a": 2.0}


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"[1]", b'{"about": 1}'])
def test_a_damaged_cache_is_measured_over(cache, damage):
    remembered("q", lambda: {"a": 1.0})
    (path,) = cache.iterdir()
    path.write_bytes(damage)
    assert remembered("q", lambda: {"a": 2.0}) == {"a": 2.0}
    assert json.loads(path.read_bytes())["answer"] == {"a": 2.0}


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda _: str(tmp_path / "file"))
    assert remembered("q", lambda: {"a": 1.0}) == {"a": 1.0}


class Clock:
    """A clock that only the calls of candidates move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.calls: Counter[str] = Counter()
        monkeypatch.setattr(measured, "time", SimpleNamespace(perf_counter=lambda: self.now))

    def taking(self, name: str, *first: float, then: float) -> Callable[[], None]:
        taken = itertools.chain(first, itertools.repeat(then))

        def call() -> None:
            self.calls[name] += 1
            self.now += next(taken)

        return call


def test_the_shortest_time_of_each_is_found_and_hopeless_ones_are_left_out(monkeypatch):
    clock = Clock(monkeypatch)
    times = time_in_turn(
        {
            "fast": clock.taking("fast", 0.5, 0.004, 0.5, then=0.002),
            "interrupted once": clock.taking("interrupted once", 0.004, 0.5, then=0.003),
            "hopeless": clock.taking("hopeless", 0.5, 0.05, then=0.001),
        },
        seconds=0.05,
    )
    assert times == pytest.approx({"fast": 0.002, "interrupted once": 0.003, "hopeless": 0.05})
    assert clock.calls["hopeless"] == 2
    assert clock.calls["fast"] > 2


def test_those_close_to_the_best_get_more_turns(monkeypatch):
    clock = Clock(monkeypatch)
    slow_at_first = itertools.repeat(0.0022, 60)
    times = time_in_turn(
        {
            "at once": clock.taking("at once", then=0.002),
            "once its core is fast": clock.taking("late", *slow_at_first, then=0.0019),
            "behind": clock.taking("behind", then=0.003),
        },
        seconds=0.05,
    )
    assert min(times, key=lambda name: times[name]) == "once its core is fast"
    assert clock.calls["behind"] < 60 < clock.calls["late"]
