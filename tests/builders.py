"""Small policies, chunks and an environment that tests of several folders build.

A chunk of `make_chunk` is coherent (ends, autoreset rows and fresh stacks follow each other) and
its rows tell who they are: the reward of row (t, n) of chunk k is k · ROWS + t · N + n.
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from actors.environments import EnvironmentSpec, StepResult, VectorEnvironment
from common.frames import FrameObservations, FramePacker
from common.policies.policy import Policy, new_policy
from common.policies.spec import DistKind, ObservationSpec, PolicySpec
from common.trajectory import ChunkId, TrajectoryChunk, VectorObservations

Kind = Literal["frames", "vectors"]

STACK, SIZE, VECTOR = 4, 12, 5
"""Frames of `make_chunk` are stacks of 4 of 12 × 12, vectors have 5 entries."""

NUM_ACTIONS = 3
ROWS = 10_000
"""More rows than a chunk of a test has."""


def make_spec(kind: Kind = "vectors", **changes: Any) -> PolicySpec:
    """Return the specification of a tiny policy for the observations of `make_chunk`."""
    if kind == "frames":
        network = {
            "name": "nature_cnn",
            "channels": (4, 4),
            "kernels": (4, 3),
            "strides": (2, 1),
            "hidden": 16,
        }
        observation = {"shape": (STACK, SIZE, SIZE), "dtype": "uint8", "scale": 1 / 255}
    else:
        network = {"name": "mlp", "hidden": (16,)}
        observation = {"shape": (VECTOR,), "dtype": "float32"}
    tree = {
        "name": f"tiny {kind}",
        "network": network,
        "observation": observation,
        "num_actions": NUM_ACTIONS,
    }
    return PolicySpec.model_validate(tree | changes)


def make_policy(kind: Kind = "vectors", *, seed: int = 0, **changes: Any) -> Policy:
    """Return a tiny policy with random weights."""
    return new_policy(make_spec(kind, **changes), seed=seed)


def random_ends(
    rng: np.random.Generator, num_steps: int, num_envs: int, share: float
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return [T, N] of each: rows that end, autoreset rows, and rows that start an episode."""
    ends = rng.random((num_steps, num_envs)) < share
    resets, fresh = np.zeros_like(ends), np.zeros_like(ends)
    fresh[0] = True
    for t in range(1, num_steps):
        resets[t] = ends[t - 1]
        ends[t] &= ~resets[t]
        fresh[t] = resets[t - 1]
    return ends, resets, fresh


def random_stacks(
    rng: np.random.Generator, fresh: npt.NDArray[np.bool_], *, stack: int = STACK, size: int = SIZE
) -> npt.NDArray[np.uint8]:
    """Return stacks [T, N, S, H, W] of noise, each the one before plus a plane unless fresh."""
    stacks = rng.integers(256, size=(*fresh.shape, stack, size, size), dtype=np.uint8)
    for t in range(1, len(fresh)):
        goes_on = ~fresh[t]
        stacks[t, goes_on, :-1] = stacks[t - 1, goes_on, 1:]
    return stacks


def pack(stacks: npt.NDArray[np.uint8], fresh: npt.NDArray[np.bool_]) -> FrameObservations:
    """Pack stacks [T, N, S, H, W] row by row."""
    packer = FramePacker(*stacks.shape)
    for row, starts in zip(stacks, fresh, strict=True):
        packer.append(row, np.flatnonzero(starts))
    return packer.finish()


def make_chunk(
    kind: Kind = "vectors",
    *,
    sequence: int = 0,
    num_steps: int = 8,
    num_envs: int = 3,
    end_share: float = 0.2,
    dist: DistKind = "logits",
    has_value: bool = True,
    **changes: Any,
) -> TrajectoryChunk:
    """Return a chunk of random play, with random labels; `changes` replace its fields."""
    rng = np.random.default_rng((sequence, num_steps, num_envs))
    shape = (num_steps, num_envs)
    ends, resets, fresh = random_ends(rng, num_steps, num_envs, end_share)
    truncated = ends & (rng.random(shape) < 0.5)
    labels = rng.normal(size=(*shape, NUM_ACTIONS))
    observations: FrameObservations | VectorObservations
    if kind == "frames":
        observations = pack(random_stacks(rng, fresh), fresh)
    else:
        observations = VectorObservations(rng.normal(size=(*shape, VECTOR)).astype(np.float32))
    fields: dict[str, Any] = {
        "chunk_id": ChunkId(runner=0, incarnation=0, sequence=sequence),
        "task_id": "toy",
        "steps_before": 1_000 * sequence,
        "policy_version": sequence,
        "teacher_version": 0,
        "observations": observations,
        "actions": rng.integers(NUM_ACTIONS, size=shape, dtype=np.int32),
        "rewards": sequence * ROWS + np.arange(ends.size, dtype=np.float32).reshape(shape),
        "terminated": ends & ~truncated,
        "truncated": truncated,
        "valid": ~resets,
        "acting_policy": rng.integers(2, size=shape, dtype=np.uint8),
        "behavior_log_prob": -rng.random(shape, dtype=np.float32),
        "teacher_dist_inputs": labels.astype(np.float32 if dist == "q_values" else np.float16),
        "teacher_value": rng.normal(size=shape).astype(np.float32) if has_value else None,
    }
    return TrajectoryChunk(**(fields | changes))


def observations_of(chunk: TrajectoryChunk) -> npt.NDArray[Any]:
    """Return the stored observations as policies take them, [T, N, …]."""
    observations = chunk.observations
    if isinstance(observations, FrameObservations):
        return observations.stacks()
    return observations.values


class Countdown(VectorEnvironment):
    """Copy i plays episodes of `lengths[i]` steps, and ends every second one by truncation.

    The reward of each step is copy + 1; an observation is (copy, steps to go, episode, 0, 0).
    Every call is recorded, with the actions of autoreset rows as they came.
    """

    def __init__(self, *lengths: int) -> None:
        self.num_envs = len(lengths)
        self.spec = EnvironmentSpec(
            observation=ObservationSpec(shape=(VECTOR,), dtype="float32"),
            num_actions=NUM_ACTIONS,
            action_meanings=None,
            frame_stack=None,
        )
        self._lengths = np.array(lengths)
        self.seeds: list[int] = []
        self.actions: list[npt.NDArray[np.int64]] = []
        self.shown: list[npt.NDArray[np.float32]] = []

    def reset(self, seed: int) -> npt.NDArray[np.float32]:
        """Start every copy's first episode."""
        self.seeds.append(seed)
        self._to_go = self._lengths.copy()
        self._episode = np.zeros(self.num_envs, np.int64)
        return self._show()

    def step(self, actions: npt.NDArray[np.int64]) -> StepResult:
        """Count down; a copy at 0 starts its next episode instead."""
        self.actions.append(actions.copy())
        resets = self._to_go == 0
        self._episode += resets
        self._to_go = np.where(resets, self._lengths, self._to_go - 1)
        ended = self._to_go == 0
        odd = self._episode % 2 == 1
        rewards = np.where(resets, 0, np.arange(1, self.num_envs + 1)).astype(np.float32)
        return StepResult(self._show(), rewards, ended & ~odd, ended & odd)

    def close(self) -> None:
        """Do nothing."""

    def _show(self) -> npt.NDArray[np.float32]:
        shown = np.zeros((self.num_envs, VECTOR), np.float32)
        shown[:, :3] = np.stack([np.arange(self.num_envs), self._to_go, self._episode], axis=1)
        self.shown.append(shown.copy())
        return shown
