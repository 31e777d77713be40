import json
import math
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cluster.teaching.curve import TeachCurve
from cluster.teaching.directory import TeachDirectory
from learners.teacher_search import TeachProgress


def progress(env_steps: int, mean_return: float) -> TeachProgress:
    return TeachProgress(
        env_steps=env_steps,
        mean_return=mean_return,
        episodes=env_steps // 10,
        elapsed_s=env_steps / 100,
        best_return=math.nan if env_steps < 20 else 50.0,
        greedy_return=50.0 if env_steps == 20 else math.nan,
    )


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def returns_shown(folder: Path) -> dict[int, float]:
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    return {event.step: event.value for event in events.Scalars("teach/return")}


def test_a_line_and_events_an_iteration(tmp_path: Path) -> None:
    curve = TeachCurve(TeachDirectory(tmp_path), after=0)
    curve.add(progress(10, math.nan))
    curve.add(progress(20, 22.0))
    curve.close()
    assert lines(tmp_path) == [
        {"teach/env_steps": 10, "teach/episodes": 1, "time/elapsed_s": 0.1},
        {
            "teach/env_steps": 20,
            "teach/return": 22.0,
            "teach/episodes": 2,
            "teach/greedy_return": 50.0,
            "teach/best_return": 50.0,
            "time/elapsed_s": 0.2,
        },
    ]
    assert returns_shown(tmp_path) == {20: 22.0}


def test_what_is_played_again_is_told_once(tmp_path: Path) -> None:
    first = TeachCurve(TeachDirectory(tmp_path), after=0)
    for env_steps in (10, 20, 30, 40):
        first.add(progress(env_steps, 1.0))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"teach/env_steps": 5')  # the process was killed
    again = TeachCurve(TeachDirectory(tmp_path), after=20)
    assert [line["teach/env_steps"] for line in lines(tmp_path)] == [10, 20]
    for env_steps in (30, 41):
        again.add(progress(env_steps, 2.0))
    assert [line["teach/env_steps"] for line in lines(tmp_path)] == [10, 20, 30, 41]
    assert returns_shown(tmp_path) == {10: 1.0, 20: 1.0, 30: 2.0, 41: 2.0}


def test_a_curve_in_an_object_store_goes_on(bucket: str) -> None:
    directory = TeachDirectory(f"{bucket}/teacher")
    for after, env_steps in ((0, (10, 20)), (10, (21,))):
        curve = TeachCurve(directory, after=after)
        for number in env_steps:
            curve.add(progress(number, 1.0))
        curve.close()
    kept = [json.loads(line) for line in directory.metrics.read_text().splitlines()]
    assert [line["teach/env_steps"] for line in kept] == [10, 21]
