"""Whole runs in one process of what looks along time: CartPole from its linear teacher."""

from pathlib import Path
from typing import Any

import pytest

from cluster.evaluation import evaluate_student
from cluster.local_backend import LocalBackend
from cluster.prepare import prepare
from cluster.recipe.config import RunConfig
from common.config import validate
from tests.cartpole import cartpole_teacher

pytestmark = pytest.mark.slow

BASE: dict[str, Any] = {
    "name": "along-time",
    "total_env_steps": 60_000,
    "env": {"family": "gymnasium", "id": "CartPole-v1"},
    "teacher": {"path": "teacher.safetensors"},
    "student": {"network": {"name": "mlp", "hidden": [16]}},
    "behavior": {"name": "student", "student_epsilon": 0.0},
    "actors": {"num_env_runners": 1, "num_envs_per_runner": 8, "unroll_length": 32},
    "replay": {
        "window": 512,
        "capacity": 512,
        "samples_per_insert": 4.0,
        "min_size_to_sample": 256,
    },
    "learner": {
        "sequence_length": 32,
        "batch_size": 128,
        "learning_rate": 3e-3,
        "publish_interval_steps": 2,
    },
    "evaluation": {"num_episodes": 16, "num_random_episodes": 16, "num_observations": 10},
}

SHARP: dict[str, Any] = {"temperature": 0.05}
"""The linear teacher's logits are flat: greedy it balances the pole, sampled from it does not."""

TERMS: dict[str, dict[str, Any]] = {
    "expected_entropy": SHARP | {"discount": 0.5},
    "n_distill": SHARP,
    "ppd": SHARP | {"discount": 0.9},
    "kickstart": SHARP,
    "qdagger": {"target_interval_steps": 50},
}
MEMORY = {
    "student": {"network": {"name": "lstm", "hidden": 16, "torso": {"name": "mlp"}}},
    "behavior": {"name": "dagger"},
    "learner": BASE["learner"] | {"burn_in": 4},
    "replay": {"window": 10_000, "samples_per_insert": 4.0, "min_size_to_sample": 512},
}


def share_of(folder: Path, **changes: Any) -> tuple[float, str]:
    """Distil and return the student's share of its teacher, and how both acted."""
    config = validate(RunConfig, BASE | changes, "recipe")
    teacher, backend = cartpole_teacher(), LocalBackend()
    preparation = prepare(config, num_cpus=4, num_gpus=0, teacher=teacher)
    session = backend.distil(preparation, teacher, folder / "checkpoints")
    while not session.poll().finished:
        pass
    scores = evaluate_student(config, backend, teacher, session.finish())
    assert scores.share is not None
    return scores.share.share, scores.acting


@pytest.mark.parametrize(("name", "settings"), TERMS.items())
def test_a_run_brings_a_student_to_its_teacher(name: str, settings: dict[str, Any], tmp_path: Path):
    share, acting = share_of(tmp_path, objective={name: settings})
    assert share > 0.7
    same = "greedy, ε = 0"
    sampled = "teacher greedy, ε = 0; student sample, ε = 0"
    assert acting == (same if name == "qdagger" else sampled)


def test_a_run_brings_a_student_with_a_memory_to_its_teacher(tmp_path: Path):
    share, _ = share_of(tmp_path, objective={"kl": {}}, **MEMORY)
    assert share > 0.9
