import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from actors.env_runner import EpisodeResult
from actors.shared_inference import InferenceStats
from cluster import telemetry as module
from cluster.run_directory import RunDirectory
from cluster.session import Snapshot
from cluster.spool import Spool
from cluster.telemetry import FEWEST_EPISODES, RATE_WINDOW_S, RECENT_EPISODES, Metrics, Telemetry
from common.trajectory import STUDENT, TEACHER, Life
from tests.cluster.snapshots import COLLECTOR, SHARD, SNAPSHOT, TRAINER
from tests.disk import FULL, needs_full

TEACHER_RETURN, RANDOM_RETURN = 500.0, 20.0


def trainer(**changes: Any) -> Snapshot:
    return replace(SNAPSHOT, trainer=replace(TRAINER, **changes))


def collectors(*changes: dict[str, Any]) -> Snapshot:
    return replace(SNAPSHOT, collectors=tuple(replace(COLLECTOR, **change) for change in changes))


def episodes(number: int, value: float, *, by: int = STUDENT) -> Snapshot:
    ended = EpisodeResult(acting_policy=by, episode_return=value, length=9, policy_version=1)
    return collectors({"episodes": (ended,) * number})


class Recorder:
    """A telemetry whose clock stands still until it is told the time."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.directory = RunDirectory(folder)
        self.telemetry = Telemetry(
            Spool(self.directory), teacher_return=TEACHER_RETURN, random_return=RANDOM_RETURN
        )

    def after(self, seconds: float, snapshot: Snapshot) -> Metrics:
        self.now += seconds
        return self.telemetry.record(snapshot)

    def lines(self) -> list[Metrics]:
        def refuse(constant: str) -> float:
            raise AssertionError(f"{constant} is no JSON")

        text = self.directory.metrics.read_text()
        assert text.endswith("\n")
        return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return Recorder(tmp_path, monkeypatch)


def test_every_figure_has_its_name(recorder: Recorder) -> None:
    snapshot = Snapshot(
        trainer=replace(
            TRAINER,
            learner_steps=3,
            env_steps=200,
            samples=384,
            window_size=150,
            policy_version=7,
            skipped_steps=1,
            metrics={"loss": 0.5, "kl": 0.25},
            teacher_version=2,
            relabelled=77,
            unknown_labels=5,
        ),
        collectors=(
            replace(COLLECTOR, policy_version=6, chunks=2),
            replace(COLLECTOR, runner_id=1, policy_version=4, chunks=2),
        ),
        shards=(
            replace(
                SHARD, inserted=100, sampled=192, transitions=80, num_bytes=4_000, duplicates=1
            ),
            replace(
                SHARD,
                inserted=110,
                sampled=200,
                transitions=90,
                num_bytes=4_500,
                unseen={Life(0, 0): 30, Life(1, 0): 6},
            ),
        ),
        restarts={"env_runner": 1, "learner": 1},
        finished=False,
        env_runners_wanted=3,
        collected=300,
        lost=64,
    )
    assert recorder.after(0.0, snapshot) == {
        "learner/env_steps": 200,
        "learner/steps": 3,
        "learner/samples": 384,
        "learner/learning_rate": 1e-3,
        "learner/skipped_steps": 1,
        "learner/window_transitions": 150,
        "learner/policy_version": 7,
        "learner/loss": 0.5,
        "learner/kl": 0.25,
        "replay/inserted": 210,
        "replay/sampled": 392,
        "replay/transitions": 170,
        "replay/bytes": 8_500,
        "replay/bytes_per_transition": 50.0,
        "replay/duplicates": 1,
        "replay/unseen": 36,
        "replay/relabelled": 77,
        "replay/unknown_labels": 5,
        "actor/env_runners": 2,
        "actor/env_steps": 300,
        "actor/policy_lag_versions": 3,
        "actor/env_runners_wanted": 3,
        "cluster/restarts": 2,
        "cluster/lost": 64,
        "cluster/standstill_s": 0.0,
        "teacher/return": TEACHER_RETURN,
        "teacher/version": 2,
        "random/return": RANDOM_RETURN,
        "time/elapsed_s": 0.0,
    }


def test_a_shared_teacher_tells_how_many_it_answers_at_once(recorder: Recorder) -> None:
    stats = InferenceStats(life="a", ready=True, pid=1, num_rows=300, num_batches=3)
    other = replace(stats, num_rows=100, num_batches=1)
    metrics = recorder.after(0.0, replace(SNAPSHOT, inference=(stats, other)))
    assert metrics["inference/batch_size"] == 100.0
    idle = replace(stats, num_rows=0, num_batches=0)
    metrics = recorder.after(1.0, replace(SNAPSHOT, inference=(idle,)))
    assert "inference/batch_size" not in metrics


def test_what_is_not_there_yet_has_no_figure(recorder: Recorder) -> None:
    metrics = recorder.after(0.0, replace(SNAPSHOT, collectors=(), shards=()))
    assert metrics["actor/env_runners"] == 0
    assert "actor/policy_lag_versions" not in metrics
    assert "replay/bytes_per_transition" not in metrics


def test_a_runner_ahead_of_a_restarted_learner_has_no_lag(recorder: Recorder) -> None:
    metrics = recorder.after(0.0, collectors({"policy_version": 9, "chunks": 1}))
    assert metrics["actor/policy_lag_versions"] == 0


def test_a_runner_that_has_not_collected_yet_has_no_lag(recorder: Recorder) -> None:
    found = collectors({"policy_version": 0}, {"runner_id": 1, "policy_version": 6, "chunks": 1})
    found = replace(found, trainer=replace(found.trainer, policy_version=7))
    assert recorder.after(0.0, found)["actor/policy_lag_versions"] == 1


def test_rates_are_differences_over_time(recorder: Recorder) -> None:
    first = collectors({"env_steps": 50, "wait_s": 1.0}, {"runner_id": 1})
    second = collectors(
        {"env_steps": 250, "wait_s": 2.0}, {"runner_id": 1, "env_steps": 100, "wait_s": 4.0}
    )
    assert not [name for name in recorder.after(0.0, first) if name.endswith("_per_s")]
    stats = replace(TRAINER, env_steps=400, samples=800, wait_s=2.5)
    metrics = recorder.after(10.0, replace(second, trainer=stats))
    assert metrics["learner/env_steps_per_s"] == 40.0
    assert metrics["learner/samples_per_s"] == 80.0
    assert metrics["learner/wait_share"] == 0.25
    assert metrics["actor/env_steps_per_s"] == 30.0
    assert metrics["actor/wait_share"] == 0.25  # 1 s and 4 s of two times 10 s
    assert metrics["time/elapsed_s"] == 10.0


def test_rates_forget_what_is_longer_ago_than_their_window(recorder: Recorder) -> None:
    recorder.after(0.0, trainer(env_steps=0))
    recorder.after(RATE_WINDOW_S, trainer(env_steps=1_000_000))
    metrics = recorder.after(5.0, trainer(env_steps=1_000_050))
    assert metrics["learner/env_steps_per_s"] == 10.0


def test_a_pause_longer_than_the_window_still_has_a_rate(recorder: Recorder) -> None:
    recorder.after(0.0, trainer(env_steps=0))
    metrics = recorder.after(4 * RATE_WINDOW_S, trainer(env_steps=160))
    assert metrics["learner/env_steps_per_s"] == 160 / (4 * RATE_WINDOW_S)


def test_shares_of_time_stay_between_0_and_1(recorder: Recorder) -> None:
    # A wait is booked when it ends, so more than the time between two reports can be booked.
    recorder.after(0.0, SNAPSHOT)
    waited = replace(collectors({"wait_s": 7.0}), trainer=replace(TRAINER, wait_s=7.0))
    metrics = recorder.after(5.0, waited)
    assert (metrics["learner/wait_share"], metrics["actor/wait_share"]) == (1.0, 1.0)
    back = recorder.after(1.0, collectors({"wait_s": -1.0}))
    assert (back["learner/wait_share"], back["actor/wait_share"]) == (0.0, 0.0)


def test_a_restarted_learner_that_counts_from_less_gives_no_negative_rate(
    recorder: Recorder,
) -> None:
    recorder.after(0.0, trainer(env_steps=9_000, samples=9_000, wait_s=50.0))
    metrics = recorder.after(1.0, trainer(env_steps=4_000, samples=4_000, wait_s=0.0))
    assert metrics["learner/env_steps"] == 4_000
    for name in ("env_steps_per_s", "samples_per_s", "wait_share"):
        assert metrics[f"learner/{name}"] == 0.0


def test_a_restarted_env_runner_is_not_compared_with_its_former_life(recorder: Recorder) -> None:
    recorder.after(0.0, collectors({"env_steps": 9_000}, {"runner_id": 1, "env_steps": 100}))
    metrics = recorder.after(
        10.0,
        collectors({"incarnation": 1, "env_steps": 50}, {"runner_id": 1, "env_steps": 300}),
    )
    assert metrics["actor/env_steps_per_s"] == 20.0
    alone = collectors({"incarnation": 2}, {"runner_id": 1, "incarnation": 1})
    assert "actor/env_steps_per_s" not in recorder.after(1.0, alone)


def test_a_restarted_env_runner_is_compared_within_its_new_life(recorder: Recorder) -> None:
    recorder.after(0.0, collectors({"incarnation": 1, "env_steps": 50}))
    metrics = recorder.after(10.0, collectors({"incarnation": 1, "env_steps": 150}))
    assert metrics["actor/env_steps_per_s"] == 10.0


def test_the_students_return_needs_enough_episodes_of_its_own(recorder: Recorder) -> None:
    recorder.after(1.0, episodes(1_000, TEACHER_RETURN, by=TEACHER))
    metrics = recorder.after(1.0, episodes(FEWEST_EPISODES - 1, 260.0))
    assert not [name for name in metrics if name.startswith("student/")]
    metrics = recorder.after(1.0, episodes(1, 260.0))
    assert metrics["student/training_return"] == 260.0
    assert metrics["student/share_of_teacher"] == (260.0 - RANDOM_RETURN) / (500.0 - RANDOM_RETURN)


def test_the_students_return_is_of_its_last_episodes(recorder: Recorder) -> None:
    recorder.after(1.0, episodes(RECENT_EPISODES, 20.0))
    metrics = recorder.after(1.0, episodes(RECENT_EPISODES // 4, 420.0))
    assert metrics["student/training_return"] == 120.0
    assert recorder.after(1.0, SNAPSHOT)["student/training_return"] == 120.0


@pytest.mark.parametrize("teacher_return", [RANDOM_RETURN, RANDOM_RETURN - 1])
def test_a_teacher_no_better_than_random_has_no_share(
    teacher_return: float, tmp_path: Path
) -> None:
    telemetry = Telemetry(
        Spool(RunDirectory(tmp_path)), teacher_return=teacher_return, random_return=RANDOM_RETURN
    )
    metrics = telemetry.record(episodes(FEWEST_EPISODES, 30.0))
    assert metrics["student/training_return"] == 30.0
    assert "student/share_of_teacher" not in metrics


def test_a_newer_teacher_is_what_the_student_is_compared_with(recorder: Recorder) -> None:
    metrics = recorder.after(0.0, episodes(FEWEST_EPISODES, 260.0))
    assert metrics["student/share_of_teacher"] == pytest.approx(0.5)
    recorder.telemetry.take_teacher(mean_return=980.0)
    metrics = recorder.after(1.0, episodes(1, 260.0))
    assert metrics["student/share_of_teacher"] == pytest.approx(0.25)
    assert metrics["teacher/return"] == 980.0


def test_every_record_is_a_line_of_json(recorder: Recorder) -> None:
    told = [
        recorder.after(1.0, trainer(env_steps=steps, metrics={"loss": 0.1 * steps}))
        for steps in range(3)
    ]
    assert recorder.lines() == told


def test_a_run_that_goes_on_adds_to_the_lines(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder.after(1.0, SNAPSHOT)
    resumed = Recorder(recorder.directory.path, monkeypatch)
    resumed.after(1.0, trainer(env_steps=5))
    assert [line["learner/env_steps"] for line in recorder.lines()] == [0, 5]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_left_out_and_ends_nothing(value: float, recorder: Recorder) -> None:
    metrics = recorder.after(1.0, trainer(metrics={"loss": value, "kl": 0.5}))
    assert "learner/loss" not in metrics
    assert metrics["learner/kl"] == 0.5
    assert recorder.lines() == [metrics]


def test_tensorboard_gets_every_figure_at_its_env_step(recorder: Recorder) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    metrics = recorder.after(1.0, trainer(env_steps=123, metrics={"loss": 0.5}))
    events = EventAccumulator(str(recorder.directory.tensorboard)).Reload()
    assert set(events.Tags()["scalars"]) == set(metrics)
    (loss,) = events.Scalars("learner/loss")
    assert (loss.step, loss.value) == (123, 0.5)


def test_a_standstill_has_a_figure(recorder: Recorder) -> None:
    metrics = recorder.telemetry.record(SNAPSHOT, standstill_s=75.0)
    assert metrics["cluster/standstill_s"] == 75.0


@needs_full
def test_a_full_disk_costs_figures_and_not_the_run(recorder: Recorder, caplog) -> None:
    path = Path(recorder.directory.metrics.path)
    path.symlink_to(FULL)
    for _ in range(2):
        assert recorder.after(1.0, SNAPSHOT)["learner/env_steps"] == 0
    path.unlink()
    told = [recorder.after(1.0, trainer(env_steps=steps)) for steps in (1, 2)]
    assert recorder.lines() == told
    assert caplog.messages == [
        f"{path} cannot be written (No space left on device); the run goes on without it",
        f"{path} is written again; it lacks 2 records",
    ]


def test_a_line_that_a_killed_process_left_half_is_cut_off(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = recorder.after(1.0, SNAPSHOT)
    with Path(recorder.directory.metrics.path).open("a", encoding="utf-8") as file:
        file.write('{"learner/env_st')
    second = Recorder(recorder.directory.path, monkeypatch).after(1.0, trainer(env_steps=5))
    assert recorder.lines() == [first, second]
