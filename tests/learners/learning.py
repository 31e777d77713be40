"""Learners of tiny students, and what tests do with them."""

from typing import Any

import numpy as np
import torch

from common.policies.inference import InferencePolicy
from common.policies.policy import Policy
from common.replay.sampler_config import UNIFORM, SamplerConfig
from common.trajectory import TrajectoryChunk
from learners.config import LearnerConfig
from learners.feed import FeedItem
from learners.learner import Learner
from learners.objectives import ObjectiveConfig
from tests.builders import NUM_ACTIONS, make_chunk, make_policy

TOTAL = 1_000
"""Env steps of a run."""


def make_learner(
    kind="vectors",
    *,
    student_seed: int = 0,
    capacity: int = 10_000,
    seed: int = 0,
    sampler: SamplerConfig = UNIFORM,
    **config: Any,
) -> Learner:
    values = {"batch_size": 16, "micro_batch_size": 16, "precision": "float32"} | config
    return Learner(
        student=make_policy(kind, seed=student_seed),
        teacher_dist="logits",
        objective=ObjectiveConfig.model_validate({"kl": {}}),
        config=LearnerConfig.model_validate(values),
        window_capacity=capacity,
        total_env_steps=TOTAL,
        seed=seed,
        device=torch.device("cpu"),
        sampler=sampler,
    )


def item(*chunks: TrajectoryChunk, granted: int = 0) -> FeedItem:
    return FeedItem(granted=granted, chunks=list(chunks))


def labelled(sequence: int, teacher: Policy, **settings: Any) -> TrajectoryChunk:
    """Return a chunk with the labels of a teacher that can be learnt from."""
    chunk = make_chunk(sequence=sequence, **settings)
    labels = InferencePolicy(teacher)(chunk.observations.values.reshape(-1, 5)).dist_inputs
    shape = (*chunk.actions.shape, NUM_ACTIONS)
    return make_chunk(
        sequence=sequence,
        teacher_dist_inputs=(5 * labels).reshape(shape).astype(np.float16),
        **settings,
    )


def poisoned(sequence: int) -> TrajectoryChunk:
    labels = np.full((8, 3, NUM_ACTIONS), np.nan, np.float16)
    return make_chunk(sequence=sequence, teacher_dist_inputs=labels)


def weights_of(learner: Learner) -> dict[str, torch.Tensor]:
    return {n: t.clone() for n, t in learner.student.network.state_dict().items()}


def assert_same_weights(found: Learner, wanted: dict[str, torch.Tensor], **tolerance: float):
    for name, tensor in weights_of(found).items():
        torch.testing.assert_close(tensor, wanted[name], **(tolerance or {"rtol": 0, "atol": 0}))


def train(learner: Learner, num_steps: int) -> None:
    """Grant and take steps."""
    learner.receive(item(granted=num_steps * 16))
    for _ in range(num_steps):
        assert learner.can_step
        learner.step()
    assert not learner.can_step
