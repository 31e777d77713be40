"""A published recurrent teacher of Pong, and a student without memory that sees other frames."""

import math
from pathlib import Path

import pytest

from cluster.prepare import prepare
from cluster.recipe.config import load_recipe
from tests.benchmarks.recurrent_teacher import NAME, RECIPE, distil, held_out_chunks, score

OVERRIDES = [
    "total_env_steps=8_192",
    "actors.num_env_runners=1",
    "actors.num_envs_per_runner=8",
    "behavior.name=teacher",
    "replay.samples_per_insert=4.0",
    "replay.min_size_to_sample=1_024",
    "learner.batch_size=64",
]


@pytest.mark.slow
def test_a_student_of_standard_frames_learns_from_it(shared_teachers: Path, tmp_path: Path) -> None:
    """KL falls in states that it did not train on."""
    path = shared_teachers / NAME / f"{NAME}.safetensors"
    config = load_recipe(RECIPE, [f"teacher.path={path}", *OVERRIDES])
    preparation = prepare(config, num_cpus=math.inf, num_gpus=0)
    teacher = preparation.teacher
    assert teacher is not None
    assert teacher.spec.observation.shape == (1, 80, 80)
    chunks = held_out_chunks(preparation, teacher)
    before = score(config, preparation.new_student(teacher), chunks).likeness.kl
    student, env_steps = distil(preparation, teacher, tmp_path, math.inf)
    assert env_steps >= config.total_env_steps
    assert student.spec.observation.shape == (4, 84, 84)
    after = score(config, student, chunks).likeness.kl
    assert before is not None
    assert after is not None
    assert after < 0.9 * before
