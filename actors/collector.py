"""The env runner's loop: pull weights, sample a chunk, encode it, hand it over.

Produces encoded chunks; waits where `insert` waits (the shard's rate limiter).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from actors.env_runner import EpisodeResult
from actors.shared_inference import SharedInference
from common.codec import EncodedChunk, encode
from common.policies.policy import Policy
from common.policies.refreshable import RefreshablePolicy
from common.trajectory import TrajectoryChunk
from common.weights import PolicyWeights


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectorStats:
    """What a collector reports."""

    runner_id: int
    incarnation: int
    env_steps: int
    """Valid transitions collected."""
    chunks: int
    policy_version: int
    teacher_version: int | None = None
    """Of its process's copy of a teacher that is refreshed; None where it has none."""
    sample_s: float
    """Seconds spent stepping and labelling since the start."""
    wait_s: float
    """Seconds spent waiting for `insert` since the start."""
    store_wait_s: float = 0.0
    """Seconds spent until the object store had room for chunks, where there is one."""
    episodes: tuple[EpisodeResult, ...]
    """Ended since the last report."""


class Runner(Protocol):
    """Where chunks come from: `EnvRunner`, or `DatasetRunner` in its place."""

    env_steps: int
    """Valid transitions so far."""
    policy_version: int

    def set_weights(self, weights: PolicyWeights) -> None:
        """Go on with these."""

    def sample(self) -> TrajectoryChunk:
        """Return the next chunk."""

    def drain_episodes(self) -> list[EpisodeResult]:
        """Return the episodes that ended since the last call."""

    def close(self) -> None:
        """Give back what it holds."""


class Collector:
    """Drives an env runner.

    Args:
        runner: the env runner, or what stands in its place.
        pull: returns weights newer than a version, or None.
        insert: takes an encoded chunk; it may wait.
        runner_id: number of the runner.
        incarnation: how often it was started before.
        teacher: this process's copy of a teacher that is refreshed; None where it has none.
        pull_teacher: returns a teacher newer than a version, or None.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        pull: Callable[[int], PolicyWeights | None],
        insert: Callable[[EncodedChunk], object],
        runner_id: int,
        incarnation: int,
        teacher: RefreshablePolicy | SharedInference | None = None,
        pull_teacher: Callable[[int], Policy | None] = lambda version: None,
    ) -> None:
        self._runner = runner
        self._teacher = teacher
        self._pull_teacher = pull_teacher
        self._pull = pull
        self._insert = insert
        self._runner_id = runner_id
        self._incarnation = incarnation
        self._version = -1
        self._chunks = 0
        self._sample_s = 0.0
        self._wait_s = 0.0
        self._waiting_since: float | None = None

    def run_once(self) -> None:
        """Collect one chunk with the newest weights and teacher, and hand it over."""
        if (weights := self._pull(self._version)) is not None:
            self._runner.set_weights(weights)
            self._version = weights.version
        teacher = self._teacher
        if teacher is not None and (newer := self._pull_teacher(teacher.version)) is not None:
            teacher.take(newer)
        started = time.monotonic()
        encoded = encode(self._runner.sample())
        sampled = time.monotonic()
        self._sample_s += sampled - started
        self._waiting_since = sampled
        try:
            self._insert(encoded)
        finally:
            self._waiting_since = None
        self._chunks += 1
        self._wait_s += time.monotonic() - sampled

    def close(self) -> None:
        """Close the environments; nothing is collected after that."""
        self._runner.close()

    def stats(self) -> CollectorStats:
        """Return the counters, and the episodes since the last call.

        It may be called in another thread while `run_once` goes on.
        """
        since = self._waiting_since
        waiting_s = 0.0 if since is None else time.monotonic() - since
        return CollectorStats(
            runner_id=self._runner_id,
            incarnation=self._incarnation,
            env_steps=self._runner.env_steps,
            chunks=self._chunks,
            policy_version=self._runner.policy_version,
            teacher_version=None if self._teacher is None else self._teacher.version,
            sample_s=self._sample_s,
            wait_s=self._wait_s + waiting_s,
            episodes=tuple(self._runner.drain_episodes()),
        )
