"""A trainer and its shards for tests that stop and go on, and chunks to hand to them."""

import dataclasses
from pathlib import Path

import numpy as np
import torch

from common.codec import EncodedChunk, encode
from common.replay.config import ReplayConfig
from common.replay.sampler_config import UNIFORM, SamplerConfig
from common.replay.shard import ReplayShard
from common.trajectory import UNLABELLED
from learners.config import LearnerConfig
from learners.feed import DirectFeed, ShardReader
from learners.labeller import Labeller
from learners.learner import Learner
from learners.objectives import ObjectiveConfig
from learners.saved_replay import SavedReplay
from learners.trainer import Trainer
from tests.builders import Kind, make_chunk, make_policy

BATCH = 16
CHUNK = 24
"""Rows of a chunk; some of them are not valid."""


class Parts:
    """A trainer and its shards, as `--local` builds them."""

    def __init__(
        self,
        folder: Path,
        *,
        kind: Kind = "vectors",
        sampler: SamplerConfig = UNIFORM,
        window: int = 10_000,
        capacity: int = 10_000,
        num_shards: int = 1,
        labeller: Labeller | None = None,
        saves: bool = True,
        samples_per_insert: float = 4.0,
    ) -> None:
        self.replay = ReplayConfig(
            num_shards=num_shards,
            capacity=capacity,
            window=window,
            samples_per_insert=samples_per_insert,
            min_size_to_sample=30,
        )
        limits = self.replay.limits(insert_size=CHUNK)
        self.shards = [
            ReplayShard(
                capacity=self.replay.shard_capacity(),
                limits=limits,
                revisits=1 if self.replay.revisits_chunks else 0,
                seed=(index,),
            )
            for index in range(num_shards)
        ]
        readers = [
            ShardReader(
                shard,
                num_samples=BATCH,
                window=self.replay.shard_window() if self.replay.revisits_chunks else 0,
                labeller=labeller,
                keep_encoded=True,
            )
            for shard in self.shards
        ]
        config = LearnerConfig(
            batch_size=BATCH,
            micro_batch_size=BATCH,
            learning_rate=0.01,
            publish_interval_steps=3,
            checkpoint_interval_s=1e9,
        )
        self.learner = Learner(
            student=make_policy(kind, seed=1, has_value=False),
            teacher_dists=("logits",),
            objective=ObjectiveConfig.model_validate({"kl": {}}),
            config=config,
            window_capacity=self.replay.window_size(),
            total_env_steps=10_000,
            seed=0,
            device=torch.device("cpu"),
            sampler=sampler,
        )
        self.trainer = Trainer(
            self.learner,
            DirectFeed(readers),
            publish=lambda weights: None,
            config=config,
            checkpoints=folder,
            replay=SavedReplay(self.shards, labeller) if saves else None,
        )

    def run(self, chunks: list[EncodedChunk]) -> None:
        """Insert the chunks in turn, and train on all that the shards grant."""
        for number, chunk in enumerate(chunks):
            shard = self.shards[number % len(self.shards)]
            assert shard.can_insert()
            shard.insert(chunk)
            while self.trainer.run_once(0.0):
                pass

    def weights(self) -> dict[str, np.ndarray]:
        return dict(self.learner.weights(0).arrays)

    def counters(self) -> dict[str, object]:
        stats = dataclasses.asdict(self.trainer.stats())
        for name in ("wait_s", "step_s", "policy_version"):
            del stats[name]
        shards = [dataclasses.replace(shard.stats(), epoch="") for shard in self.shards]
        return stats | {"shards": shards}


def chunks(count: int, kind: Kind = "vectors", *, labelled: bool = True) -> list[EncodedChunk]:
    without = {"teacher_version": UNLABELLED, "teacher_dist_inputs": None}
    return [
        encode(
            make_chunk(
                kind,
                sequence=sequence,
                num_steps=CHUNK // 3,
                has_value=False,
                **({} if labelled else without),
            )
        )
        for sequence in range(count)
    ]
