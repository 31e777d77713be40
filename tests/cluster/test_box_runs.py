"""Whole runs with actions that are vectors."""

from pathlib import Path

import pytest
import torch
from rich.console import Console

from cluster.board import RunStatus
from cluster.control import Control
from cluster.controller import Controller, Outcome
from cluster.local_backend import LocalBackend
from cluster.prepare import prepare
from cluster.progress import PlainReporter
from cluster.recipe.config import RunConfig, load_recipe
from cluster.record import record, recording_config
from cluster.recording import RecordingJob
from cluster.run_directory import RunDirectory, create_run_directory
from common.policies.policy import load_policy, policy_from_state, save_policy
from common.policies.spec import DistKind, PolicySpec
from common.storage import locate

RECIPES = Path(__file__).resolve().parents[2] / "deploy" / "recipes"
MOUNTAIN_CAR = """
name = "swing"
total_env_steps = 16_000

[env]
family = "gymnasium"
id = "MountainCarContinuous-v0"

[teacher]
path = "teacher.safetensors"

[student.network]
name = "mlp"
hidden = [16]

[objective.gaussian_kl]

[actors]
num_env_runners = 1
num_envs_per_runner = 8
unroll_length = 32

[replay]
capacity = 10_000
samples_per_insert = 8.0
min_size_to_sample = 512

[learner]
batch_size = 64
learning_rate = 3e-3
publish_interval_steps = 10

[evaluation]
num_episodes = 8
num_observations = 500
"""


def save_swinging_teacher(path: Path, dist: DistKind) -> None:
    """Write a teacher that pushes the car the way that it rolls, as hard as it rolls fast."""
    spec = PolicySpec.model_validate(
        {
            "name": "swinger",
            "network": {"name": "mlp", "hidden": (2,)},
            "observation": {
                "shape": (2,),
                "dtype": "float32",
                "normalizer": {"mean": (-0.4, 0.0), "std": (0.4, 0.03), "clip": 10.0},
            },
            "action_box": {"low": (-1.0,), "high": (1.0,)},
            "dist": dist,
        }
    )
    speed = torch.tensor([[0.0, 1.0], [0.0, -1.0]])
    push = torch.tensor([[3.0, -3.0], [0.0, 0.0]])[: spec.num_dist_inputs]
    state = {
        "layers.0.weight": speed,
        "layers.0.bias": torch.zeros(2),
        "head.weight": push,
        "head.bias": torch.tensor([0.1, -1.0])[: spec.num_dist_inputs],
    }
    save_policy(policy_from_state(spec, state, source="swinger"), path)


def run(config: RunConfig, directory: Path) -> Outcome:
    preparation = prepare(config, num_cpus=2, num_gpus=0)
    control = Control(RunStatus(name=config.name, run_dir=str(directory), task=config.env.id))
    return Controller(
        preparation,
        create_run_directory(directory, config),
        LocalBackend(),
        PlainReporter(Console(quiet=True)),
        control,
    ).run()


@pytest.mark.parametrize(
    ("dist", "overrides"),
    [
        ("gaussian", ()),
        (
            "squashed_gaussian",
            ("actors.inference.placement=at_sampling", "objective.feature.weight=0.001"),
        ),
        ("deterministic", ("objective={action_mse = {}}", "replay.sampler.name=prioritized")),
    ],
)
def test_a_run_in_one_process_reaches_its_teacher(
    dist: DistKind, overrides: tuple[str, ...], tmp_path: Path
) -> None:
    save_swinging_teacher(tmp_path / "teacher.safetensors", dist)
    (tmp_path / "recipe.toml").write_text(MOUNTAIN_CAR)
    config = load_recipe(tmp_path / "recipe.toml", list(overrides))
    outcome = run(config, tmp_path / "run")
    assert outcome.finished
    assert outcome.evaluation is not None
    task = outcome.evaluation["tasks"]["MountainCarContinuous-v0"]
    assert task["teacher"]["mean_return"] > 85
    assert task["random"]["mean_return"] < 0
    assert task["share_of_teacher"] > 0.95
    assert task["greedy_agreement"] is None
    assert task["action_error"] < 0.1
    assert outcome.evaluation["onnx"]["action_error"] < 1e-5
    files = RunDirectory(tmp_path / "run")
    student = load_policy(files.student).spec
    assert student.dist == dist
    assert student.observation.normalizer is not None
    assert files.onnx.exists()


MEMORY = (
    "student.network={name = 'lstm', hidden = 16, torso = {name = 'mlp', hidden = [16]}}",
    "learner.sequence_length=32",
    "learner.burn_in=4",
    "objective={action_mse = {}}",
)


@pytest.mark.parametrize(("overrides", "largest"), [((), 0.1), (MEMORY, 0.3)])
def test_a_student_learns_from_a_dataset(
    overrides: tuple[str, ...], largest: float, tmp_path: Path
) -> None:
    save_swinging_teacher(tmp_path / "teacher.safetensors", "gaussian")
    (tmp_path / "recipe.toml").write_text(MOUNTAIN_CAR)
    config = recording_config(
        load_recipe(tmp_path / "recipe.toml", ["behavior={name = 'teacher', action_noise = 0.3}"])
    )
    preparation = prepare(config, num_cpus=2, num_gpus=0)
    assert preparation.teacher is not None
    job = RecordingJob(
        preparation=preparation,
        teacher=preparation.teacher,
        out=locate(tmp_path / "data"),
        num_transitions=8_000,
    )
    manifest, complete = record(job, LocalBackend(), PlainReporter(Console(quiet=True)))
    assert complete
    assert manifest.transitions >= 8_000
    teacher = '[teacher]\npath = "teacher.safetensors"\n'
    assert teacher in MOUNTAIN_CAR
    dataset = '[dataset]\npath = "data"\n'
    (tmp_path / "recipe.toml").write_text(MOUNTAIN_CAR.replace(teacher, dataset))
    outcome = run(load_recipe(tmp_path / "recipe.toml", list(overrides)), tmp_path / "run")
    assert outcome.evaluation is not None
    held_out = outcome.evaluation["tasks"]["MountainCarContinuous-v0"]["held_out"]
    assert held_out["action_error"] < largest
    assert (held_out["greedy_agreement"], held_out["kl"]) == (None, None)
    assert outcome.evaluation["onnx"]["action_error"] < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_the_pendulum_recipe_reaches_published_teachers(
    algorithm: str, shared_teachers: Path, tmp_path: Path
) -> None:
    path = shared_teachers / "sb3-zoo" / algorithm / "Pendulum-v1" / "Pendulum-v1.zip"
    config = load_recipe(RECIPES / "pendulum.toml", [f"teacher.path={path}"])
    outcome = run(config, tmp_path / "run")
    assert outcome.evaluation is not None
    assert outcome.evaluation["tasks"]["Pendulum-v1"]["share_of_teacher"] >= 0.95
