"""Recording: what is recorded, when it ends, and what is refused."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from actors.environments import make_environment
from cluster import local_recording
from cluster.local_backend import LocalBackend
from cluster.prepare import prepare
from cluster.recipe.config import RunConfig
from cluster.record import check_new_dataset, record, recording_config
from cluster.recording import RecordingJob
from cluster.session import Backend
from common.dataset import Dataset, DatasetWriter, Manifest, open_dataset
from common.errors import ConfigError, DatasetError, StorageError
from common.policies.policy import Policy, new_policy, save_policy
from common.storage import locate
from common.trajectory import TEACHER, TrajectoryChunk, VectorObservations
from tests.builders import make_spec
from tests.cartpole import GAINS, cartpole_teacher, load_config
from tests.cluster.controller_bench import FakeReporter

ENDLESS = 10_000_000


@pytest.fixture(autouse=True)
def _short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_recording, "POLL_S", 0.05)


def recorded(
    config: RunConfig,
    out: Path,
    *,
    num_transitions: int = 1_000,
    teacher: Policy | None = None,
    backend: Backend | None = None,
    reporter: Any = None,
) -> tuple[Manifest, bool]:
    config = recording_config(config)
    preparation = prepare(config, num_cpus=2, num_gpus=0)
    job = RecordingJob(
        preparation=preparation,
        teacher=teacher or cartpole_teacher(),
        out=locate(out),
        num_transitions=num_transitions,
    )
    return record(job, backend or LocalBackend(), reporter or FakeReporter())


def chunks_of(dataset: Dataset) -> list[TrajectoryChunk]:
    return [dataset.read(number) for number in range(len(dataset))]


def assert_played_by_the_teacher(chunks: list[TrajectoryChunk], epsilon: float) -> None:
    """By its rule, outside the program: push to the side of the feedback's sign."""
    feedback, pushed = [], []
    for chunk in chunks:
        assert isinstance(chunk.observations, VectorObservations)
        assert (chunk.acting_policy == TEACHER).all()
        values = chunk.observations.values[chunk.valid]
        feedback.append(values @ GAINS.numpy() > 0)
        pushed.append(chunk.actions[chunk.valid])
        greedy = chunk.labels[chunk.valid].argmax(-1)
        np.testing.assert_array_equal(greedy, feedback[-1])
    differs = np.concatenate(feedback) != np.concatenate(pushed)
    share = epsilon / 2  # of two actions, a random one is the other half of the time
    error = (share * (1 - share) / len(differs)) ** 0.5
    assert differs.mean() == pytest.approx(share, abs=4 * error)


def test_the_teacher_plays_and_labels(tmp_path: Path) -> None:
    config = load_config(
        tmp_path, "behavior={name='teacher', teacher_epsilon=0.3}", "actors.num_env_runners=2"
    )
    manifest, complete = recorded(config, tmp_path / "data")
    dataset = open_dataset(tmp_path / "data")
    dataset.verify()
    assert complete
    assert dataset.manifest == manifest
    assert 1_000 <= manifest.transitions < 1_000 + config.actors.chunk_size
    assert manifest.behavior == {
        "name": "teacher",
        "teacher_epsilon": 0.3,
        "student_epsilon": 0.02,
        "action_noise": 0.05,
    }
    assert (manifest.task, manifest.environment["id"]) == ("CartPole-v1", "CartPole-v1")
    assert "trust" not in manifest.environment
    assert (manifest.unroll_length, manifest.num_envs) == (32, 8)
    assert dataset.teacher().spec == cartpole_teacher().spec
    chunks = chunks_of(dataset)
    assert {chunk.chunk_id.runner for chunk in chunks} == {0, 1}
    assert_played_by_the_teacher(chunks, 0.3)


def test_placement_and_default_behavior_are_those_of_a_recording(tmp_path: Path) -> None:
    for placement in ("shared", "at_sampling"):
        config = load_config(tmp_path, f"actors.inference.placement={placement}")
        recorded(config, tmp_path / placement, num_transitions=300)
        assert_played_by_the_teacher(chunks_of(open_dataset(tmp_path / placement)), 0.05)


def test_q_values_and_values_are_recorded_too(tmp_path: Path) -> None:
    teacher = cartpole_teacher("q_values")
    recorded(load_config(tmp_path), tmp_path / "q", teacher=teacher, num_transitions=300)
    (chunk, *_) = chunks_of(open_dataset(tmp_path / "q"))
    assert chunk.labels.dtype == np.float32
    assert chunk.labels.max() != 0
    assert chunk.teacher_value is None
    spec = make_spec(observation={"shape": (4,), "dtype": "float32"}, num_actions=2, has_value=True)
    recorded(
        load_config(tmp_path), tmp_path / "v", teacher=new_policy(spec, seed=1), num_transitions=300
    )
    (chunk, *_) = chunks_of(open_dataset(tmp_path / "v"))
    assert chunk.teacher_value is not None
    assert chunk.teacher_value.std() > 0


@pytest.mark.parametrize("name", ["student", "mixed"])
def test_a_behavior_in_which_an_untrained_student_would_act_is_refused(
    name: str, tmp_path: Path
) -> None:
    config = load_config(tmp_path, f"behavior.name={name}")
    with pytest.raises(ConfigError, match=f"behavior.name = '{name}'.*behavior.name=teacher"):
        recording_config(config)


@pytest.mark.parametrize("taken", ["file", "folder"])
def test_a_place_that_is_taken_is_refused(taken: str, tmp_path: Path) -> None:
    place = tmp_path / "data"
    if taken == "folder":
        place.mkdir()
        (place / "precious").touch()
    else:
        place.touch()
    with pytest.raises(DatasetError, match="--out"):
        check_new_dataset(locate(place))
    check_new_dataset(locate(tmp_path / "other"))


class Impatient(FakeReporter):
    """Asks to stop after a while."""

    def progress(self, phase: str, fraction: float, text: str) -> None:
        super().progress(phase, fraction, text)
        os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_leaves_a_smaller_dataset(tmp_path: Path) -> None:
    reporter = Impatient()
    manifest, complete = recorded(
        load_config(tmp_path), tmp_path / "data", num_transitions=ENDLESS, reporter=reporter
    )
    assert not complete
    assert not reporter.open
    dataset = open_dataset(tmp_path / "data")
    dataset.verify()
    assert dataset.manifest == manifest
    assert 0 < manifest.transitions < ENDLESS
    assert len(chunks_of(dataset)) == manifest.chunks


def test_a_full_disk_ends_it_and_leaves_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(job: RecordingJob) -> DatasetWriter:
        limits = {"num_transitions": job.num_transitions, "part_transitions": 500}
        return DatasetWriter(job.out, job.manifest(), job.teacher, **limits)

    monkeypatch.setattr(RecordingJob, "writer", start)
    write, calls = DatasetWriter._fill, []

    def fill(self: Any, *args: Any) -> None:
        calls.append(args)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        write(self, *args)

    monkeypatch.setattr(DatasetWriter, "_fill", fill)
    with pytest.raises(StorageError, match="No space left"):
        recorded(load_config(tmp_path), tmp_path / "data", num_transitions=ENDLESS)
    dataset = open_dataset(tmp_path / "data")
    dataset.verify()
    assert len(dataset.manifest.parts) == 2


def test_a_game_of_frames_is_recorded_as_it_was_played(tmp_path: Path) -> None:
    """Pong: stacks out of the dataset against those that an environment shows again."""
    teacher = new_policy(
        make_spec(
            "frames",
            observation={"shape": (4, 36, 36), "dtype": "uint8", "scale": 1 / 255},
            num_actions=6,
        ),
        seed=0,
    )
    config = load_config(
        tmp_path,
        "env={family='atari', id='pong', frame_size=36, max_frames_per_episode=240}",
        "student={network={name='nature_cnn', size='62k'}}",
        "actors.num_envs_per_runner=2",
        "behavior={name='teacher', teacher_epsilon=0.2}",
        "objective.kl.temperature=1.0",
    )
    save_policy(teacher, tmp_path / "teacher.safetensors")
    manifest, _ = recorded(config, tmp_path / "data", teacher=teacher, num_transitions=400)
    assert manifest.episodes > 0
    chunks = chunks_of(open_dataset(tmp_path / "data"))
    rng = np.random.default_rng((config.seed, 0, 0, 0))
    env = make_environment(config.env, num_envs=2)
    seen = env.reset(int(rng.integers(2**30)))
    with torch.inference_mode():
        for chunk in chunks:
            stacks = chunk.observations.stacks()
            for step in range(32):
                np.testing.assert_array_equal(stacks[step], seen)
                result = env.step(chunk.actions[step].astype(np.int64))
                np.testing.assert_array_equal(chunk.rewards[step], result.rewards)
                seen = result.observations
    env.close()


@pytest.mark.ray
@pytest.mark.slow
def test_a_recording_on_ray_is_of_the_same_kind(tmp_path: Path, ray_backend: Backend) -> None:
    config = load_config(
        tmp_path, "actors.num_env_runners=2", "behavior={name='teacher', teacher_epsilon=0.3}"
    )
    manifest, complete = recorded(
        config, tmp_path / "data", num_transitions=4_000, backend=ray_backend
    )
    assert complete
    dataset = open_dataset(tmp_path / "data")
    dataset.verify()
    assert dataset.manifest == manifest
    assert 4_000 <= manifest.transitions < 4_000 + config.actors.chunk_size
    chunks = chunks_of(dataset)
    # Where one starts late, the other may have collected everything.
    assert {chunk.chunk_id.runner for chunk in chunks} <= {0, 1}
    assert_played_by_the_teacher(chunks, 0.3)


@pytest.mark.ray
@pytest.mark.slow
def test_on_ray_a_place_that_cannot_be_written_is_one_line(
    tmp_path: Path, ray_backend: Backend
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file/data") as caught:
        recorded(load_config(tmp_path), tmp_path / "file" / "data", backend=ray_backend)
    assert len(str(caught.value).splitlines()) == 1
