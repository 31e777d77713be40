"""What `prepare` finds where actions are boxes."""

from pathlib import Path
from typing import Any

import pytest

from cluster.prepare import new_student
from cluster.recipe.config import RunConfig
from common.errors import MismatchError
from tests.cluster.preparations import BOX, config_for, prepared

PENDULUM = ("env.id=Pendulum-v1", "objective={gaussian_kl = {}}")


def pendulum_config(folder: Path, *overrides: str, **teacher: Any) -> RunConfig:
    """Return a recipe for Pendulum with a Gaussian teacher of random weights."""
    spec = {"observation": {"shape": (3,), "dtype": "float32"}, "num_actions": None}
    spec |= {"action_box": BOX, "dist": "gaussian"} | teacher
    return config_for(folder, *PENDULUM, *overrides, **spec)


@pytest.mark.parametrize(
    ("teacher", "overrides", "dist"),
    [
        ("gaussian", (), "gaussian"),
        ("squashed_gaussian", (), "squashed_gaussian"),
        ("squashed_gaussian", ("objective.action_mse.weight=1",), "squashed_gaussian"),
        ("gaussian", ("objective={action_mse = {}}",), "deterministic"),
        ("deterministic", ("objective={action_mse = {}}",), "deterministic"),
    ],
)
def test_a_student_of_box_actions_is_of_the_kind_that_its_terms_teach(
    teacher: str, overrides: tuple[str, ...], dist: str, tmp_path: Path
) -> None:
    preparation = prepared(pendulum_config(tmp_path, *overrides, dist=teacher))
    assert preparation.teacher is not None
    student = new_student(
        preparation.config, preparation.environment, preparation.teacher.spec
    ).spec
    assert (student.dist, student.num_actions) == (dist, None)
    assert student.action_box == preparation.environment.action_box


@pytest.mark.parametrize(
    ("teacher", "override", "message"),
    [
        ({}, "objective={kl = {}}", "objective.kl needs .* use objective.gaussian_kl"),
        ({"dist": "deterministic"}, "seed=1", "and .* gives deterministic; use objective.action_m"),
        ({"action_box": {"low": (-1.0,), "high": (1.0,)}}, "seed=1", "1 within -1 to 1, but .* -2"),
        ({"action_box": {"low": (-2.0,) * 2, "high": (2.0,) * 2}}, "seed=1", "vectors of 2 within"),
        ({"num_actions": 2, "action_box": None, "dist": "logits"}, "seed=1", "has 2 actions, but"),
    ],
)
def test_a_teacher_or_term_of_other_actions_is_refused(
    teacher: dict[str, Any], override: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(MismatchError, match=message) as caught:
        prepared(pendulum_config(tmp_path, override, **teacher))
    assert "\n" not in str(caught.value)


def test_a_term_for_boxes_is_refused_for_a_discrete_teacher(tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match=r"action_mse needs .* gives logits; use objective.kl"):
        prepared(config_for(tmp_path, "objective={action_mse = {}}"))


@pytest.mark.parametrize(("choice", "has_one"), [("teacher", True), ("none", False)])
def test_a_student_may_normalise_as_its_teacher_does(
    choice: str, has_one: bool, tmp_path: Path
) -> None:
    normalizer = {"mean": (0.0, 1.0, 2.0), "std": (1.0, 2.0, 3.0), "clip": 10.0}
    observation = {"shape": (3,), "dtype": "float32", "normalizer": normalizer}
    config = pendulum_config(tmp_path, f"student.normalizer={choice}", observation=observation)
    preparation = prepared(config)
    assert preparation.teacher is not None
    student = new_student(config, preparation.environment, preparation.teacher.spec)
    assert (student.spec.observation.normalizer is not None) == has_one
    assert preparation.environment.observation.normalizer is None
