"""What `check` tells of recipes that are good, with what is there for each."""

from pathlib import Path

from cluster.commands.summary import summary
from cluster.prepare import prepare
from cluster.recipe.config import RunConfig, load_recipe
from tests.cartpole import load_config
from tests.tasks import load_tasks


def told(config: RunConfig) -> list[str]:
    return list(summary(prepare(config, num_cpus=9, num_gpus=0)))


def test_a_teacher_that_is_to_be_trained_is_said_to_be(tmp_path: Path) -> None:
    load_config(tmp_path)
    recipe = tmp_path / "recipe.toml"
    path = '[teacher]\npath = "teacher.safetensors"'
    recipe.write_text(recipe.read_text().replace(path, "[teach]"))
    task, student = told(load_recipe(recipe, []))
    assert "actions: 2; teacher: to be trained, mlp of" in task
    assert student == "student: mlp of 114 parameters"


def test_every_task_has_a_line(tmp_path: Path) -> None:
    light, heavy, student = told(load_tasks(tmp_path))
    assert light.startswith("light: observations: 4 float32; actions: 2; teacher: feedback")
    assert heavy.startswith("heavy: observations: 4 float32; actions: 3; teacher: ")
    assert student.startswith("student: mlp of ")
