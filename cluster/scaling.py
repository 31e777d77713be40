"""How many env runners: what is allowed, and what automatic scaling decides.

Automatic scaling (`[actors.scaling]`) looks at who waited for whom over an interval:

| learner waited for data | env runners waited for the rate limiter | then                   |
|-------------------------|-----------------------------------------|------------------------|
| above `HUNGRY`          | below `IDLE`                            | a quarter more, or one |
| below `FED`             | above `IDLE`                            | one fewer              |
| else                    |                                         | as it is               |

Between the bounds nothing changes, and a change is made only where two intervals in a row ask for
it. The interval starts anew with each change, once all that are wanted run; so new env runners
that wait for CPUs hold further growth up. They stay asked for, and Ray's autoscaler adds nodes for
actors that wait. A number given by hand wins: automatic scaling rests from then on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from actors.collector import CollectorStats
from actors.config import ScalingConfig
from actors.placement import SharedPlacement
from cluster.recipe.config import RunConfig
from common.errors import ConfigError
from common.trajectory import Life
from learners.trainer import TrainerStats

HUNGRY = 0.2
"""Share of time that the learner waits for data; above it, more env runners help."""
FED = 0.05
"""Share of time that the learner waits for data; below it, fewer env runners may do."""
IDLE = 0.3
"""Share of time that env runners wait for the rate limiter; above it, fewer would do."""
AGREEING = 2
"""Intervals in a row that must ask for the same change."""


def fewest_env_runners(config: RunConfig) -> int:
    """Return the smallest number of env runners that the recipe works with.

    Every replay shard and every shared inference actor needs one, and every share of a dataset its
    reader; upwards only the cluster's CPUs are a limit.
    """
    if config.dataset is not None:
        return config.actors.num_env_runners
    shared = config.actors.inference
    asked = shared.num_actors if isinstance(shared, SharedPlacement) else 1
    return max(1, config.replay.num_shards, asked, len(config.tasks))


def check_num_env_runners(config: RunConfig, num_env_runners: int) -> None:
    """Refuse a number of env runners that the recipe does not work with.

    Raises:
        ConfigError: it is too small.
    """
    fewest = fewest_env_runners(config)
    if num_env_runners < fewest:
        raise ConfigError(
            f"{num_env_runners} env runners are too few: replay.num_shards = "
            f"{config.replay.num_shards}, and actors.inference or [dataset], need at least {fewest}"
        )


@dataclass(frozen=True, slots=True)
class Waits:
    """Who waited for whom, as shares of an interval."""

    learner: float
    """For data."""
    env_runners: float
    """For the rate limiter, on average."""


def wanted_change(waits: Waits, num_env_runners: int) -> int:
    """Return by how many env runners an interval asks to grow (or, negative, to shrink)."""
    if waits.learner > HUNGRY and waits.env_runners < IDLE:
        return max(1, num_env_runners // 4)
    if waits.learner < FED and waits.env_runners > IDLE:
        return -1
    return 0


@dataclass(frozen=True, slots=True)
class _Mark:
    """The counters at an interval's start."""

    time_s: float
    learner_wait_s: float
    waits_s: dict[Life, float]


class AutoScaler:
    """Decides on the session's clock how many env runners there should be.

    Args:
        config: the bounds and the interval.
    """

    def __init__(self, config: ScalingConfig) -> None:
        self._config = config
        self._mark: _Mark | None = None
        self._asked: list[int] = []

    def decide(
        self,
        now_s: float,
        *,
        wanted: int,
        all_running: bool,
        trainer: TrainerStats,
        collectors: Sequence[CollectorStats],
    ) -> int:
        """Return how many env runners to want from now on.

        Args:
            now_s: the time, in seconds.
            wanted: how many are wanted now.
            all_running: whether they all run; nothing is measured until then.
            trainer: the learner's counters.
            collectors: the env runners' counters.
        """
        if not all_running:
            self._mark = None
            return wanted
        mark = _Mark(
            now_s,
            trainer.wait_s,
            {Life(found.runner_id, found.incarnation): found.wait_s for found in collectors},
        )
        if self._mark is None or self._mark.waits_s.keys() != mark.waits_s.keys():
            self._mark = mark
            return self._within(wanted)
        if now_s - self._mark.time_s < self._config.interval_s:
            return self._within(wanted)
        change = wanted_change(_waits(self._mark, mark), wanted)
        self._mark = mark
        self._asked = [*self._asked, change][-AGREEING:]
        agreed = len(self._asked) == AGREEING and (min(self._asked) > 0 or max(self._asked) < 0)
        if not agreed:
            return self._within(wanted)
        self._asked = []
        return self._within(wanted + change)

    def _within(self, number: int) -> int:
        return min(max(number, self._config.min_env_runners), self._config.max_env_runners)


def _waits(old: _Mark, new: _Mark) -> Waits:
    elapsed = new.time_s - old.time_s
    runners = [new.waits_s[life] - waited for life, waited in old.waits_s.items()]
    return Waits(
        learner=(new.learner_wait_s - old.learner_wait_s) / elapsed,
        env_runners=sum(runners) / len(runners) / elapsed if runners else 0.0,
    )
