"""The shared teacher on Ray: its actor, and what env runners hold of it.

Ray starts a dead actor again and sends it the calls that were under way, so an env runner only
sees that an answer takes longer. The constructor gets no teacher: what it would find in the object
store may be gone when Ray calls it again. `cluster.on_ray.teacher_supervisor` hands the teacher to
every new life, and until then questions wait.
"""

import asyncio
import os
import uuid
from dataclasses import dataclass
from typing import Any

import ray

from actors.placement import SharedPlacement
from actors.shared_inference import InferenceStats
from cluster.on_ray.object_store import when_room
from cluster.placement import build_gatherer, build_shared_teacher
from cluster.recipe.config import RunConfig
from common.policies.acting import Answer
from common.policies.inference import Observations, PolicyOutputs
from common.policies.policy import policy_from_bytes
from common.policies.question import PackedObservations, pack
from common.policies.spec import PolicySpec
from common.threads import set_threads


class SharedInferenceActor:
    """The teacher, and what gathers the env runners' questions. Its calls are async."""

    def __init__(self, recipe: str) -> None:
        self._config = RunConfig.model_validate_json(recipe)
        shared = self._config.actors.inference
        assert isinstance(shared, SharedPlacement)
        set_threads(max(1, int(shared.num_cpus)))
        self._life = uuid.uuid4().hex
        self._ready = asyncio.Event()

    async def load(self, teacher: tuple[str, bytes]) -> None:
        """Take the teacher as `policy_to_bytes` gives it; later ones only where it is refreshed."""
        policy = policy_from_bytes(*teacher)
        if not self._ready.is_set():
            self._teacher = build_shared_teacher(self._config, policy)
            self._gatherer = build_gatherer(self._config, self._teacher)
            self._ready.set()
        elif self._config.refresh is not None:
            self._teacher.take(policy)

    async def answer(self, question: PackedObservations) -> PolicyOutputs:
        """Answer together with what others ask at the same time."""
        await self._ready.wait()
        return await self._gatherer.ask(question)

    async def stats(self) -> InferenceStats:
        """Return the counters of this life."""
        ready = self._ready.is_set()
        return InferenceStats(
            life=self._life,
            ready=ready,
            pid=os.getpid(),
            num_rows=self._teacher.num_rows if ready else 0,
            num_batches=self._teacher.num_batches if ready else 0,
        )


@dataclass(frozen=True, slots=True, eq=False)
class SharedTeacher:
    """A shared inference actor as a `DistantPolicy`; it travels to the env runner."""

    spec: PolicySpec
    actor: Any
    """Its handle."""

    def __call__(self, observations: Observations) -> PolicyOutputs:
        """Return the outputs for observations [B, *shape]."""
        return self.ask(observations)()

    def ask(self, observations: Observations) -> Answer:
        """Ask about observations [B, *shape] without waiting."""
        question = pack(observations)
        reference: Any = when_room(lambda: self.actor.answer.remote(question))

        def answer() -> PolicyOutputs:
            outputs: PolicyOutputs = ray.get(reference)
            return outputs

        return answer
