"""A newer teacher reaches everybody who asks it, in every placement, and over a resumed run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.assembly import build_collector
from cluster.local_backend import LocalBackend, LocalSession
from cluster.placement import build_acting_teacher, build_labeller, build_relabeller
from cluster.prepare import Preparation, new_student, prepare
from cluster.recipe.config import RunConfig
from common.codec import EncodedChunk, decode
from common.errors import ConfigError
from common.policies.inference import InferencePolicy
from common.policies.policy import Policy, new_policy, save_policy
from common.trajectory import TrajectoryChunk
from common.weights import WeightStore
from tests.cartpole import cartpole_teacher, load_config

REFRESH = "teacher.refresh={path = 'versions'}"
SMALL = ("actors.unroll_length=16", "replay.min_size_to_sample=128", "actors.precision=float32")


def version(number: int) -> Policy:
    """Return a teacher that differs from all other versions, in its size too."""
    spec = cartpole_teacher().spec
    network = spec.network.model_copy(update={"hidden": (8 + number,)})
    changes = {"teacher_version": number, "network": network}
    return new_policy(spec.model_copy(update=changes), seed=number)


def prepared(folder: Path, teacher: Policy, *overrides: str) -> Preparation:
    config = load_config(folder, REFRESH, *SMALL, *overrides)
    return prepare(config, num_cpus=2, num_gpus=0, teacher=teacher)


def assert_labelled_by(chunk: TrajectoryChunk, number: int) -> None:
    assert chunk.teacher_version == number
    valid = chunk.valid
    observations: Any = chunk.observations
    logits = InferencePolicy(version(number))(observations.values[valid]).dist_inputs
    wanted = logits - logits.max(-1, keepdims=True)
    np.testing.assert_allclose(chunk.labels[valid], wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("placement", ["runner", "shared", "at_sampling"])
def test_chunks_are_labelled_by_the_newest_teacher_and_say_so(
    placement: str, tmp_path: Path
) -> None:
    preparation = prepared(tmp_path, version(0), f"actors.inference.placement={placement}")
    config, store = preparation.config, WeightStore()
    labeller = build_labeller(config, version(0)) if placement == "at_sampling" else None
    relabeller = build_relabeller(config, version(0), labeller)
    assert relabeller is not None
    inserted: list[EncodedChunk] = []
    collector = build_collector(
        config,
        teacher=build_acting_teacher(config, version(0)),
        student=new_student(config, preparation.environment, version(0).spec),
        runner_id=0,
        incarnation=0,
        pull=store.pull_if_newer,
        insert=inserted.append,
        pull_teacher=store.teacher_if_newer,
    )
    for number in (0, 1, 3):
        if number:
            relabeller.take(version(number))
            store.publish_teacher(version(number))
        collector.run_once()
        assert collector.stats().teacher_version == number
        chunk = decode(inserted[-1])
        assert_labelled_by(chunk if labeller is None else labeller.label(chunk), number)


def test_without_the_table_nobody_asks_for_newer_teachers(tmp_path: Path) -> None:
    config = load_config(tmp_path, *SMALL)
    preparation = prepare(config, num_cpus=2, num_gpus=0, teacher=version(0))

    def pull_teacher(version: int) -> Policy | None:
        raise AssertionError("the teacher never changes")

    collector = build_collector(
        config,
        teacher=build_acting_teacher(config, version(0)),
        student=new_student(config, preparation.environment, version(0).spec),
        runner_id=0,
        incarnation=0,
        pull=WeightStore().pull_if_newer,
        insert=lambda chunk: None,
        pull_teacher=pull_teacher,
    )
    collector.run_once()
    assert collector.stats().teacher_version is None
    assert build_relabeller(config, version(0), None) is None


class Going:
    """A session in this process, polled by its own loop: a few turns at a time."""

    def __init__(self, folder: Path, teacher: Policy, *overrides: str) -> None:
        preparation = prepared(folder, teacher, "total_env_steps=1_000_000", *overrides)
        session = LocalBackend().distil(preparation, teacher, folder / "checkpoints")
        assert isinstance(session, LocalSession)
        self.session = session

    def turns(self, number: int) -> None:
        self.session._adjust()
        for _ in range(number):
            for collector in self.session._collectors:
                collector.run_once()
            while self.session._trainer.run_once(0.0):
                pass


@pytest.mark.parametrize("replay", ["false", "true"])
def test_a_resumed_run_goes_on_with_the_version_that_it_had(replay: str, tmp_path: Path) -> None:
    kept = f"replay.checkpoint={replay}"
    first = Going(tmp_path, version(0), kept)
    first.turns(6)
    first.session.take_teacher(version(1))
    first.turns(2)
    then = first.session._trainer.stats()
    assert then.teacher_version == 1
    assert then.relabelled > 0
    assert then.unknown_labels == 0
    first.session.finish()

    with pytest.raises(ConfigError) as caught:
        Going(tmp_path, version(0), kept)
    assert "made with version 1 of the teacher" in str(caught.value)
    assert "version 0" in str(caught.value)
    assert "\n" not in str(caught.value)

    second = Going(tmp_path, version(1), kept)
    assert second.session._trainer.stats().teacher_version == 1
    second.turns(6)
    now = second.session._trainer.stats()
    assert (now.teacher_version, now.unknown_labels) == (1, 0)
    assert now.learner_steps > then.learner_steps
    # Only what the saved replay brought back of version 0 had to be labelled anew.
    assert (now.relabelled > 0) == (replay == "true")
    second.session.abort()


def test_a_version_older_than_the_present_one_changes_nothing(tmp_path: Path) -> None:
    going = Going(tmp_path, version(2))
    going.turns(2)
    going.session.take_teacher(version(1))
    going.turns(2)
    assert going.session._trainer.stats().teacher_version == 2
    assert [collector.stats().teacher_version for collector in going.session._collectors] == [2]
    going.session.abort()


def test_a_recipes_own_teacher_is_version_0_whatever_it_was_elsewhere(tmp_path: Path) -> None:
    config: RunConfig = load_config(tmp_path)
    save_policy(version(4), tmp_path / "teacher.safetensors")
    teacher = prepare(config, num_cpus=2, num_gpus=0).teacher
    assert teacher is not None
    assert teacher.spec.teacher_version == 0
