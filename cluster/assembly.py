"""Builds the parts of a run from its recipe. Both backends use it, so both run the same parts."""

from collections.abc import Callable

import torch

from actors.collector import Collector
from actors.dataset_runner import DatasetRunner
from actors.env_runner import EnvRunner
from actors.environments import VectorEnvironment, make_environment
from actors.evaluator import EvaluationResult, evaluate
from actors.shared_inference import SharedInference
from cluster.recipe.config import RunConfig
from cluster.recipe.dataset import DatasetConfig
from common.codec import EncodedChunk
from common.dataset import open_dataset
from common.networks.inputs import Layout, Precision
from common.policies.acting import ActingPolicy
from common.policies.inference import CPU, InferencePolicy, Inputs
from common.policies.policy import Policy
from common.policies.refreshable import RefreshablePolicy
from common.policies.spec import ActingSpec, DistKind
from common.replay.rate_limiter import RateLimits
from common.replay.shard import ReplayShard
from common.storage import Named
from common.weights import PolicyWeights
from learners.feed import ChunkSource, Feed, ShardReader
from learners.labeller import Labeller
from learners.learner import Learner
from learners.ranks import ALONE, Ranks
from learners.relabeller import Relabeller
from learners.saved_replay import SavedReplay, SavedShard
from learners.trainer import Trainer

SHARD_SEED = 2
"""Beside the recipe's seed, so that shards draw other numbers than the learner."""


def build_collector(
    config: RunConfig,
    *,
    teacher: ActingPolicy,
    student: Policy,
    runner_id: int,
    incarnation: int,
    pull: Callable[[int], PolicyWeights | None],
    insert: Callable[[EncodedChunk], object],
    start_env_steps: int = 0,
    pull_teacher: Callable[[int], Policy | None] = lambda version: None,
) -> Collector:
    """Build an env runner and its loop; from a dataset, what stands in its place.

    `start_env_steps` are the transitions that the run had when this session started: a resumed run
    goes on with seeds that it has not used before. `pull_teacher` is asked where the teacher is a
    copy that is refreshed.
    """
    actors = config.actors
    if config.dataset is not None:
        return Collector(
            build_dataset_runner(
                config,
                config.dataset,
                runner_id=runner_id,
                incarnation=incarnation,
                start_env_steps=start_env_steps,
            ),
            pull=pull,
            insert=insert,
            runner_id=runner_id,
            incarnation=incarnation,
        )
    inputs = teacher.shared_inputs() if isinstance(teacher, InferencePolicy) else None
    runner = EnvRunner(
        build_environment(config, num_envs=actors.num_envs_per_runner),
        teacher=teacher,
        student=build_inference(
            config, student, inputs=inputs, task=config.task_name if student.spec.heads else None
        ),
        behavior=config.behavior,
        unroll_length=actors.unroll_length,
        total_env_steps=config.total_env_steps,
        runner_id=runner_id,
        incarnation=incarnation,
        task_id=config.task_name,
        seed=config.seed,
        start_env_steps=start_env_steps,
        labels=actors.labels_chunks,
    )
    own = teacher if isinstance(teacher, RefreshablePolicy | SharedInference) else None
    return Collector(
        runner,
        pull=pull,
        insert=insert,
        runner_id=runner_id,
        incarnation=incarnation,
        teacher=own if config.refresh is not None else None,
        pull_teacher=pull_teacher,
    )


def build_environment(config: RunConfig, *, num_envs: int) -> VectorEnvironment:
    """Build env copies, with what the teacher sees where that is something else.

    Raises:
        ConfigError: there is no such environment.
        MismatchError: its observations or actions are of a kind that is not supported.
    """
    return make_environment(config.env, num_envs=num_envs, teacher_view=config.teacher_view)


def build_dataset_runner(
    config: RunConfig,
    recorded: DatasetConfig,
    *,
    runner_id: int,
    incarnation: int,
    start_env_steps: int,
) -> DatasetRunner:
    """Build what reads an env runner's share of the dataset."""
    dataset = open_dataset(recorded.path)
    return DatasetRunner(
        dataset,
        dataset.split(recorded.holdout).training,
        runner_id=runner_id,
        num_runners=config.actors.num_env_runners,
        incarnation=incarnation,
        seed=config.seed,
        start_env_steps=start_env_steps,
    )


def build_inference(
    config: RunConfig,
    policy: Policy,
    *,
    device: torch.device = CPU,
    refine_below: float = 0.0,
    inputs: Inputs | None = None,
    task: str | None = None,
) -> InferencePolicy:
    """Build a policy as the recipe's `[actors]` says that policies compute.

    What is still `auto` was not measured: float32 and whole frames are right everywhere.
    """
    actors = config.actors
    precision: Precision = "float32" if actors.precision == "auto" else actors.precision
    layout: Layout = "contiguous" if actors.layout == "auto" else actors.layout
    return InferencePolicy(
        policy,
        precision=precision if precision in policy.network.precisions() else "float32",
        layout=layout if layout in policy.network.layouts() else "contiguous",
        refine_below=refine_below,
        inputs=inputs,
        device=device,
        task=task,
    )


def build_shard(config: RunConfig, limits: RateLimits, index: int = 0) -> ReplayShard:
    """Build one replay shard; `index` tells it from the others."""
    replay = config.replay
    return ReplayShard(
        capacity=replay.shard_capacity(),
        limits=limits,
        max_bytes=replay.shard_max_bytes(),
        revisits=replay.revisits if replay.revisits_chunks else 0,
        seed=(config.seed, SHARD_SEED, index),
    )


def build_readers(
    config: RunConfig, sources: list[ChunkSource], labeller: Labeller | None = None
) -> list[ShardReader]:
    """Build the learner's reader of every shard; with a labeller, they label what has no labels."""
    window = config.replay.shard_window() if config.replay.revisits_chunks else 0
    return [
        ShardReader(
            source,
            num_samples=config.samples_per_request,
            window=window,
            labeller=labeller,
            keep_encoded=config.replay.checkpoint,
        )
        for source in sources
    ]


def build_saved_replay(
    config: RunConfig, shards: list[SavedShard], labeller: Labeller | None = None
) -> SavedReplay | None:
    """Build what saves the replay, or return None where the recipe does not ask for it."""
    return SavedReplay(shards, labeller) if config.replay.checkpoint else None


def build_learner(
    config: RunConfig,
    student: Policy,
    teacher_dists: tuple[DistKind, ...],
    ranks: Ranks = ALONE,
    teacher: Policy | None = None,
    relabeller: Relabeller | None = None,
) -> Learner:
    """Build the learner, or one of its ranks; it trains `student` in place.

    The teacher must be given where the objective needs its features, the relabeller where the
    teacher is refreshed.
    """
    return Learner(
        student=student,
        teacher_dists=teacher_dists,
        objective=config.objective,
        config=config.learner,
        window_capacity=config.replay.window_size() // ranks.size,
        sampler=config.replay.sampler,
        total_env_steps=config.total_env_steps,
        seed=config.seed,
        device=torch.device("cuda" if config.learner.num_gpus > 0 else "cpu"),
        ranks=ranks,
        samples_per_insert=config.replay.samples_per_insert,
        teacher=teacher,
        relabeller=relabeller,
    )


def build_trainer(
    config: RunConfig,
    *,
    student: Policy,
    teacher_dists: tuple[DistKind, ...],
    feed: Feed,
    publish: Callable[[PolicyWeights], object],
    checkpoints: Named,
    ranks: Ranks = ALONE,
    replay: SavedReplay | None = None,
    teacher: Policy | None = None,
    relabeller: Relabeller | None = None,
) -> Trainer:
    """Build the learner, or one of its ranks, and its loop; for what it needs of the teacher see
    `build_learner`."""
    return Trainer(
        build_learner(config, student, teacher_dists, ranks, teacher, relabeller),
        feed,
        publish=publish,
        config=config.learner,
        checkpoints=checkpoints,
        replay=replay,
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
    return play_in(
        build_environment(config, num_envs=num_episodes),
        policy=None if policy is None else InferencePolicy(policy),
        reference=None if reference is None else InferencePolicy(reference),
        num_episodes=num_episodes,
        seed=seed,
        num_observations=num_observations,
    )


def play_in(
    env: VectorEnvironment,
    *,
    policy: InferencePolicy | None,
    reference: InferencePolicy | None,
    num_episodes: int,
    seed: int,
    num_observations: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> EvaluationResult:
    """Evaluate as `play_episodes` does, in copies of an environment, and close them."""
    try:
        return evaluate(
            env,
            policy,
            acting=ActingSpec() if policy is None else policy.spec.acting,
            num_episodes=num_episodes,
            seed=seed,
            reference=reference,
            num_observations=num_observations,
            should_stop=should_stop,
        )
    finally:
        env.close()
