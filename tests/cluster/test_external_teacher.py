"""Recipes whose teacher brings its own runtime, on the command line and through whole runs."""

import json
from pathlib import Path

import pytest

from cluster.local_backend import LocalBackend
from cluster.on_ray.detached import take_teacher_along
from cluster.prepare import prepare
from cluster.recipe.config import load_recipe
from cluster.run_directory import RunDirectory, kept_teacher, read_evaluation
from cluster.session import Backend
from common.errors import MismatchError, PolicyFileError
from common.networks.external import ExternalSpec
from learners.export import export_onnx
from tests.cartpole import RECIPE
from tests.cluster.test_runs import run
from tests.commands import Stillhouse, assert_refused
from tests.programs import write_program


def recipe_for(folder: Path, runtime: str) -> Path:
    """Write a program of CartPole's feedback and a recipe that distils it."""
    teacher = write_program(folder, runtime)
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE.replace("teacher.safetensors", teacher.name), encoding="utf-8")
    return recipe


def test_check_finds_an_onnx_teacher_good(tmp_path: Path, stillhouse: Stillhouse) -> None:
    result = stillhouse("check", recipe_for(tmp_path, "onnx"))
    assert result.returncode == 0, result.stderr
    assert "good" in result.stdout


@pytest.mark.parametrize("runtime", ["torchscript", "torch_export"])
def test_check_wants_trust_for_what_can_run_code(
    runtime: str, tmp_path: Path, stillhouse: Stillhouse
) -> None:
    recipe = recipe_for(tmp_path, runtime)
    assert_refused(stillhouse("check", recipe), "teacher.", "teacher.trust = true")
    result = stillhouse("check", recipe, "--set", "teacher.trust=true")
    assert result.returncode == 0, result.stderr


def test_a_factory_in_a_recipe_is_no_path(tmp_path: Path, stillhouse: Stillhouse) -> None:
    recipe = recipe_for(tmp_path, "onnx")
    config = load_recipe(recipe, ["teacher.path=package.module:function"])
    assert config.teacher is not None
    assert config.teacher.path == "package.module:function"
    refused = stillhouse("check", recipe, "--set", "teacher.path=package.module:function")
    assert_refused(refused, "imports the module package.module", "teacher.trust = true")


def test_export_says_that_a_program_has_its_runtime(tmp_path: Path, stillhouse: Stillhouse) -> None:
    path = write_program(tmp_path, "onnx")
    assert_refused(stillhouse("export", path, "--out", "out.onnx"), "brings its own runtime")


@pytest.mark.parametrize("placement", ["runner", "shared", "at_sampling"])
def test_a_run_in_one_process_learns_from_a_program(placement: str, tmp_path: Path) -> None:
    overrides = ["total_env_steps=6_000", f"actors.inference.placement={placement}"]
    config = load_recipe(recipe_for(tmp_path, "onnx"), overrides)
    outcome = run(config, tmp_path / "run", LocalBackend())
    assert outcome.finished
    evaluation = read_evaluation(RunDirectory(tmp_path / "run"))
    task = evaluation["tasks"]["CartPole-v1"]
    assert task["teacher"]["mean_return"] > 400
    assert task["share_of_teacher"] > 0.8
    assert evaluation["teacher"]["parameters"] == 12
    assert evaluation["teacher"]["multiply_adds"] is None


@pytest.mark.parametrize("runtime", ["torchscript", "torch_export"])
def test_programs_of_torch_go_through_a_run(runtime: str, tmp_path: Path) -> None:
    overrides = ["total_env_steps=2_000", "teacher.trust=true"]
    config = load_recipe(recipe_for(tmp_path, runtime), overrides)
    assert run(config, tmp_path / "run", LocalBackend()).finished


@pytest.mark.ray
@pytest.mark.slow
def test_a_trusted_program_travels_to_actors(tmp_path: Path, ray_backend: Backend) -> None:
    overrides = ["total_env_steps=2_000", "teacher.trust=true"]
    config = load_recipe(recipe_for(tmp_path, "torchscript"), overrides)
    assert run(config, tmp_path / "run", ray_backend).finished


def test_a_program_is_taken_along_and_needs_its_file_no_more(tmp_path: Path) -> None:
    config = load_recipe(recipe_for(tmp_path, "torchscript"), ["teacher.trust=true"])
    directory = RunDirectory(tmp_path / "run")
    teacher = prepare(config, num_cpus=2, num_gpus=0).teacher
    taken = take_teacher_along(directory, config, teacher)
    for file in tmp_path.glob("teacher.*"):
        file.unlink()
    kept = kept_teacher(directory, taken)
    assert kept is not None
    assert teacher is not None
    assert kept.spec == teacher.spec
    assert isinstance(kept.spec.network, ExternalSpec)
    preparation = prepare(taken, num_cpus=2, num_gpus=0, teacher=kept)
    assert preparation.teacher is kept
    assert taken.teacher is not None
    distrusted = taken.teacher.model_copy(update={"trust": False})
    with pytest.raises(PolicyFileError, match=r"set teacher\.trust = true"):
        kept_teacher(directory, taken.model_copy(update={"teacher": distrusted}))


def test_a_student_cannot_be_a_program(tmp_path: Path, stillhouse: Stillhouse) -> None:
    recipe = recipe_for(tmp_path, "onnx")
    result = stillhouse("check", recipe, "--set", "student.network.name=external")
    assert_refused(result, "student.network", "external")


def test_export_onnx_refuses_a_program(tmp_path: Path) -> None:
    config = load_recipe(recipe_for(tmp_path, "onnx"), [])
    teacher = prepare(config, num_cpus=2, num_gpus=0).teacher
    assert teacher is not None
    with pytest.raises(MismatchError, match="is an ONNX file, which brings its own runtime"):
        export_onnx(teacher, tmp_path / "out.onnx")
    assert json.loads((tmp_path / "teacher.json").read_text()) == {"dist": "logits"}
