from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from actors.collector import Collector
from cluster import assembly, local_backend
from cluster.assembly import (
    build_collector,
    build_readers,
    build_shard,
    build_trainer,
    play_episodes,
)
from cluster.local_backend import LocalBackend, LocalSession
from cluster.on_ray import actors as ray_actors
from cluster.on_ray import rank as ray_rank
from cluster.prepare import Preparation, prepare
from cluster.recipe.config import RunConfig
from common.codec import EncodedChunk, decode
from common.policies.inference import InferencePolicy
from common.policies.policy import Policy
from common.weights import PolicyWeights, WeightStore
from learners.feed import DirectFeed
from tests.builders import make_policy
from tests.cartpole import cartpole_teacher, load_config


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return load_config(tmp_path, "total_env_steps=600")


@pytest.fixture
def preparation(config: RunConfig) -> Preparation:
    return prepare(config, num_cpus=2, num_gpus=0)


def student() -> Policy:
    spec = cartpole_teacher().spec.model_copy(update={"name": "student"})
    return make_policy(**spec.model_dump(exclude={"format", "version"}))


def collector(config: RunConfig, inserted: list[EncodedChunk]) -> Collector:
    return build_collector(
        config,
        teacher=InferencePolicy(cartpole_teacher()),
        student=student(),
        runner_id=3,
        incarnation=2,
        pull=WeightStore().pull_if_newer,
        insert=inserted.append,
    )


@pytest.mark.parametrize(
    "name", ["build_collector", "build_readers", "build_shard", "build_trainer", "play_episodes"]
)
def test_both_backends_build_their_parts_here(name: str) -> None:
    built_here = getattr(assembly, name)
    assert getattr(local_backend, name) is built_here
    built_on_ray = getattr(ray_actors, name, None) or getattr(ray_rank, name)
    assert built_on_ray is built_here


def test_a_collector_makes_chunks_as_the_recipe_says(config: RunConfig) -> None:
    inserted: list[EncodedChunk] = []
    collector(config, inserted).run_once()
    (encoded,) = inserted
    chunk = decode(encoded)
    assert tuple(chunk.chunk_id) == (3, 2, 0)
    assert chunk.task_id == "CartPole-v1"
    assert chunk.actions.shape == (config.actors.unroll_length, config.actors.num_envs_per_runner)


def test_the_seed_decides_what_a_runner_does(config: RunConfig) -> None:
    inserted: list[EncodedChunk] = []
    for changes in ({}, {}, {"seed": 1}):
        collector(config.model_copy(update=changes), inserted).run_once()
    first, again, other = (decode(chunk).actions for chunk in inserted)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_shards_share_the_capacity(config: RunConfig, preparation: Preparation) -> None:
    replay = config.replay.model_copy(update={"capacity": 1_000, "num_shards": 3})
    shard = build_shard(config.model_copy(update={"replay": replay}), preparation.limits)
    inserted: list[EncodedChunk] = []
    runner = collector(config, inserted)
    for _ in range(4):
        runner.run_once()
    for chunk in inserted:
        shard.insert(chunk)
    stored = shard.stats().transitions
    assert shard.stats().inserted == sum(chunk.num_transitions for chunk in inserted)
    assert stored == inserted[-1].num_transitions  # two are more than 334


def test_shards_share_the_bytes(config: RunConfig, preparation: Preparation) -> None:
    inserted: list[EncodedChunk] = []
    runner = collector(config, inserted)
    for _ in range(4):
        runner.run_once()
    replay = config.replay.model_copy(update={"max_bytes": 5 * inserted[0].num_bytes})
    shard = build_shard(config.model_copy(update={"replay": replay}), preparation.limits)
    replay = replay.model_copy(update={"num_shards": 2})
    half = build_shard(config.model_copy(update={"replay": replay}), preparation.limits)
    for chunk in inserted:
        shard.insert(chunk)
        half.insert(chunk)
    assert shard.stats().num_bytes == sum(chunk.num_bytes for chunk in inserted)
    assert half.stats().num_bytes <= 2.5 * inserted[0].num_bytes


@pytest.mark.parametrize("window", [None, 512])
def test_a_window_smaller_than_the_capacity_sees_chunks_again(
    window: int | None, config: RunConfig, preparation: Preparation
) -> None:
    replay = config.replay.model_copy(update={"window": window})
    config = config.model_copy(update={"replay": replay})
    shard = build_shard(config, preparation.limits)
    (reader,) = build_readers(config, [shard])
    inserted: list[EncodedChunk] = []
    runner = collector(config, inserted)
    again = 0
    for _ in range(12):
        runner.run_once()
        shard.insert(inserted[-1])
        item = reader.read()
        again += len(item.revisited) if item else 0
    assert (again > 0) == (window is not None)


def test_every_shard_draws_numbers_of_its_own(config: RunConfig, preparation: Preparation) -> None:
    shards = [build_shard(config, preparation.limits, index) for index in (0, 1, 1)]
    first, second, again = (shard._rng.random() for shard in shards)
    assert first != second == again


def test_readers_ask_for_what_the_recipe_says(config: RunConfig) -> None:
    asked: list[int] = []

    class Source:
        def sample(self, *, cursor: int, num_samples: int, held: Collection[int]) -> None:
            asked.append(num_samples)

    for reader in build_readers(config, [Source(), Source()]):
        assert reader.read() is None
    assert asked == [config.samples_per_request] * 2


def test_the_parts_together_are_a_distillation(
    config: RunConfig, preparation: Preparation, tmp_path: Path
) -> None:
    shard = build_shard(config, preparation.limits)
    published: list[PolicyWeights] = []
    trainer = build_trainer(
        config,
        student=student(),
        teacher_dists=("logits",),
        feed=DirectFeed(build_readers(config, [shard])),
        publish=published.append,
        checkpoints=tmp_path / "checkpoints",
    )
    inserted: list[EncodedChunk] = []
    runner = collector(config, inserted)
    for _ in range(100):
        if trainer.finished:
            break
        runner.run_once()
        assert shard.can_insert()
        assert shard.insert(inserted[-1])
        while not trainer.finished and trainer.run_once(0.0):
            pass
    assert trainer.finished
    assert trainer.stats().env_steps >= config.total_env_steps
    assert [weights.version for weights in published] == list(range(len(published)))
    assert len(published) > 1


@pytest.mark.parametrize("policy", [None, cartpole_teacher()], ids=["random", "teacher"])
def test_episodes_are_played_in_full(config: RunConfig, policy: Policy | None) -> None:
    result = play_episodes(
        config,
        policy=policy,
        reference=None if policy is None else cartpole_teacher(),
        num_episodes=3,
        seed=0,
        num_observations=20,
    )
    assert len(result.returns) == 3
    assert result.observations.shape == (20, 4)
    if policy is None:
        assert max(result.returns) < 200
        assert result.greedy_agreement is None
    else:
        assert result.returns == (500.0,) * 3
        assert result.greedy_agreement == 1.0


def test_the_student_of_one_process_is_not_what_the_learner_trains(
    preparation: Preparation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The learner's copy may live on a GPU; everyone else acts on the CPU."""
    acting: list[Policy] = []

    def spy(config: RunConfig, *, student: Policy, **rest: Any) -> Collector:
        acting.append(student)
        return build_collector(config, student=student, **rest)

    monkeypatch.setattr(local_backend, "build_collector", spy)
    session = LocalBackend().distil(preparation, cartpole_teacher(), tmp_path / "checkpoints")
    assert isinstance(session, LocalSession)
    while not session.poll().finished:
        pass
    delivered = session.finish()
    trained = session.student.network.state_dict()
    for name, tensor in delivered.network.state_dict().items():
        assert torch.equal(tensor, trained[name])
        assert tensor.data_ptr() != trained[name].data_ptr()
    assert [student.network is session.student.network for student in acting] == [False]
