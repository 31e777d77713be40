"""The Ray actors: each wraps one plain object and adds only waiting and a thread of work.

The learner's is in `cluster.on_ray.rank`.

| actor       | its loop           | waits for                            | unblocked by          |
|-------------|--------------------|--------------------------------------|-----------------------|
| env runner  | sample → insert    | the insert before the last (at most  | the shard's rate      |
|             |                    | two chunks in flight); a shared      | limiter; the shared   |
|             |                    | teacher's answers; room for the      | inference actor; the  |
|             |                    | chunk in the object store            | object store          |
| shard       | none (async calls) | insert: surplus; sample: shortage    | the other side        |
| shared      | none (async calls) | answer: more questions, the forward  | the clock; the env    |
| inference   |                    | pass under way                       | runners               |
| weight store| none               | nothing                              |                       |
| log keeper  | none               | nothing                              |                       |
| learner     | feed → steps       | an answer of any shard; the other    | inserts               |
| (each rank) |                    | ranks                                |                       |
"""

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, ObjectLostError

from actors.collector import CollectorStats
from actors.evaluator import EvaluationResult
from cluster.assembly import (
    build_collector,
    build_shard,
    play_episodes,
)
from cluster.compute import resolve_compute
from cluster.on_ray.actor_logs import hand_over_logs
from cluster.on_ray.object_store import RoomTimer, when_room
from cluster.on_ray.remote import remote
from cluster.on_ray.shared_teacher import SharedInferenceActor, SharedTeacher
from cluster.placement import build_acting_teacher
from cluster.recipe.config import RunConfig
from common.codec import EncodedChunk
from common.errors import StorageError
from common.policies.inference import Observations
from common.policies.policy import Policy, policy_from_bytes
from common.replay.rate_limiter import RateLimits
from common.replay.shard import ReplaySample, ShardStats
from common.storage import Location, Written
from common.threads import give_way, set_threads
from common.weights import PolicyWeights, WeightStore

Handle = Any
"""An actor's handle: its methods are known only at run time."""
Reference = Any
"""Ray's reference to an object."""

PolicyBytes = tuple[str, bytes]
"""Specification and weights, as `policy_to_bytes` gives them."""

MAX_IN_FLIGHT = 2
"""Chunks that an env runner has handed over and the shard has not yet taken."""

HAND_OVER_TIMEOUT_S = 5.0
"""How long an env runner that stops waits until its last chunks are taken."""

WEIGHTS_TIMEOUT_S = 5.0
"""How long an env runner waits for newer weights before it goes on with those that it has."""

LEAVE_TIMEOUT_S = 10.0
"""How long an env runner may take to stop, with its chunk in hand, before it is ended."""

PAUSE_POLL_S = 0.1

SAMPLE_TIMEOUT_S = 5.0
"""How long a shard lets a sample request wait before it answers None."""


class WeightStoreActor:
    """Holds the newest weights in the object store, put there once a version.

    And, where a run refreshes its teacher, a reference to the newest version of it.
    """

    def __init__(self) -> None:
        self._store = WeightStore()
        self._ref: Reference | None = None
        self._teacher_version = 0
        self._teacher: list[Reference] = []

    def publish(self, weights: PolicyWeights) -> None:
        """Keep newer weights; where there is no room for them, the former ones stay."""
        if weights.version > self._store.version:
            self._ref = ray.put(weights)
            self._store.publish(weights)

    def pull_if_newer(self, version: int) -> list[Any]:
        """Return [a reference to newer weights], or []."""
        return [self._ref] if self._store.version > version else []

    def publish_teacher(self, version: int, teacher: list[Reference]) -> None:
        """Keep [a reference to a newer version of the teacher]; a second time changes nothing."""
        if version > self._teacher_version:
            self._teacher_version, self._teacher = version, teacher

    def teacher_if_newer(self, version: int) -> list[Reference]:
        """Return [a reference to a newer version of the teacher], or []."""
        return self._teacher if self._teacher_version > version else []


class ReplayShardActor:
    """A replay shard whose callers wait in it."""

    def __init__(self, recipe: str, limits: RateLimits, index: int, *, logs: str) -> None:
        set_threads(1)
        hand_over_logs(logs, f"shard {index}")
        self._shard = build_shard(RunConfig.model_validate_json(recipe), limits, index)
        self._changed = asyncio.Condition()
        self._write: Callable[[Location], Written] | None = None

    async def insert(self, chunk: EncodedChunk) -> None:
        """Store a chunk once the rate limiter lets it in."""
        async with self._changed:
            await self._changed.wait_for(self._shard.can_insert)
            self._shard.insert(chunk)
            self._changed.notify_all()

    async def sample(
        self, cursor: int, num_samples: int, held: Collection[int]
    ) -> ReplaySample | None:
        """Answer a sample request once the rate limiter lets it pass, or None after a while."""
        found: ReplaySample | None = None

        def ready() -> bool:
            nonlocal found
            found = self._shard.sample(cursor=cursor, num_samples=num_samples, held=held)
            return found is not None

        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait_for(ready), SAMPLE_TIMEOUT_S)
            except TimeoutError:
                return None
            self._changed.notify_all()
        return found

    async def pid(self) -> int:
        """Return the process id."""
        return os.getpid()

    async def take_snapshot(self) -> None:
        """Take a snapshot; the one before is forgotten."""
        self._write = self._shard.save()

    async def write_snapshot(self, location: Location) -> Written:
        """Write the snapshot while inserts and samples go on.

        Raises:
            StorageError: it cannot be written, or this actor started again after it was taken.
        """
        write, self._write = self._write, None
        if write is None:
            raise StorageError(f"{location}: the replay shard started again; save again")
        return await asyncio.to_thread(write, location)

    async def load(self, location: Location, epoch: str | None, granted: int, cursor: int) -> bool:
        """Go on from a snapshot where nothing was inserted yet; nobody else works meanwhile."""
        async with self._changed:
            loaded = self._shard.load(location, epoch=epoch, granted=granted, cursor=cursor)
            self._changed.notify_all()
        return loaded

    async def stats(self) -> ShardStats:
        """Return the counters."""
        return self._shard.stats()


class EnvRunnerActor:
    """An env runner and its loop."""

    def __init__(
        self,
        recipe: str,
        teacher: PolicyBytes | SharedTeacher,
        student: PolicyBytes,
        *,
        runner_id: int,
        incarnation: int,
        store: Handle,
        logs: str,
        shard: Handle,
        paused: bool = False,
        start_env_steps: int,
    ) -> None:
        set_threads(1)
        hand_over_logs(logs, f"env_runner {runner_id}")
        self._store = store
        self._shard = shard
        self._in_flight: deque[Reference] = deque()
        self._stop = threading.Event()
        self._paused = paused
        self._room = RoomTimer()
        give_way()  # the environment's own threads
        config = RunConfig.model_validate_json(recipe)
        self._collector = build_collector(
            config,
            teacher=(
                teacher
                if isinstance(teacher, SharedTeacher)
                else build_acting_teacher(config, policy_from_bytes(*teacher))
            ),
            student=policy_from_bytes(*student),
            runner_id=runner_id,
            incarnation=incarnation,
            pull=self._pull,
            insert=self._insert,
            start_env_steps=start_env_steps,
            pull_teacher=self._pull_teacher,
        )

    def run(self) -> CollectorStats:
        """Collect until `stop`, hand over what is under way, and return the last counters."""
        give_way()
        while not self._stop.is_set():
            if self._paused:
                self._stop.wait(PAUSE_POLL_S)
            else:
                self._collector.run_once()
        if self._in_flight:
            under_way = list(self._in_flight)
            ray.wait(under_way, num_returns=len(under_way), timeout=HAND_OVER_TIMEOUT_S)
        self._collector.close()
        return self.stats()

    def stop(self) -> None:
        """End `run` after the chunk in hand."""
        self._stop.set()

    def pause(self, paused: bool) -> None:
        """Rest after the chunk in hand, or go on."""
        self._paused = paused

    def stats(self) -> CollectorStats:
        """Return the counters."""
        return replace(self._collector.stats(), store_wait_s=self._room.waited_s)

    def pid(self) -> int:
        """Return the process id."""
        return os.getpid()

    def _pull(self, version: int) -> PolicyWeights | None:
        references = ray.get(self._store.pull_if_newer.remote(version))
        if not references:
            return None
        try:
            weights: PolicyWeights = ray.get(references[0], timeout=WEIGHTS_TIMEOUT_S)
        except (ObjectLostError, GetTimeoutError):
            # The store died with them, or there is no room to bring them here; the next version
            # comes soon, and these will do until then.
            return None
        return weights

    def _pull_teacher(self, version: int) -> Policy | None:
        references = ray.get(self._store.teacher_if_newer.remote(version))
        if not references:
            return None
        try:
            teacher: PolicyBytes = ray.get(references[0])
        except ObjectLostError:  # it comes again
            return None
        return policy_from_bytes(*teacher)

    def _insert(self, chunk: EncodedChunk) -> None:
        while len(self._in_flight) >= MAX_IN_FLIGHT and not self._stop.is_set():
            done, _ = ray.wait([self._in_flight[0]], timeout=0.5)
            if done:
                ray.get(self._in_flight.popleft())
        with self._room:
            reference = when_room(lambda: self._shard.insert.remote(chunk), self._stop.is_set)
        if reference is not None:
            self._in_flight.append(reference)


def play_remotely(
    recipe: str,
    policy: PolicyBytes | None,
    reference: PolicyBytes | None,
    num_episodes: int,
    seed: int,
    num_observations: int,
) -> EvaluationResult:
    """Play a share of an evaluation's episodes."""
    set_threads(1)
    return play_episodes(
        RunConfig.model_validate_json(recipe),
        policy=None if policy is None else policy_from_bytes(*policy),
        reference=None if reference is None else policy_from_bytes(*reference),
        num_episodes=num_episodes,
        seed=seed,
        num_observations=num_observations,
    )


def resolve_remotely(
    recipe: str, teacher: PolicyBytes, student: PolicyBytes, observations: Observations
) -> tuple[str, tuple[str, ...]]:
    """Measure what the recipe leaves `auto` on the node where this task runs."""
    set_threads(1)
    config, found = resolve_compute(
        RunConfig.model_validate_json(recipe),
        policy_from_bytes(*teacher),
        policy_from_bytes(*student),
        observations,
    )
    return config.model_dump_json(), found


# State actors keep their handles valid over a restart; loops are started again by the supervisor.
RAY_WEIGHT_STORE = remote(WeightStoreActor, num_cpus=0, max_restarts=-1, max_task_retries=-1)
RAY_REPLAY_SHARD = remote(
    ReplayShardActor, num_cpus=0, max_restarts=-1, max_task_retries=-1, max_concurrency=1000
)
RAY_SHARED_INFERENCE = remote(SharedInferenceActor, max_task_retries=-1, max_concurrency=1000)
RAY_ENV_RUNNER = remote(EnvRunnerActor, max_concurrency=2)
RAY_PLAY = remote(play_remotely, num_cpus=1)
RAY_RESOLVE = remote(resolve_remotely, num_cpus=1)
