"""Which numbers of env runners are allowed, and what measured waits ask for."""

from dataclasses import replace
from pathlib import Path

import pytest

from actors.collector import CollectorStats
from actors.config import ScalingConfig
from cluster.scaling import (
    AutoScaler,
    Waits,
    check_num_env_runners,
    fewest_env_runners,
    wanted_change,
)
from common.errors import ConfigError
from tests.cartpole import load_config
from tests.cluster.fake_ray import COLLECTOR, TRAINER


@pytest.mark.parametrize(
    ("overrides", "fewest"),
    [
        ((), 1),
        (("actors.num_env_runners=4", "replay.num_shards=3"), 3),
        (
            (
                "actors.num_env_runners=4",
                "actors.inference.placement=shared",
                "actors.inference.num_actors=2",
            ),
            2,
        ),
    ],
)
def test_every_shard_and_shared_teacher_needs_an_env_runner(
    overrides: tuple[str, ...], fewest: int, tmp_path: Path
) -> None:
    config = load_config(tmp_path, *overrides)
    assert fewest_env_runners(config) == fewest
    check_num_env_runners(config, fewest)
    check_num_env_runners(config, 1_000)
    with pytest.raises(ConfigError, match=f"need at least {fewest}"):
        check_num_env_runners(config, fewest - 1)


def test_bounds_that_cannot_hold_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="min_env_runners = 3 is above max_env_runners = 2"):
        load_config(
            tmp_path, "actors.scaling.min_env_runners=3", "actors.scaling.max_env_runners=2"
        )
    with pytest.raises(ConfigError, match=r"min_env_runners = 1: fewer than .*num_shards = 2"):
        load_config(
            tmp_path,
            "actors.scaling.max_env_runners=8",
            "replay.num_shards=2",
            "actors.num_env_runners=2",
        )


@pytest.mark.parametrize(
    ("learner", "env_runners", "number", "change"),
    [
        (0.5, 0.0, 1, 1),
        (0.5, 0.0, 16, 4),
        (0.5, 0.9, 4, 0),  # both wait: neither is what the other lacks
        (0.1, 0.0, 4, 0),
        (0.1, 0.9, 4, 0),  # between the bounds nothing changes
        (0.0, 0.9, 4, -1),
        (0.0, 0.1, 4, 0),
    ],
)
def test_waits_ask_for_more_or_fewer(
    learner: float, env_runners: float, number: int, change: int
) -> None:
    assert wanted_change(Waits(learner, env_runners), number) == change


class Run:
    """A run in which the sides wait for given shares of the time."""

    def __init__(self, wanted: int, **config: float) -> None:
        bounds = {"min_env_runners": 1, "max_env_runners": 5, "interval_s": 10.0}
        self.scaler = AutoScaler(ScalingConfig.model_validate(bounds | config))
        self.wanted = wanted
        self.now = 0.0
        self.learner_wait_s = 0.0
        self.wait_s = 0.0

    def goes_on(
        self, seconds: float, *, learner: float, env_runners: float, all_running: bool = True
    ) -> int:
        """Let time pass and ask for a decision."""
        self.now += seconds
        self.learner_wait_s += learner * seconds
        self.wait_s += env_runners * seconds
        collectors: list[CollectorStats] = [
            replace(COLLECTOR, runner_id=index, wait_s=self.wait_s) for index in range(self.wanted)
        ]
        self.wanted = self.scaler.decide(
            self.now,
            wanted=self.wanted,
            all_running=all_running,
            trainer=replace(TRAINER, wait_s=self.learner_wait_s),
            collectors=collectors,
        )
        return self.wanted


HUNGRY = {"learner": 0.6, "env_runners": 0.0}
IDLE = {"learner": 0.0, "env_runners": 0.8}
CONTENT = {"learner": 0.1, "env_runners": 0.1}


def test_a_hungry_learner_gets_env_runners_up_to_the_bound() -> None:
    run = Run(2)
    seen = [run.goes_on(10, **HUNGRY) for _ in range(12)]
    assert seen == [2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 5]


def test_env_runners_that_wait_are_released_down_to_the_bound() -> None:
    run = Run(3)
    seen = [run.goes_on(10, **IDLE) for _ in range(12)]
    assert seen == [3, 3, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1]


def test_one_interval_alone_changes_nothing() -> None:
    run = Run(2)
    run.goes_on(0, **CONTENT)
    for waits in (HUNGRY, CONTENT, IDLE, HUNGRY, IDLE):
        assert run.goes_on(10, **waits) == 2


def test_nothing_is_decided_within_an_interval() -> None:
    run = Run(2)
    assert {run.goes_on(0.5, **HUNGRY) for _ in range(40)} == {2}
    assert run.goes_on(0.5, **HUNGRY) == 3


def test_nothing_is_measured_while_some_are_missing() -> None:
    run = Run(2)
    for _ in range(5):
        assert run.goes_on(10, **HUNGRY, all_running=False) == 2
    assert [run.goes_on(10, **HUNGRY) for _ in range(3)] == [2, 2, 3]


@pytest.mark.parametrize(("started", "bounded"), [(9, 5), (1, 2)])
def test_a_number_outside_the_bounds_is_brought_back(started: int, bounded: int) -> None:
    run = Run(started, min_env_runners=2)
    assert run.goes_on(1, **CONTENT) == bounded
