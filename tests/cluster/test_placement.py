"""The three placements of the teacher: built as the recipe says, and the same labels from each."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from actors.shared_inference import SharedInference
from cluster import placement
from cluster.assembly import build_collector, build_readers, build_shard
from cluster.placement import (
    build_acting_teacher,
    build_gatherer,
    build_labeller,
    build_shared_teacher,
)
from cluster.prepare import new_student, prepare
from cluster.recipe.config import RunConfig
from common.codec import EncodedChunk, decode
from common.policies.acting import ActingPolicy
from common.policies.inference import InferencePolicy, PolicyOutputs
from common.policies.policy import Policy, save_policy
from common.policies.question import pack
from common.trajectory import TrajectoryChunk
from common.weights import WeightStore
from tests.builders import make_policy
from tests.cartpole import cartpole_teacher, load_config

FRAMES = (
    "env={family = 'atari', id = 'pong', frame_size = 36, max_frames_per_episode = 80}",
    "actors.num_envs_per_runner=3",
    "actors.unroll_length=14",
    "student.network={name = 'nature_cnn', channels = [2], kernels = [8], strides = [4]}",
)
PLACEMENTS = ("runner", "shared", "at_sampling")


def frames_teacher() -> Policy:
    return make_policy(
        "frames",
        seed=1,
        observation={"shape": (4, 36, 36), "dtype": "uint8", "scale": 1 / 255},
        num_actions=6,
        has_value=True,
    )


def config_for(folder: Path, name: str, *overrides: str) -> RunConfig:
    return load_config(folder, f"actors.inference.placement={name}", *overrides)


class Packed:
    """A shared teacher as env runners in other processes ask it."""

    def __init__(self, shared: SharedInference) -> None:
        self._shared = shared
        self.spec = shared.spec

    def __call__(self, observations: np.ndarray) -> PolicyOutputs:
        return self.ask(observations)()

    def ask(self, observations: np.ndarray) -> Callable[[], PolicyOutputs]:
        question = pack(observations)
        return lambda: self._shared.answer_packed([question])[0]


def chunks_of(
    config: RunConfig, teacher: Policy, acting: ActingPolicy | None = None
) -> list[TrajectoryChunk]:
    """Return what the learner gets of one runner, along the road from env copies to reader."""
    preparation = prepare(config, num_cpus=2, num_gpus=0)
    shard = build_shard(config, preparation.limits)
    inserted: list[EncodedChunk] = []
    collector = build_collector(
        config,
        teacher=acting or build_acting_teacher(config, teacher),
        student=new_student(config, preparation.environment, teacher.spec),
        runner_id=0,
        incarnation=0,
        pull=WeightStore().pull_if_newer,
        insert=inserted.append,
    )
    for _ in range(3):
        collector.run_once()
    labelled = [decode(chunk).teacher_dist_inputs is not None for chunk in inserted]
    assert labelled == [config.actors.labels_chunks] * 3
    for chunk in inserted:
        shard.insert(chunk)
    labeller = None if config.actors.labels_chunks else build_labeller(config, teacher)
    (reader,) = build_readers(config, [shard], labeller)
    item = reader.read()
    assert item is not None
    return item.chunks


@pytest.mark.parametrize(
    ("kind", "behavior"),
    [("vectors", "teacher"), ("vectors", "student"), ("vectors", "mixed"), ("frames", "mixed")],
)
def test_every_placement_gives_the_learner_the_same_labels(
    kind: str, behavior: str, tmp_path: Path
) -> None:
    overrides = [f"behavior={{name = '{behavior}', teacher_epsilon = 0.9}}"]
    overrides += ["replay.min_size_to_sample=1"]
    overrides += FRAMES if kind == "frames" else ()
    teacher = frames_teacher() if kind == "frames" else cartpole_teacher()

    def config(name: str) -> RunConfig:
        made = config_for(tmp_path, name, *overrides, "actors.precision=float32")
        save_policy(teacher, tmp_path / "teacher.safetensors")
        return made

    wanted = chunks_of(config("runner"), teacher)
    shared = config("shared")
    others = {
        "direct": chunks_of(shared, teacher),
        "packed": chunks_of(shared, teacher, Packed(build_shared_teacher(shared, teacher))),
        "at_sampling": chunks_of(config("at_sampling"), teacher),
    }
    assert any(not chunk.valid.all() for chunk in wanted)
    for name, chunks in others.items():
        for chunk, labelled in zip(chunks, wanted, strict=True):
            valid = labelled.valid
            np.testing.assert_array_equal(chunk.valid, valid)
            np.testing.assert_array_equal(chunk.actions, labelled.actions)
            assert chunk.teacher_version == labelled.teacher_version == 0
            assert chunk.labels.dtype == labelled.labels.dtype
            # Float16 rounds what batches of other sizes may have changed in a last bit.
            np.testing.assert_allclose(
                chunk.labels[valid], labelled.labels[valid], rtol=1e-3, atol=1e-5, err_msg=name
            )
            assert (chunk.teacher_value is not None) == teacher.spec.has_value
            if chunk.teacher_value is not None and labelled.teacher_value is not None:
                np.testing.assert_allclose(
                    chunk.teacher_value[valid], labelled.teacher_value[valid], rtol=1e-4, atol=1e-5
                )


@pytest.mark.parametrize(
    ("name", "kind"),
    [("runner", InferencePolicy), ("shared", SharedInference), ("at_sampling", InferencePolicy)],
)
def test_env_runners_ask_what_the_recipe_says(name: str, kind: type, tmp_path: Path) -> None:
    acting = build_acting_teacher(config_for(tmp_path, name), cartpole_teacher())
    assert type(acting) is kind
    assert acting.spec == cartpole_teacher().spec


@pytest.mark.parametrize(
    ("num_runners", "num_actors", "together"),
    [(1, 1, 1), (2, 1, 2), (4, 2, 2), (3, 2, 2), (2, 2, 1)],
)
def test_a_question_waits_for_every_runner_that_shares_its_actor_and_no_longer(
    num_runners: int, num_actors: int, together: int, tmp_path: Path
) -> None:
    """The recipe lets them wait for an hour, and the test ends."""
    config = config_for(
        tmp_path,
        "shared",
        "actors.inference.max_wait_ms=3_600_000",
        f"actors.inference.num_actors={num_actors}",
        f"actors.num_env_runners={num_runners}",
    )
    shared = build_shared_teacher(config, cartpole_teacher())
    question = pack(np.ones((config.actors.num_envs_per_runner, 4), np.float32))

    async def scenario() -> None:
        gatherer = build_gatherer(config, shared)
        await asyncio.gather(*(gatherer.ask(question) for _ in range(together)))

    asyncio.run(scenario())
    assert (shared.num_batches, shared.num_rows) == (1, question.num_rows * together)


def test_batches_are_no_larger_than_the_recipe_says(tmp_path: Path) -> None:
    sizes: list[int] = []
    shared = config_for(tmp_path, "shared", "actors.inference.max_batch_size=3")
    teacher = build_shared_teacher(shared, cartpole_teacher())
    teacher(np.ones((8, 4), np.float32))
    assert teacher.num_batches == 3
    config = config_for(tmp_path, "at_sampling", "actors.inference.micro_batch_size=5")
    labeller = build_labeller(config, cartpole_teacher())
    acting = labeller.teacher

    class Spy:
        spec = acting.spec

        def __call__(self, observations: np.ndarray) -> PolicyOutputs:
            sizes.append(len(observations))
            return acting(observations)

    labeller.teacher = Spy()
    bare = config_for(tmp_path, "at_sampling", "replay.min_size_to_sample=1")
    (chunk, *_) = _unlabelled(bare)
    labeller.label(chunk)
    assert set(sizes[:-1]) == {5}


def _unlabelled(config: RunConfig) -> list[TrajectoryChunk]:
    inserted: list[EncodedChunk] = []
    build_collector(
        config,
        teacher=build_acting_teacher(config, cartpole_teacher()),
        student=cartpole_teacher(),
        runner_id=0,
        incarnation=0,
        pull=WeightStore().pull_if_newer,
        insert=inserted.append,
    ).run_once()
    return [decode(chunk) for chunk in inserted]


@pytest.mark.parametrize(
    ("overrides", "build", "device"),
    [
        (("shared", "actors.inference.num_gpus=0.5"), build_shared_teacher, "cuda"),
        (("shared",), build_shared_teacher, "cpu"),
        (("at_sampling", "learner.num_gpus=1"), build_labeller, "cuda"),
        (("at_sampling",), build_labeller, "cpu"),
        (("runner", "learner.num_gpus=1"), build_acting_teacher, "cpu"),
        (("at_sampling", "learner.num_gpus=1"), build_acting_teacher, "cpu"),
    ],
)
def test_the_teacher_computes_on_a_gpu_where_its_place_has_one(
    overrides: tuple[str, ...],
    build: Callable[..., Any],
    device: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: list[torch.device] = []

    def spy(
        config: RunConfig, policy: Policy, *, device: torch.device, refine_below: float
    ) -> InferencePolicy:
        found.append(device)
        return InferencePolicy(policy)

    monkeypatch.setattr(placement, "build_inference", spy)
    build(config_for(tmp_path, *overrides), cartpole_teacher())
    assert [each.type for each in found] == [device]
