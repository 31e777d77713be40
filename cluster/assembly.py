"""Builds the parts of a run from its recipe. Both backends use it, so both run the same parts."""

from collections.abc import Callable
from pathlib import Path

import torch

from actors.collector import Collector
from actors.env_runner import EnvRunner
from actors.environments import make_environment
from actors.evaluator import EvaluationResult, evaluate
from cluster.config import RunConfig
from common.codec import EncodedChunk
from common.policies.inference import InferencePolicy
from common.policies.policy import Policy
from common.policies.spec import ActingSpec, DistKind
from common.replay.rate_limiter import RateLimits
from common.replay.shard import ReplayShard
from common.weights import PolicyWeights
from learners.feed import ChunkSource, Feed, ShardReader
from learners.learner import Learner
from learners.ranks import ALONE, Ranks
from learners.trainer import Trainer


def build_collector(
    config: RunConfig,
    *,
    teacher: Policy,
    student: Policy,
    runner_id: int,
    incarnation: int,
    pull: Callable[[int], PolicyWeights | None],
    insert: Callable[[EncodedChunk], object],
) -> Collector:
    """Build an env runner and its loop."""
    actors = config.actors
    acting_teacher, acting_student = build_acting(config, teacher=teacher, student=student)
    runner = EnvRunner(
        make_environment(config.env, num_envs=actors.num_envs_per_runner),
        teacher=acting_teacher,
        student=acting_student,
        behavior=config.behavior,
        unroll_length=actors.unroll_length,
        total_env_steps=config.total_env_steps,
        runner_id=runner_id,
        incarnation=incarnation,
        task_id=config.env.id,
        seed=config.seed,
    )
    return Collector(runner, pull=pull, insert=insert, runner_id=runner_id, incarnation=incarnation)


def build_acting(
    config: RunConfig, *, teacher: Policy, student: Policy
) -> tuple[InferencePolicy, InferencePolicy]:
    """Build teacher and student as an env runner has them; they cast what both see once."""
    actors = config.actors
    precision = "float32" if actors.precision == "auto" else actors.precision
    layout = "contiguous" if actors.layout == "auto" else actors.layout
    if layout not in student.network.layouts():
        layout = "contiguous"
    acting = InferencePolicy(
        teacher, precision=precision, layout=layout, refine_below=actors.refine_below
    )
    inputs = acting.new_inputs()
    return acting, InferencePolicy(student, precision=precision, layout=layout, inputs=inputs)


def build_shard(config: RunConfig, limits: RateLimits) -> ReplayShard:
    """Build one replay shard."""
    return ReplayShard(capacity=config.replay.shard_capacity(), limits=limits)


def build_readers(config: RunConfig, sources: list[ChunkSource]) -> list[ShardReader]:
    """Build the learner's reader of every shard."""
    return [ShardReader(source, num_samples=config.samples_per_request) for source in sources]


def build_learner(
    config: RunConfig, student: Policy, teacher_dist: DistKind, ranks: Ranks = ALONE
) -> Learner:
    """Build the learner, or one of its ranks; it trains `student` in place."""
    return Learner(
        student=student,
        teacher_dist=teacher_dist,
        objective=config.objective,
        config=config.learner,
        window_capacity=config.replay.capacity // ranks.size,
        total_env_steps=config.total_env_steps,
        seed=config.seed,
        device=torch.device("cuda" if config.learner.num_gpus > 0 else "cpu"),
        ranks=ranks,
    )


def build_trainer(
    config: RunConfig,
    *,
    student: Policy,
    teacher_dist: DistKind,
    feed: Feed,
    publish: Callable[[PolicyWeights], object],
    checkpoints: Path,
    ranks: Ranks = ALONE,
) -> Trainer:
    """Build the learner, or one of its ranks, and its loop."""
    return Trainer(
        build_learner(config, student, teacher_dist, ranks),
        feed,
        publish=publish,
        config=config.learner,
        checkpoints=checkpoints,
    )


def play_episodes(
    config: RunConfig,
    *,
    policy: Policy | None,
    reference: Policy | None,
    num_episodes: int,
    seed: int,
    num_observations: int,
) -> EvaluationResult:
    """Evaluate in this process, in float32, acting as the policy's specification says."""
    env = make_environment(config.env, num_envs=num_episodes)
    try:
        return evaluate(
            env,
            None if policy is None else InferencePolicy(policy),
            acting=ActingSpec() if policy is None else policy.spec.acting,
            num_episodes=num_episodes,
            seed=seed,
            reference=None if reference is None else InferencePolicy(reference),
            num_observations=num_observations,
        )
    finally:
        env.close()
