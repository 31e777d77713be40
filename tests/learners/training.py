"""A trainer whose feed is prepared, for the tests of its loop, its checkpoints and its ranks."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from common.trajectory import TrajectoryChunk
from common.weights import PolicyWeights
from learners.config import LearnerConfig
from learners.feed import FeedItem, State
from learners.learner import Learner
from learners.objectives import ObjectiveConfig
from learners.trainer import Trainer
from tests.builders import make_policy

BATCH = 8
Weights = dict[str, npt.NDArray[Any]]


class ListFeed:
    """Gives prepared items, and nothing where None stands."""

    def __init__(self, *items: FeedItem | None) -> None:
        self.items = list(items)
        self.reads = 0
        self.closed = False

    def get(self, timeout_s: float) -> FeedItem | None:
        self.reads += 1
        return self.items.pop(0) if self.items else None

    def open(self, states: list[State] | None = None) -> None:
        pass

    def states(self) -> list[State]:
        return []

    def close(self) -> None:
        self.closed = True


def item(*chunks: TrajectoryChunk, steps: int = 0) -> FeedItem:
    return FeedItem(granted=steps * BATCH, chunks=list(chunks))


class Run:
    """A trainer with a prepared feed, and what it published."""

    def __init__(
        self,
        checkpoints: Path,
        *items: FeedItem,
        student_seed: int = 0,
        student: dict[str, Any] | None = None,
        **config: Any,
    ) -> None:
        values = {
            "batch_size": BATCH,
            "micro_batch_size": BATCH,
            "publish_interval_steps": 4,
            "checkpoint_interval_s": 1e9,
            "max_bad_steps": 3,
        }
        self.config = LearnerConfig.model_validate(values | config)
        self.published: list[PolicyWeights] = []
        self.feed = ListFeed(*items)
        self.learner = Learner(
            student=make_policy(seed=student_seed, **(student or {})),
            teacher_dists=("logits",),
            objective=ObjectiveConfig.model_validate({"kl": {}}),
            config=self.config,
            window_capacity=100,
            total_env_steps=200,
            seed=0,
            device=torch.device("cpu"),
        )
        self.trainer = Trainer(
            self.learner,
            self.feed,
            publish=self.published.append,
            config=self.config,
            checkpoints=checkpoints,
        )

    @property
    def versions(self) -> list[int]:
        return [weights.version for weights in self.published]

    def weights(self) -> Weights:
        return dict(self.learner.weights(0).arrays)


def same(a: Weights, b: Weights) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in a)
