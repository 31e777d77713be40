import json
from pathlib import Path

import pytest

from cluster.prepare import prepare
from cluster.recipe.config import RunConfig
from cluster.run_directory import RunDirectory, create_run_directory, open_run_directory
from common.errors import ConfigError, MismatchError
from common.policies.policy import load_policy, save_policy
from tests.builders import make_policy
from tests.cartpole import cartpole_teacher, load_config
from tests.commands import ROOT, Stillhouse
from tests.tasks import HEAVY, load_tasks, write_tasks


def test_a_recipe_knows_each_of_its_tasks(tmp_path: Path) -> None:
    config = load_tasks(tmp_path)
    assert config.task_name == "light+heavy"
    light, heavy = config.of_tasks()
    assert (light.task_name, light.env.id) == ("light", "CartPole-v1")
    assert (heavy.task_name, heavy.env.id) == ("heavy", HEAVY)
    assert heavy.teacher is not None
    assert heavy.teacher.path == str(tmp_path / "heavy.safetensors")
    assert RunConfig.model_validate_json(config.model_dump_json()) == config
    assert RunConfig.model_validate_json(heavy.model_dump_json()) == heavy


def test_the_resolved_recipe_is_read_again(tmp_path: Path) -> None:
    config = load_tasks(tmp_path)
    create_run_directory(tmp_path / "run", config)
    _, again = open_run_directory(tmp_path / "run", [])
    assert again == config


def test_a_task_is_changed_by_its_name(tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    config = load_tasks(tmp_path, f"tasks.heavy.teacher.path={other}")
    assert config.tasks[1].teacher.path == str(other)
    with pytest.raises(ConfigError, match="tasks has no third, only light, heavy"):
        load_tasks(tmp_path, f"tasks.third.teacher.path={other}")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("env.id=CartPole-v1", "env: give it in each of"),
        ("actors.num_env_runners=1", "actors.num_env_runners = 1: fewer than the 2"),
        ("learner.batch_size=63", "learner.batch_size = 63: must be a multiple of the 2"),
        ("replay.checkpoint=true", "replay.checkpoint = true: works with one task, not 2"),
        ("actors.inference.placement=shared", "placement = 'shared': works with one task"),
        ("objective.value.weight=0.5", "objective.value: works with one task"),
        ("objective.kl.temperature=auto", "temperature = 'auto': works with one task"),
        ("replay.window=600", "replay.window = 600: must hold two chunks"),
        ("tasks.heavy.name=light", "tasks: names must differ: light, light"),
        ("tasks.heavy.name=a/b", "tasks.1.name = 'a/b'"),
    ],
)
def test_what_does_not_go_with_several_tasks_is_refused(
    tmp_path: Path, override: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_tasks(tmp_path, override)
    assert "\n" not in str(caught.value)


def test_teachers_of_other_observations_are_refused(tmp_path: Path) -> None:
    config = load_tasks(tmp_path, 'tasks.heavy.env.id="Acrobot-v1"')
    acrobot = make_policy(
        network={"name": "mlp", "hidden": (4,)},
        observation={"shape": (6,), "dtype": "float32"},
        num_actions=3,
    )
    save_policy(acrobot, tmp_path / "heavy.safetensors")
    with pytest.raises(MismatchError, match="tasks light and heavy: one student cannot see both"):
        prepare(config, num_cpus=4, num_gpus=0)


def test_the_student_has_a_head_for_each_task(tmp_path: Path) -> None:
    preparation = prepare(load_tasks(tmp_path), num_cpus=4, num_gpus=0)
    assert preparation.teacher is not None
    student = preparation.new_student(preparation.teacher)
    heads = [(head.name, head.num_actions, head.dist) for head in student.spec.heads]
    assert heads == [("light", 2, "logits"), ("heavy", 3, "logits")]
    assert preparation.teacher_dists(preparation.teacher) == ("logits", "q_values")


@pytest.mark.slow
def test_one_student_learns_two_tasks(tmp_path: Path, stillhouse: Stillhouse) -> None:
    recipe = write_tasks(tmp_path)
    # At 12,000 the heavier task's share depends on the seed.
    longer = "--set=total_env_steps=20_000"
    ran = stillhouse("run", recipe, "--local", "--run-dir", tmp_path / "run", longer)
    assert ran.returncode == 0, ran.stderr
    directory = RunDirectory(tmp_path / "run")
    scores = json.loads(directory.evaluation.read_text())
    assert list(scores["tasks"]) == ["light", "heavy"]
    for task in scores["tasks"].values():
        assert task["share_of_teacher"] > 0.9
        assert task["onnx"]["greedy_agreement"] == 1.0
    figures = json.loads(directory.metrics.read_text().splitlines()[-1])
    assert {"learner/light/kl", "learner/heavy/kl"} <= figures.keys()
    # Every transition that was collected was received, whatever task it is of.
    assert figures["learner/env_steps"] == figures["actor/env_steps"] >= 20_000
    assert len(load_policy(directory.student).spec.heads) == 2
    one = stillhouse("evaluate", tmp_path / "run", "--local", "--task", "heavy", "--json")
    assert list(json.loads(one.stdout)["tasks"]) == ["heavy"]
    assert list(json.loads(directory.evaluation.read_text())["tasks"]) == ["light", "heavy"]
    whole = stillhouse("export", tmp_path / "run")
    assert (whole.returncode, "name one with --task: light, heavy" in whole.stderr) == (2, True)
    assert stillhouse("export", tmp_path / "run", "--task", "light").returncode == 0
    assert (tmp_path / "run" / "student.light.onnx").is_file()


@pytest.mark.ray
@pytest.mark.slow
def test_two_tasks_on_ray(
    tmp_path: Path, stillhouse: Stillhouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # Ray's workers import the second task from there
    recipe = write_tasks(tmp_path)
    changes = [
        "--set=actors.num_cpus_per_runner=0.5",
        "--set=learner.num_cpus=0.5",
        "--set=total_env_steps=16000",
    ]
    ran = stillhouse("run", recipe, "--run-dir", tmp_path / "run", *changes)
    assert ran.returncode == 0, ran.stderr
    scores = json.loads(RunDirectory(tmp_path / "run").evaluation.read_text())
    assert all(task["share_of_teacher"] > 0.5 for task in scores["tasks"].values())


def test_a_task_may_have_several_teachers(tmp_path: Path) -> None:
    again = tmp_path / "teacher.safetensors"
    config = load_tasks(tmp_path, f'tasks.light.teacher.members=["{again}"]')
    preparation = prepare(config, num_cpus=4, num_gpus=0)
    light, heavy = preparation.teachers(cartpole_teacher())
    assert light.spec.network.name == "ensemble"
    assert light.spec.name == "feedback+feedback"
    assert heavy.spec.name == "heavy-feedback"


def test_several_teachers_compute_in_the_env_runners(tmp_path: Path) -> None:
    again = str(tmp_path / "teacher.safetensors")
    members = f'teacher.members=["{again}"]'
    config = load_config(tmp_path, members)
    assert config.teacher is not None
    assert config.teacher.members == (again,)
    with pytest.raises(ConfigError, match=r"teacher\.members: work with"):
        load_config(tmp_path, members, "actors.inference.placement=shared")
