"""The reports of a run in which nothing has happened yet; tests replace what they are about."""

from dataclasses import replace

from actors.collector import CollectorStats
from cluster.session import Snapshot
from common.replay.shard import ShardStats
from learners.trainer import TrainerStats

TRAINER = TrainerStats(
    learner_steps=0,
    env_steps=0,
    samples=0,
    window_size=0,
    policy_version=0,
    skipped_steps=0,
    restores=0,
    learning_rate=1e-3,
    wait_s=0.0,
    step_s=0.0,
    metrics={},
)
BEGUN = replace(
    TRAINER, learner_steps=1, env_steps=100, samples=200, window_size=100, policy_version=1
)
"""A learner that has made its first step."""
COLLECTOR = CollectorStats(
    runner_id=0,
    incarnation=0,
    env_steps=0,
    chunks=0,
    policy_version=0,
    sample_s=0.0,
    wait_s=0.0,
    episodes=(),
)
SHARD = ShardStats(inserted=0, sampled=0, transitions=0, num_bytes=0, duplicates=0)
SNAPSHOT = Snapshot(
    trainer=TRAINER, collectors=(COLLECTOR,), shards=(SHARD,), restarts={}, finished=False
)
