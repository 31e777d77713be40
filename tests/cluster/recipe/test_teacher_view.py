"""`[teacher.view]` and teachers with a memory: what a recipe may ask for, and whole runs."""

from pathlib import Path
from typing import Any

import pytest

from actors.environments.atari import AtariConfig
from cluster.local_backend import LocalBackend
from cluster.prepare import Preparation, prepare
from cluster.recipe.config import RunConfig, load_recipe
from cluster.recipe.tasks import TaskConfig, TeacherConfig
from cluster.record import recording_config
from common.errors import ConfigError, MismatchError, UserError
from common.policies.policy import load_policy, save_policy
from tests.builders import make_policy
from tests.cartpole import load_config
from tests.cluster.test_runs import run
from tests.commands import Stillhouse, assert_refused

GRU: dict[str, Any] = {
    "name": "gru",
    "channels": (2,),
    "kernels": (3,),
    "strides": (4,),
    "paddings": (1,),
    "hidden": 6,
}
RECIPE = """
name = "views"
total_env_steps = 1_024

[env]
family = "atari"
id = "pong"
frame_size = 36
frame_stack = 2
frame_skip = 2
frame_skip_max = 4
max_frames_per_episode = 60

[teacher]
path = "teacher.safetensors"

[teacher.view]
picture = "field"
frame_size = 16
frame_stack = 1
max_pool = false

[student.network]
name = "nature_cnn"
channels = [2]
kernels = [8]
strides = [4]
hidden = 8

[objective.kl]

[actors]
num_env_runners = 1
num_envs_per_runner = 4
unroll_length = 16

[replay]
capacity = 1_000
min_size_to_sample = 64

[learner]
batch_size = 32

[evaluation]
num_episodes = 2
num_observations = 20
"""


def load(folder: Path, *overrides: str, **teacher: Any) -> RunConfig:
    fields = {
        "observation": {"shape": (1, 16, 16), "dtype": "uint8", "scale": 1 / 255},
        "network": GRU,
        "num_actions": 6,
        "acting": {"mode": "sample"},
    }
    save_policy(make_policy("frames", **(fields | teacher)), folder / "teacher.safetensors")
    (folder / "recipe.toml").write_text(RECIPE)
    return load_recipe(folder / "recipe.toml", list(overrides))


def prepared(config: RunConfig) -> Preparation:
    return prepare(config, num_cpus=2, num_gpus=0)


FEED_FORWARD: dict[str, Any] = {
    "network": {
        "name": "nature_cnn",
        "channels": (2,),
        "kernels": (4,),
        "strides": (4,),
        "hidden": 4,
    }
}


def test_the_view_changes_what_the_teacher_sees_alone(tmp_path: Path) -> None:
    config = load(tmp_path)
    view = config.teacher_view
    assert view is not None
    assert (view.picture, view.frame_size, view.frame_stack, view.max_pool) == (
        "field",
        16,
        1,
        False,
    )
    assert isinstance(config.env, AtariConfig)
    assert (config.env.picture, config.env.frame_size) == ("screen", 36)
    alike = set(AtariConfig.model_fields) - {"picture", "frame_size", "frame_stack", "max_pool"}
    assert all(getattr(view, key) == getattr(config.env, key) for key in alike)
    seen = config.seen_by_teacher()
    assert (seen.env, seen.teacher_view) == (view, None)
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config


def test_a_view_of_what_the_student_sees_is_none(tmp_path: Path) -> None:
    config = load(tmp_path, "teacher.view={frame_size = 36}")
    assert config.teacher_view is None
    assert config.seen_by_teacher().env == config.env
    plain = load_config(tmp_path)
    assert plain.seen_by_teacher() is plain


def test_both_views_and_the_teacher_are_found_good(tmp_path: Path) -> None:
    preparation = prepared(load(tmp_path))
    assert preparation.environment.observation.shape == (2, 36, 36)
    assert preparation.environment.seen_by_teacher.shape == (1, 16, 16)
    assert preparation.teacher is not None
    student = preparation.new_student(preparation.teacher)
    assert student.spec.observation.shape == (2, 36, 36)


def test_warnings_hold_the_teacher_against_its_own_view(tmp_path: Path) -> None:
    made_for = {"picture": "field", "frame_size": 16, "frame_stack": 1, "frame_skip": 3}
    warnings = prepared(load(tmp_path, environment=made_for)).warnings
    assert [w for w in warnings if "was made for" in w] == [
        "teacher tiny frames was made for frame_skip = 3, the recipe has 2"
    ]


@pytest.mark.parametrize(
    ("overrides", "teacher", "error", "message"),
    [
        (("teacher.view.frame_sise=3",), {}, ConfigError, "did you mean frame_size"),
        (("teacher.view.picture=round",), {}, ConfigError, "teacher.view.picture = 'round'"),
        (
            ("actors.inference.placement=at_sampling",),
            {},
            ConfigError,
            "placement = 'at_sampling': the learner would ask the teacher, and it has what",
        ),
        (
            ("objective.feature.weight=0.1",),
            {},
            ConfigError,
            "objective.feature: the learner would",
        ),
        (
            ("teacher.refresh={path = 'versions'}",),
            {},
            ConfigError,
            "teacher.view: does not work with [teacher.refresh]",
        ),
        (("teacher.view={}",), {}, MismatchError, "or say in teacher.view what it sees"),
        (
            ("actors.inference.placement=shared",),
            {},
            MismatchError,
            "placement = 'shared': teacher tiny frames has a memory",
        ),
        (
            ("objective.kl.temperature=auto",),
            {},
            MismatchError,
            "temperature = 'auto': teacher tiny frames has a memory",
        ),
        (("env.frame_size=170",), FEED_FORWARD, ConfigError, "use at most 160"),
    ],
)
def test_what_does_not_work_is_refused_in_a_line(
    tmp_path: Path,
    overrides: tuple[str, ...],
    teacher: dict[str, Any],
    error: type[UserError],
    message: str,
) -> None:
    with pytest.raises(error) as caught:
        prepared(load(tmp_path, *overrides, **teacher))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "setting",
    [
        "actors.inference.placement=at_sampling",
        "objective.feature={}",
        "teacher.refresh={path = 'versions'}",
    ],
)
def test_the_learner_asks_no_teacher_with_a_memory(tmp_path: Path, setting: str) -> None:
    """Also where it sees what the student sees."""
    same = ("env.frame_size=36", "teacher.view={}")
    seen = {"shape": (2, 36, 36), "dtype": "uint8", "scale": 1 / 255}
    with pytest.raises(MismatchError, match="has a memory, and must see every episode in order"):
        prepared(load(tmp_path, *same, setting, observation=seen))


def test_views_are_of_atari_games(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"teacher\.view: is for env\.family = 'atari'"):
        load_config(tmp_path, "teacher.view={frame_size = 84}")


def test_each_task_may_have_a_view_of_its_own(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert config.teacher is not None
    tasks = tuple(
        TaskConfig(
            name=name, env=config.env, teacher=TeacherConfig(path=config.teacher.path, view=view)
        )
        for name, view in (("own", config.teacher.view), ("same", None))
    )
    tree = config.model_dump(mode="json", exclude={"env", "teacher"}) | {
        "tasks": [task.model_dump(mode="json") for task in tasks]
    }
    tree["actors"]["num_env_runners"] = 2
    own, same = RunConfig.model_validate(tree).of_tasks()
    assert own.teacher_view == config.teacher_view
    assert same.teacher_view is None
    tree["actors"]["inference"] = {"placement": "at_sampling"}
    with pytest.raises(ValueError, match="at_sampling"):
        RunConfig.model_validate(tree)


def test_nothing_is_recorded_with_a_view(tmp_path: Path) -> None:
    config = load(tmp_path, "behavior.name=teacher")
    with pytest.raises(ConfigError, match=r"teacher\.view: record works with a teacher that sees"):
        recording_config(config)


def test_bench_refuses_both(tmp_path: Path, stillhouse: Stillhouse) -> None:
    load(tmp_path)
    assert_refused(stillhouse("bench", "--recipe", "recipe.toml"), "teacher.view: bench works with")
    seen = {"shape": (2, 36, 36), "dtype": "uint8", "scale": 1 / 255}
    load(tmp_path, observation=seen)
    result = stillhouse("bench", "--recipe", "recipe.toml", "--set", "teacher.view={}")
    assert_refused(result, "bench: teacher tiny frames has a memory (gru)")


@pytest.mark.parametrize("teacher", [{}, FEED_FORWARD], ids=["gru", "feed-forward"])
def test_a_whole_run_with_two_views(tmp_path: Path, teacher: dict[str, Any]) -> None:
    """From the baseline to the exported student; scores are of both views."""
    config = load(tmp_path, **teacher)
    outcome = run(config, tmp_path / "run", LocalBackend())
    assert outcome.finished
    assert outcome.evaluation is not None
    task = outcome.evaluation["tasks"]["pong"]
    assert task["teacher"]["episodes"] == task["student"]["episodes"] == 2
    assert 0.0 <= task["greedy_agreement"] <= 1.0
    assert outcome.evaluation["onnx"]["greedy_agreement"] == 1.0
    student = load_policy(tmp_path / "run" / "student.safetensors")
    assert student.spec.observation.shape == (2, 36, 36)
    again = load_recipe(tmp_path / "run" / "recipe.toml", [])
    assert again.teacher_view == config.teacher_view
