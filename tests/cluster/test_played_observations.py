"""A policy plays where its file or its run says, and a C program is calibrated on what it sees."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from cluster.played_observations import NUM_OBSERVATIONS, environment_of, played_observations
from cluster.run_directory import create_run_directory
from common.errors import ConfigError
from common.policies.policy import save_policy
from common.storage import locate
from tests.cartpole import cartpole_teacher, load_config, save_cartpole_teacher
from tests.commands import Stillhouse, assert_refused
from tests.learners.export.programs import needs_compiler, policy_of


def test_a_file_tells_where_its_policy_plays() -> None:
    policy = cartpole_teacher()
    seen = played_observations(policy, locate("teacher.safetensors"), None)
    assert seen.dtype == np.float32
    assert seen.shape[1:] == (4,)
    assert 1_900 <= len(seen) <= NUM_OBSERVATIONS  # four games of 500 steps, kept up
    assert np.abs(seen[:, 2]).max() < 0.3
    assert len(np.unique(seen, axis=0)) > 1_800


def test_a_run_directory_tells_it_by_its_recipe(tmp_path: Path) -> None:
    config = load_config(tmp_path)
    create_run_directory(tmp_path / "run", config)
    told = cartpole_teacher()
    policy = dataclasses.replace(told, spec=told.spec.model_copy(update={"environment": {}}))
    assert environment_of(policy, locate(tmp_path / "run"), None) == config.env
    with pytest.raises(ConfigError, match="give its run directory"):
        environment_of(policy, locate(tmp_path / "teacher.safetensors"), None)


@needs_compiler
def test_export_writes_a_c_program_and_says_what_it_is_like(
    tmp_path: Path, stillhouse: Stillhouse
) -> None:
    save_cartpole_teacher(tmp_path / "teacher.safetensors")
    result = stillhouse("export", "teacher.safetensors", "--format", "c", "--out", "student.c")
    assert result.returncode == 0, result.stderr
    size = (tmp_path / "student.c").stat().st_size
    first, memory, likeness, speed = result.stdout.splitlines()
    assert first == f"student.c: {size:,} bytes"
    assert "bytes of constants, 12 bytes of RAM; weights of " in memory
    assert "greedy action in " in likeness
    assert "of 2,000 real observations" in likeness
    assert "ms a decision on one thread here" in speed


def test_what_cannot_be_a_c_program_is_refused(tmp_path: Path, stillhouse: Stillhouse) -> None:
    save_policy(policy_of("vectors"), tmp_path / "policy.safetensors")
    result = stillhouse("export", "policy.safetensors", "--format", "c")
    assert_refused(result, "policy.safetensors", "give its run directory")
