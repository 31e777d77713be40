"""The learner's ranks as Ray actors, supervised: one that dies takes the others with it, and all
start again from the newest checkpoint.

Ranks that lose one of them fail in whatever they exchange, so what a rank raises is only taken at
its word where every rank is still alive.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from cluster.on_ray.actors import Handle, PolicyBytes, Reference
from cluster.on_ray.errors import one_line, own_error
from cluster.on_ray.pulse import Pulse
from cluster.on_ray.resources import PLACED_WITHIN_S, node_of
from common.errors import ResourceError, RunFailedError, StillhouseError
from common.trajectory import Life
from learners.config import LearnerConfig
from learners.counting import LifeCount
from learners.trainer import TrainerStats

logger = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 10.0
START_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 300.0
"""A last checkpoint with a large replay is written in it."""


class RayLearner:
    """The actors of all ranks, and how often they were started again.

    Args:
        start_rank: starts the actor of a rank.
        config: number of ranks, their resources and limits.
    """

    def __init__(self, start_rank: Callable[[int], Handle], config: LearnerConfig) -> None:
        self._start_rank = start_rank
        self._config = config
        self.restarts = 0
        self.stats: TrainerStats
        """The newest counters; known once the learner has started."""
        self._lives: dict[int, dict[Life, LifeCount]] = {}
        self.unsaved: str | None = None
        """After `student`: why the last checkpoint could not be written."""
        self._start()

    @property
    def actors(self) -> list[Handle]:
        """The actors, by rank."""
        return self._actors

    @property
    def running(self) -> list[Reference]:
        """The loops that have not been seen to end."""
        return self._running

    @property
    def lives(self) -> dict[Life, LifeCount]:
        """What was received of each env runner's life, by any rank."""
        return {life: count for lives in self._lives.values() for life, count in lives.items()}

    def mend(self, ended: list[Reference]) -> bool:
        """Start all ranks again where one died; return whether all loops ended as they should.

        Args:
            ended: of `running` (others are passed over).

        Raises:
            StillhouseError: what a rank raised, or they died too often.
        """
        for loop in [loop for loop in self._running if loop in ended]:
            try:
                ray.get(loop)
            except RayError as error:
                self._restart(error)
                return False
            self._running.remove(loop)
        return not self._running

    def wait_until_started(self) -> None:
        """Wait until all ranks have started and the counters are known.

        Raises:
            ResourceError: there is no room for them.
            StillhouseError: what a rank raised, or they died too often.
        """
        while True:
            restarts = self.restarts
            stats: Any = self._actors[0].stats.remote()
            ended, _ = ray.wait([stats, *self._running], num_returns=1, timeout=START_TIMEOUT_S)
            if not ended:
                raise ResourceError(
                    f"the learner did not start within {START_TIMEOUT_S:g} s: the cluster has "
                    f"not {self._config.num_ranks * self._config.num_cpus:g} CPUs and "
                    f"{self._config.num_ranks * self._config.num_gpus:g} GPUs free; wait, or ask "
                    f"for fewer"
                )
            answered = stats in ended
            self.mend(ended)
            if answered and self.restarts == restarts:
                try:
                    self.stats = ray.get(stats)
                except RayError as error:
                    self._restart(error)
                else:
                    self._lives[0] = self.stats.lives
                    return

    def waiting(self) -> int:
        """Return how many ranks have found no node since they were started again."""
        if time.monotonic() - self._started < PLACED_WITHIN_S:
            return 0
        return sum(
            pulse.last is None and node_of(actor) is None
            for actor, pulse in zip(self._actors, self.pulses, strict=True)
        )

    def look(self) -> None:
        """Take in what the pulses have brought."""
        if self.pulses[0].fresh:
            self.stats = self.pulses[0].last
        for rank, pulse in enumerate(self.pulses):
            if pulse.fresh:
                self._lives[rank] = pulse.last.lives

    def replace_frozen(self, silence_s: float) -> None:
        """Start all ranks again where one has not answered for so many seconds.

        Raises:
            RunFailedError: they died too often.
        """
        if self._running and any(pulse.silent_s > silence_s for pulse in self.pulses):
            self._restart(GetTimeoutError(f"it did not answer for {silence_s:g} s"))

    def take_teacher(self, teacher: Reference) -> None:
        """Hand over a newer version of the teacher and wait, within limits, until it is there.

        A rank that is started again meanwhile has it from the start.

        Args:
            teacher: Ray's reference to the teacher's bytes.
        """
        told = [actor.take_teacher.remote(teacher) for actor in self._actors]
        ray.wait(told, num_returns=len(told), timeout=ANSWER_TIMEOUT_S)

    def stop(self) -> list[Reference]:
        """Ask every rank to stop: the first one that hears it stops all."""
        return [actor.stop.remote() for actor in self._actors]

    def student(self) -> PolicyBytes | None:
        """Return the student once the loops have stopped, or None where they were dead.

        Raises:
            StillhouseError: what a rank raised, or they do not stop, or died too often.
        """
        try:
            ray.get(self._loops, timeout=STOP_TIMEOUT_S)
            student: PolicyBytes = ray.get(self._actors[0].student.remote(), timeout=STOP_TIMEOUT_S)
            self.unsaved = ray.get(self._actors[0].unsaved.remote(), timeout=STOP_TIMEOUT_S)
        except GetTimeoutError:
            raise RunFailedError(
                f"the learner did not stop within {STOP_TIMEOUT_S:g} s; go on from its newest "
                f"checkpoint with stillhouse resume"
            ) from None
        except RayError as error:
            self._restart(error)
            return None
        return student

    def _start(self) -> None:
        self._actors = [self._start_rank(rank) for rank in range(self._config.num_ranks)]
        self._started = time.monotonic()
        self.pulses = [Pulse(actor.stats.remote) for actor in self._actors]
        alone = len(self._actors) == 1
        meeting = None if alone else self._actors[0].open_meeting.remote()
        self._loops = [actor.run.remote(meeting) for actor in self._actors]
        self._running = list(self._loops)

    def _restart(self, error: RayError) -> None:
        """Start the ranks again where one died; what one raised itself ends the run."""
        if isinstance(error, RayTaskError):
            death = None if isinstance(error.cause, StillhouseError) else self._death()
            if death is None:
                raise own_error("the learner failed", error) from error
            error = death
        self.restarts += 1
        if self.restarts > self._config.max_restarts:
            raise RunFailedError(
                f"the learner died {self.restarts} times; the last time: {one_line(error)}"
            ) from error
        logger.warning(
            "the learner died (%s); starting it from the newest checkpoint", one_line(error)
        )
        # One that only cannot be reached must not write checkpoints beside the new one.
        for actor in self._actors:
            ray.kill(actor)
        self._start()

    def _death(self) -> RayError | None:
        """Ask every rank for a sign of life, and return why one gives none."""
        signs = [actor.pid.remote() for actor in self._actors]
        answered, silent = ray.wait(signs, num_returns=len(signs), timeout=ANSWER_TIMEOUT_S)
        for sign in answered:
            try:
                ray.get(sign)
            except RayError as death:
                return death
        return GetTimeoutError("one of its ranks does not answer") if silent else None
