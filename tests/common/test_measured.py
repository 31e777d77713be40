import json
import time
from pathlib import Path

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


def test_the_shortest_time_of_each_is_found_and_hopeless_ones_are_left_out():
    calls = {"fast": 0, "slow": 0, "hopeless": 0}

    def sleeper(name: str, seconds: float):
        def call() -> None:
            calls[name] += 1
            time.sleep(seconds)

        return call

    times = time_in_turn(
        {
            "fast": sleeper("fast", 0.002),
            "slow": sleeper("slow", 0.003),
            "hopeless": sleeper("hopeless", 0.05),
        },
        seconds=0.05,
    )
    assert 0.002 <= times["fast"] < times["slow"] < times["hopeless"]
    assert calls["hopeless"] == 2
    assert calls["fast"] > 2
