"""The bench measures real work, and its figures follow from its parts by their definitions."""

import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.bench import rounds as bench_rounds
from cluster.bench.parts import SLICE_S, Part, build_parts, measure_in_turn, real_observations
from cluster.bench.report import BenchReport
from cluster.bench.rounds import run_bench
from cluster.prepare import Preparation, prepare
from cluster.session import Backend
from tests.cartpole import load_config

FIGURES = {
    "overlap_shared",
    "overlap_shared_ceiling",
    "learner_wait",
    "env_runner_wait",
    "efficiency",
    "overlap",
    "collector",
    "inference",
    "training_step",
    "bytes_per_transition",
    "gather",
    "data_wait",
    "samples_per_insert",
    "transitions_per_s",
    "samples_per_s",
}


@pytest.fixture
def preparation(tmp_path: Path) -> Preparation:
    return prepare(load_config(tmp_path), num_cpus=2, num_gpus=0)


def test_every_part_does_work_that_can_be_measured(preparation: Preparation) -> None:
    assert preparation.teacher is not None
    teacher = preparation.teacher
    observations = real_observations(preparation, teacher, 64)
    assert observations.shape == (64, 4)
    parts = build_parts(preparation, teacher, observations)
    speeds = measure_in_turn(list(parts), 0.02)
    assert {"environment", "env_runner", "teacher_forward", "training_step"} <= speeds.keys()
    assert all(speed > 0 for speed in speeds.values()), speeds
    assert speeds["env_runner"] < speeds["environment"] * 1.5


def test_parts_work_in_turn_and_count_units_by_the_second() -> None:
    order: list[str] = []

    def work(name: str, units: float, pause_s: float) -> Callable[[], float]:
        def call() -> float:
            order.append(name)
            time.sleep(pause_s)
            return units

        return call

    parts = [Part("a", work("a", 3.0, 0.01)), Part("b", work("b", 1.0, 0.02))]
    speeds = measure_in_turn(parts, 0.15)
    assert 0 < speeds["a"] <= 3.0 / 0.01
    assert 0 < speeds["b"] <= 1.0 / 0.02
    # Two turns of both, each in an order of its own, so two slices of one part may meet.
    turns = [name for name, _ in itertools.groupby(order)]
    assert set(turns[:2]) == {"a", "b"}
    assert len(turns) >= 3


def test_parts_that_are_compared_work_one_right_after_another() -> None:
    order: list[str] = []

    def work(name: str) -> Callable[[], float]:
        def call() -> float:
            order.append(name)
            time.sleep(0.03)
            return 1.0

        return call

    parts = [Part(name, work(name), name[0]) for name in ("a1", "b1", "a2", "b2", "a3", "b3")]
    measure_in_turn(parts, SLICE_S)
    turns = [name for name, _ in itertools.groupby(order)]
    assert sorted(turns) == ["a1", "a2", "a3", "b1", "b2", "b3"]
    assert len(list(itertools.groupby(turns, key=lambda name: name[0]))) == 2


def test_the_figures_follow_their_definitions(preparation: Preparation) -> None:
    parts = {
        "environment": [[2_000.0]],
        "env_runner_without_networks": [[1_900.0]],
        "teacher_forward": [[8_000.0]],
        "student_forward": [[16_000.0]],
        "teacher_forward float32, layout contiguous": [[4_000.0]],
        "teacher_forward float16, layout blocks": [[10_000.0]],
        "training_step": [[40_000.0]],
        "training_step micro-batches of 64, layout blocks": [[50_000.0]],
        "gather": [[4e9]],
        "memcpy": [[8e9]],
    }
    whole = {
        "transitions_per_s": [1_000.0],
        "samples_per_s": [8_000.0],
        "collectors_alone_per_s": [4_000.0],
        "bytes_per_transition": [60.0],
        "data_wait": [0.01],
        "learner_wait": [0.2],
        "env_runner_wait": [0.1],
        "split_transitions_per_s": [900.0],
        "split_collectors_alone_per_s": [1_800.0],
        "samples_per_insert": [8.0],
    }
    config = preparation.config
    figures = BenchReport(config=config, num_cores=2, parts=parts, whole=whole).figures()
    needed = 1 / 2_000 + 1 / 8_000 + 1 / 16_000 + 8 / 40_000
    assert figures.keys() == FIGURES
    assert figures["efficiency"] == pytest.approx(1_000 / (2 / needed))
    assert figures["overlap"] == pytest.approx(900 / min(1_800, 40_000 / 8))
    assert figures["overlap_shared"] == pytest.approx(1_000 / min(4_000, 40_000 / 8))
    assert figures["overlap_shared_ceiling"] == pytest.approx((needed - 8 / 40_000) / needed)
    assert figures["training_step"] == pytest.approx(0.8)
    assert figures["collector"] == pytest.approx(0.95)
    assert figures["inference"] == pytest.approx(0.8)
    assert figures["gather"] == pytest.approx(0.5)


def test_ratios_are_of_the_same_round(preparation: Preparation) -> None:
    """A machine that is slow for a whole round changes no ratio."""
    parts = {
        "environment": [[2_000.0], [200.0], [1_000.0]],
        "env_runner_without_networks": [[1_800.0], [190.0], [990.0]],
        "teacher_forward": [[4.0], [8.0], [1.0]],
        "teacher_forward one": [[5.0], [10.0], [1.0]],
        "teacher_forward other": [[1.0], [1.0], [1.0]],
        "training_step": [[1.0], [2.0], [3.0]],
        "training_step one": [[1.0], [2.0], [3.0]],
        "gather": [[1.0], [2.0], [6.0]],
        "memcpy": [[2.0], [4.0], [6.0]],
    }
    report = BenchReport(config=preparation.config, num_cores=2, parts=parts, whole={})
    assert report.figures() == pytest.approx(
        {"collector": 0.95, "inference": 0.8, "training_step": 1.0, "gather": 0.5}
    )


def test_ratios_are_of_what_was_measured_side_by_side(preparation: Preparation) -> None:
    """A machine that changes its speed within a round changes no ratio."""
    same = ("teacher_forward", "teacher_forward one", "training_step", "training_step one")
    parts = {name: [[1.0, 1.0, 1.0]] for name in (*same, "gather", "memcpy")}
    parts["environment"] = [[2_000.0, 200.0, 1_000.0]]
    parts["env_runner_without_networks"] = [[1_900.0, 190.0, 990.0]]
    report = BenchReport(config=preparation.config, num_cores=2, parts=parts, whole={})
    assert report.figures()["collector"] == pytest.approx(0.95)
    assert report.as_json()["rounds"]["environment"] == [1_000.0]


@pytest.mark.ray
@pytest.mark.slow
def test_a_round_on_ray_gives_every_figure(
    preparation: Preparation, ray_backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_rounds, "SETTLE_S", 1.0)

    class Kept:
        """The test's backend, which the bench must not end before its time."""

        evaluate = ray_backend.evaluate
        distil = ray_backend.distil

        def close(self) -> None:
            """Leave it to the test."""

    assert preparation.teacher is not None
    said: list[str] = []
    report = run_bench(
        preparation,
        preparation.teacher,
        Kept,
        num_cores=2,
        seconds=1.0,
        rounds=1,
        with_whole=True,
        say=said.append,
    )
    figures = json.loads(json.dumps(report.as_json()))
    assert figures.keys() >= FIGURES
    assert figures["transitions_per_s"] > 0
    assert figures["samples_per_insert"] == pytest.approx(8.0, rel=0.5)
    assert report.tables()
    assert "round 1 of 1" in said
