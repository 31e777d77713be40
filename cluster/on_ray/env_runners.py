"""The env runners of a run on Ray: as many as are wanted, started again where they die or freeze.

| an env runner | is                                                                              |
|---------------|---------------------------------------------------------------------------------|
| starting      | asked for; it waits for CPUs, or builds its environments                        |
| running       | has answered once; silence from now on counts                                   |
| leaving       | told to stop: it finishes its chunk, hands it over, and is ended, within a time |

A number is used again by the next env runner in its place, with a higher incarnation, so chunk ids
never come twice. Nothing here waits for an env runner. Env runners that wait for CPUs stay asked
for, which is what Ray's autoscaler adds nodes for.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError

from actors.collector import CollectorStats
from actors.config import ActorsConfig
from cluster.on_ray.actors import LEAVE_TIMEOUT_S, Handle, Reference
from cluster.on_ray.errors import one_line
from cluster.on_ray.pulse import Pulse
from cluster.on_ray.resources import PLACED_WITHIN_S, node_of
from common.errors import RunFailedError
from common.trajectory import Life

logger = logging.getLogger(__name__)

MAX_FAILED_STARTS = 2
"""Env runners that raise while they are built, in a row, before the run gives up."""


@dataclass(slots=True, eq=False)
class _Runner:
    """An env runner's actor, its running loop, and its reports."""

    life: Life
    actor: Handle
    loop: Reference
    pulse: Pulse
    started: float
    leave_by: float = 0.0
    """When it is ended at the latest, once it leaves."""


class EnvRunners:
    """The actors of all env runners.

    Args:
        start: starts the actor of a life; told whether it begins paused.
        config: their limits.
        fewest: how many the run cannot do without.
        first_incarnation: above that of every env runner whose chunks the learner has had.
    """

    def __init__(
        self,
        start: Callable[[Life, bool], Handle],
        config: ActorsConfig,
        *,
        fewest: int,
        first_incarnation: int,
    ) -> None:
        self._start_actor = start
        self._config = config
        self._fewest = fewest
        self._first_incarnation = first_incarnation
        self._incarnations: dict[int, int] = {}
        self._runners: dict[int, _Runner] = {}
        self._leaving: list[_Runner] = []
        self._farewells: list[CollectorStats] = []
        self._paused = False
        self._failed_starts = 0
        self.restarts = 0
        self.wanted = config.num_env_runners
        self.collected: dict[Life, int] = {}
        """Transitions that each life has reported."""
        self.adjust()

    @property
    def paused(self) -> bool:
        """Whether collecting is to rest."""
        return self._paused

    @property
    def loops(self) -> list[Reference]:
        """What to watch for ends."""
        return [runner.loop for runner in self._all]

    @property
    def pulses(self) -> list[Pulse]:
        """What to collect reports from."""
        return [runner.pulse for runner in self._all]

    @property
    def actors(self) -> list[Handle]:
        """All actors, those that leave with them."""
        return [runner.actor for runner in self._all]

    @property
    def lives(self) -> set[Life]:
        """Of the env runners that are not ended."""
        return {runner.life for runner in self._all}

    @property
    def all_running(self) -> bool:
        """Whether the wanted number runs, and nobody leaves."""
        answered = sum(runner.pulse.last is not None for runner in self._runners.values())
        return answered == self.wanted and not self._leaving

    def actor(self, index: int) -> Handle:
        """Return the actor of an env runner by its number."""
        return self._runners[index].actor

    def pause(self, paused: bool) -> None:
        """Let all rest after the chunk in hand, or go on."""
        if paused != self._paused:
            self._paused = paused
            for runner in self._runners.values():
                runner.actor.pause.remote(paused)

    def mend(self, ended: list[Reference]) -> None:
        """Start again those whose loop ended, and see off those that were told to stop.

        Args:
            ended: of `loops` (others are passed over).

        Raises:
            RunFailedError: too many died, or they cannot be built.
        """
        for runner in [runner for runner in self._all if runner.loop in ended]:
            try:
                last: Any = ray.get(runner.loop)
            except RayError as error:
                if runner not in self._leaving:
                    self._start_again(runner, error)
                    continue
            else:
                self._take(last)
                self._farewells.append(last)
            self._end(runner)

    def adjust(self, *, make_room: bool = False) -> None:
        """Start and stop env runners until as many as wanted are asked for.

        Args:
            make_room: instead let one after another go that the run can do without.
        """
        number = self.wanted
        if make_room:
            there = len(self._runners)
            number = min(number, there if self._leaving else max(self._fewest, there - 1))
        for index in range(number):
            if index not in self._runners:
                self._runners[index] = self._start(index)
        for index in [index for index in self._runners if index >= number]:
            self._dismiss(self._runners.pop(index))
        for runner in [runner for runner in self._leaving if time.monotonic() > runner.leave_by]:
            self._end(runner)

    def replace_frozen(self, silence_s: float) -> None:
        """Start again those that have not answered for so many seconds."""
        for runner in list(self._runners.values()):
            if runner.pulse.silent_s > silence_s:
                self._start_again(runner, GetTimeoutError(f"it did not answer for {silence_s:g} s"))

    def reports(self) -> tuple[CollectorStats, ...]:
        """Return the newest reports of all that have answered; every episode is in one only."""
        farewells, self._farewells = self._farewells, []
        found = []
        for runner in self._all:
            last: CollectorStats | None = runner.pulse.last
            if last is None:
                continue
            if runner.pulse.fresh:
                self._failed_starts = 0
                self._take(last)
            found.append(last if runner.pulse.fresh else replace(last, episodes=()))
        return (*found, *farewells)

    def waiting(self) -> int:
        """Return how many have found no node with the CPUs that they need."""
        now = time.monotonic()
        return sum(
            runner.pulse.last is None
            and now - runner.started > PLACED_WITHIN_S
            and node_of(runner.actor) is None
            for runner in self._runners.values()
        )

    def stop(self) -> list[Reference]:
        """Tell all to end after the chunk in hand."""
        return [runner.actor.stop.remote() for runner in self._all]

    @property
    def _all(self) -> list[_Runner]:
        return [*(self._runners[index] for index in sorted(self._runners)), *self._leaving]

    def _take(self, report: CollectorStats) -> None:
        self.collected[Life(report.runner_id, report.incarnation)] = report.env_steps

    def _start(self, index: int) -> _Runner:
        incarnation = self._incarnations.get(index, self._first_incarnation)
        self._incarnations[index] = incarnation + 1
        life = Life(index, incarnation)
        actor = self._start_actor(life, self._paused)
        return _Runner(life, actor, actor.run.remote(), Pulse(actor.stats.remote), time.monotonic())

    def _start_again(self, runner: _Runner, error: RayError) -> None:
        reason = one_line(error)
        if isinstance(error, RayActorError) and error.actor_init_failed:
            self._failed_starts += 1
            if self._failed_starts >= MAX_FAILED_STARTS:
                raise RunFailedError(f"env runners cannot start: {reason}") from error
        self.restarts += 1
        if self.restarts > self._config.max_restarts:
            raise RunFailedError(
                f"env runners died {self.restarts} times; the last time: {reason}"
            ) from error
        index = runner.life.runner
        logger.warning("env runner %d died (%s); starting it again", index, reason)
        # One that only hangs must not wake up beside its next incarnation.
        ray.kill(runner.actor)
        self._runners[index] = self._start(index)

    def _dismiss(self, runner: _Runner) -> None:
        if runner.pulse.last is None:  # it has nothing to hand over yet
            ray.kill(runner.actor)
            return
        runner.actor.stop.remote()
        runner.leave_by = time.monotonic() + LEAVE_TIMEOUT_S
        self._leaving.append(runner)

    def _end(self, runner: _Runner) -> None:
        """End one that leaves, or whose loop ended."""
        ray.kill(runner.actor)
        with suppress(ValueError):
            self._leaving.remove(runner)
        if self._runners.get(runner.life.runner) is runner:
            del self._runners[runner.life.runner]
