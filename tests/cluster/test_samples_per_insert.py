"""The coupling of training to data: shards, readers and the learner's account, in any order.

As a run of a million transitions in chunks of up to 2,048, 32 times smaller.
"""

from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cluster.assembly import build_readers, build_shard
from cluster.recipe.config import RunConfig
from common.codec import EncodedChunk, encode
from common.replay.rate_limiter import RateLimits
from common.replay.shard import ReplayShard
from common.trajectory import ChunkId
from learners.feed import FeedItem
from learners.learner import Learner
from tests.builders import make_chunk, make_policy
from tests.cartpole import load_config

LARGEST = 64
"""Transitions of a full chunk."""

TOTAL = 31_250
ROUNDING = 1e-6
SLOW_LEARNER, EVEN, SLOW_RUNNERS = 0.1, 0.5, 0.9
"""How often it is the learner's turn."""

CHUNKS = {
    size: make_chunk(num_steps=size, num_envs=1, end_share=0.0)
    for size in (1, 5, 20, 33, 50, 63, LARGEST)
}


class CountingLearner(Learner):
    """Keeps the account of steps and takes none."""

    def step(self) -> None:
        self._budget -= self._config.batch_size
        self.samples += self._config.batch_size
        self.learner_steps += 1


def config_of(folder: Path, batch_size: int, ratio: float, num_shards: int) -> RunConfig:
    return load_config(
        folder,
        f"total_env_steps={TOTAL}",
        f"learner.batch_size={batch_size}",
        f"replay={{samples_per_insert = {ratio}, num_shards = {num_shards}, capacity = 2_000, "
        "window = 1_000, min_size_to_sample = 128}",
        f"actors={{num_envs_per_runner = 8, unroll_length = 8, num_env_runners = {num_shards}}}",
    )


def learner_of(config: RunConfig) -> CountingLearner:
    return CountingLearner(
        student=make_policy(),
        teacher_dists=("logits",),
        objective=config.objective,
        config=config.learner,
        window_capacity=config.replay.window_size(),
        total_env_steps=config.total_env_steps,
        seed=0,
        device=torch.device("cpu"),
    )


class ChunkSource:
    """Stands for the env runner of every shard: chunks of drawn sizes, one after the other."""

    def __init__(self, rng: np.random.Generator, num_shards: int) -> None:
        self.rng = rng
        self.chunks = [0] * num_shards
        self.steps = [0] * num_shards

    def next(self, shard: int) -> EncodedChunk:
        size = int(self.rng.choice(list(CHUNKS), p=[0.05] * (len(CHUNKS) - 1) + [0.7]))
        identity = ChunkId(shard, 0, self.chunks[shard])
        chunk = replace(CHUNKS[size], chunk_id=identity, steps_before=self.steps[shard])
        self.chunks[shard] += 1
        self.steps[shard] += chunk.num_transitions
        return encode(chunk)


def assert_within_bounds(shard: ReplayShard, limits: RateLimits) -> None:
    stats, ratio = shard.stats(), limits.samples_per_insert
    middle = ratio * limits.min_size_to_sample
    surplus = ratio * stats.inserted - stats.sampled
    assert surplus <= middle + limits.error_buffer + ratio * LARGEST + ROUNDING
    assert not stats.sampled or surplus >= middle - limits.error_buffer - ROUNDING


@pytest.mark.parametrize(
    ("batch_size", "ratio", "num_shards", "eagerness"),
    [
        (4, 1.0, 1, EVEN),
        (4, 1.0, 2, SLOW_LEARNER),
        (4, 0.1, 2, SLOW_RUNNERS),
        (4, 8.0, 1, SLOW_RUNNERS),
        (2_048, 1.0, 2, EVEN),
        (2_048, 0.1, 1, SLOW_LEARNER),
        (2_048, 8.0, 1, SLOW_LEARNER),
    ],
)
def test_samples_per_insert_are_held_within_one_percent(
    batch_size: int, ratio: float, num_shards: int, eagerness: float, tmp_path: Path
) -> None:
    config = config_of(tmp_path, batch_size, ratio, num_shards)
    limits = config.replay.limits(insert_size=LARGEST)
    shards = [build_shard(config, limits, index) for index in range(num_shards)]
    readers = build_readers(config, list(shards))
    learner = learner_of(config)
    rng = np.random.default_rng((batch_size, num_shards, int(10 * eagerness)))
    source = ChunkSource(rng, num_shards)
    ready: deque[FeedItem] = deque()
    granted = 0
    while sum(shard.stats().inserted for shard in shards) < TOTAL:
        index = int(rng.integers(num_shards))
        if rng.random() > eagerness:
            if shards[index].can_insert():
                shards[index].insert(source.next(index))
        elif len(ready) < config.answers_ready and rng.random() < 0.8:
            if (item := readers[index].read()) is not None:
                granted += item.granted
                ready.append(item)
        elif ready:
            learner.receive(ready.popleft())
            while learner.can_step:
                learner.step()
        assert_within_bounds(shards[index], limits)
    for item in ready:
        learner.receive(item)
    while learner.can_step:
        learner.step()
    inserted = sum(shard.stats().inserted for shard in shards)
    sampled = sum(shard.stats().sampled for shard in shards)
    assert sampled == granted
    assert 0 <= granted - learner.samples < batch_size
    assert inserted - 2 * num_shards * LARGEST * 8 <= learner.env_steps <= inserted
    wanted = ratio * (inserted - config.replay.min_size_to_sample)
    assert sampled == pytest.approx(wanted, rel=0.01)


@pytest.mark.parametrize("ratio", [0.1, 1.0, 8.0])
def test_a_learner_that_waits_for_data_is_level_with_it_after_every_chunk(
    ratio: float, tmp_path: Path
) -> None:
    """So the ratio holds over any stretch of a run, and not only over a long one."""
    config = config_of(tmp_path, 4, ratio, 1)
    limits = config.replay.limits(insert_size=LARGEST)
    shard = build_shard(config, limits)
    (reader,) = build_readers(config, [shard])
    source = ChunkSource(np.random.default_rng(0), 1)
    for _ in range(200):
        shard.insert(source.next(0))
        while reader.read() is not None:
            pass
        stats = shard.stats()
        lead = stats.sampled - ratio * (stats.inserted - limits.min_size_to_sample)
        if stats.sampled:
            assert lead == pytest.approx(limits.error_buffer, abs=1.0 + ROUNDING)
