"""The supervisor's side of the shared teacher: starts its actors and gives each life its teacher.

Nothing here waits for the data's road, and nothing there waits for this, but for questions to an
actor that was started again: they wait for the next `poll`.
"""

import time
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayError

from actors.placement import SharedPlacement
from actors.shared_inference import InferenceStats
from cluster.on_ray.actors import RAY_SHARED_INFERENCE, Handle, Reference
from cluster.on_ray.errors import own_error
from cluster.on_ray.shared_teacher import SharedTeacher
from cluster.recipe.config import RunConfig
from common.errors import ResourceError
from common.policies.spec import PolicySpec

POLL_S = 0.2


class SharedTeachers:
    """The shared inference actors of a session; none where the teacher computes elsewhere.

    Args:
        config: the recipe.
        spec: the teacher's.
        teacher: Ray's reference to the teacher's bytes; it is kept for every new life, until `take`
            gives a newer one.
        place: returns Ray's scheduling strategy for an actor by its number.
    """

    def __init__(
        self,
        config: RunConfig,
        spec: PolicySpec,
        teacher: Reference,
        *,
        place: Callable[[int], Any],
    ) -> None:
        self._spec = spec
        self._teacher = teacher
        self._actors: list[Handle] = []
        shared = config.actors.inference
        if isinstance(shared, SharedPlacement):
            recipe = config.model_dump_json()
            self._actors = [
                RAY_SHARED_INFERENCE.options(
                    num_cpus=shared.num_cpus,
                    num_gpus=shared.num_gpus,
                    max_restarts=config.actors.max_restarts,
                    scheduling_strategy=place(index),
                ).remote(recipe)
                for index in range(shared.num_actors)
            ]
        self._asked: list[Reference] = [actor.stats.remote() for actor in self._actors]
        self._loads: dict[int, Reference] = {}
        self._stats: dict[int, InferenceStats] = {}
        self.restarts = 0
        """Times that an actor was started again."""

    def of_runner(self, index: int) -> SharedTeacher | None:
        """Return what an env runner asks; None where it has a teacher of its own."""
        if not self._actors:
            return None
        return SharedTeacher(self._spec, self._actors[index % len(self._actors)])

    def wait_until_ready(self, timeout_s: float) -> None:
        """Wait until every actor has its teacher.

        Raises:
            ResourceError: one found no room on the cluster.
            RunFailedError: one cannot start or cannot take its teacher.
        """
        deadline = time.monotonic() + timeout_s
        while sum(stats.ready for stats in self.poll()) < len(self._actors):
            if time.monotonic() >= deadline:
                raise ResourceError(
                    f"shared inference did not start within {timeout_s:g} s: the cluster has not "
                    f"the CPUs or GPUs free that actors.inference asks for; wait, or ask for fewer"
                )
            ray.wait(self._asked, num_returns=1, timeout=POLL_S)

    def poll(self) -> tuple[InferenceStats, ...]:
        """Return the newest reports without waiting for any.

        A life that has no teacher yet gets it, and restarts are counted.

        Raises:
            RunFailedError: an actor died more often than Ray starts it again, or cannot take the
                teacher.
        """
        for index, actor in enumerate(self._actors):
            stats: InferenceStats | None = _answer(self._asked[index])
            if stats is None:
                continue
            former = self._stats.get(index)
            self.restarts += former is not None and former.life != stats.life
            self._stats[index] = stats
            self._asked[index] = actor.stats.remote()
            if not stats.ready:
                self._load(index)
        return tuple(self._stats.values())

    def take(self, teacher: Reference) -> None:
        """Hand a newer version of the teacher to every actor, and to every new life from now on."""
        self._teacher = teacher
        for index, stats in self._stats.items():
            if stats.ready:
                self._loads[index] = self._actors[index].load.remote(teacher)

    def kill(self) -> None:
        """End the actors; whoever asks them must have ended before."""
        for actor in self._actors:
            ray.kill(actor)

    def _load(self, index: int) -> None:
        """Hand the teacher over, unless that is under way."""
        if index in self._loads:
            if not _is_done(self._loads[index]):
                return
            _answer(self._loads[index])  # raises what went wrong; else it was another life's
        self._loads[index] = self._actors[index].load.remote(self._teacher)


def _is_done(reference: Reference) -> bool:
    return bool(ray.wait([reference], num_returns=1, timeout=0)[0])


def _answer(reference: Reference) -> Any:
    """Return a call's answer, or None where it is still under way."""
    if not _is_done(reference):
        return None
    try:
        return ray.get(reference)
    except RayError as error:
        raise own_error("shared inference failed", error) from error
