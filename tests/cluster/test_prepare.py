import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cluster.prepare import check_resources, new_student, taught_spec
from cluster.recipe.config import RunConfig, load_recipe
from common.errors import ConfigError, MismatchError, PolicyFileError, ResourceError, UserError
from common.policies.policy import save_policy
from common.policies.spec import ActingSpec
from tests.builders import make_policy
from tests.cartpole import cartpole_teacher, load_config
from tests.cluster.preparations import BOX, config_for, prepared
from tests.common.teachers.sb3_files import layers, vec_normalize, write
from tests.tasks import load_tasks


def teach_config(folder: Path, *overrides: str) -> RunConfig:
    """Return CartPole's recipe with a teacher that is to be trained."""
    path = folder / "teach.toml"
    load_config(folder)
    text = (folder / "recipe.toml").read_text()
    path.write_text(text.replace('[teacher]\npath = "teacher.safetensors"', "[teach]"))
    return load_recipe(path, list(overrides))


def test_a_good_recipe_comes_with_what_was_loaded(tmp_path: Path) -> None:
    config = config_for(tmp_path)
    preparation = prepared(config)
    assert preparation.config is config
    assert preparation.environment.observation.shape == (4,)
    assert preparation.environment.num_actions == 2
    assert preparation.teacher is not None
    assert preparation.teacher.spec.network.hidden == (64,)
    assert preparation.warnings == ()
    assert preparation.limits == config.replay.limits(insert_size=config.actors.chunk_size)


def test_with_config_changes_the_recipe_only(tmp_path: Path) -> None:
    preparation = prepared(config_for(tmp_path))
    other = preparation.config.model_copy(update={"seed": 7})
    changed = preparation.with_config(other)
    assert changed.config is other
    assert preparation.config.seed == 0
    for name in ("environment", "teacher", "limits", "warnings"):
        assert getattr(changed, name) is getattr(preparation, name)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (
            {"observation": {"shape": (5,), "dtype": "float32"}},
            r"sees float32 observations of shape \(5,\), but env.id = 'CartPole-v1' gives .*\(4,\)",
        ),
        ({"observation": {"shape": (4,), "dtype": "uint8"}}, "sees uint8 .* gives float32"),
        ({"num_actions": 3}, "has 3 actions, but env.id = 'CartPole-v1' has 2"),
        (
            {"num_actions": None, "action_box": BOX, "dist": "gaussian"},
            "has vectors of 1 within -2 to 2, but env.id = 'CartPole-v1' has 2 actions",
        ),
    ],
)
def test_a_teacher_of_another_environment_is_refused(
    teacher: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(MismatchError, match=message):
        prepared(config_for(tmp_path, **teacher))


def test_a_teacher_with_the_same_actions_in_another_order_is_refused(tmp_path: Path) -> None:
    config = load_config(tmp_path, "env={family = 'atari', id = 'pong', frame_size = 36}")
    teacher = {
        "observation": {"shape": (4, 36, 36), "dtype": "uint8", "scale": 1 / 255},
        "num_actions": 6,
        "action_meanings": ("FIRE", "NOOP", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE"),
    }
    save_policy(make_policy("frames", **teacher), tmp_path / "teacher.safetensors")
    with pytest.raises(MismatchError, match=r"has the actions \('FIRE', .*environment \('NOOP', "):
        prepared(config)


def test_a_teacher_that_names_no_actions_is_not_refused_for_them(tmp_path: Path) -> None:
    config = load_config(
        tmp_path,
        "env={family = 'atari', id = 'pong', frame_size = 36}",
        "student.network={name = 'nature_cnn', channels = [2], kernels = [8], strides = [4]}",
    )
    observation = {"shape": (4, 36, 36), "dtype": "uint8", "scale": 1 / 255}
    teacher = make_policy("frames", observation=observation, num_actions=6)
    save_policy(teacher, tmp_path / "teacher.safetensors")
    assert prepared(config).teacher is not None


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        (
            "teacher.path=nowhere.zip",
            PolicyFileError,
            r"^teacher.path = /.*/nowhere.zip: no such file; .* with --set teacher.path=FILE$",
        ),
        ("env.id=NoSuchEnv-v0", ConfigError, "env.id = 'NoSuchEnv-v0': cannot make it"),
        ("student.network={name = 'nature_cnn'}", MismatchError, "use network mlp for vectors"),
        ("objective={q_mse = {}}", MismatchError, "gives q_values, and .* gives logits; use"),
        ("objective.value.weight=1.0", MismatchError, "has neither a value head nor Q-values"),
        (
            "objective.soft_policy_gradient.advantage=mean",
            MismatchError,
            "advantage = 'mean' needs a Q-teacher",
        ),
        ("learner.num_gpus=1", ResourceError, "learner.num_gpus = 1, and there are 0"),
        ("actors.num_env_runners=3", ResourceError, r"2.6 CPUs \(3 .* 0.7 each, learner 0.5\)"),
    ],
)
def test_what_does_not_fit_is_refused(
    override: str, error: type[UserError], message: str, tmp_path: Path
) -> None:
    config = config_for(tmp_path, override)
    with pytest.raises(error, match=message) as caught:
        prepared(config)
    assert "\n" not in str(caught.value)


def test_a_tasks_teacher_that_is_missing_is_named_by_its_key(tmp_path: Path) -> None:
    config = load_tasks(tmp_path, "tasks.heavy.teacher.path=nowhere.zip")
    with pytest.raises(PolicyFileError) as caught:
        prepared(config)
    message = str(caught.value)
    assert message.startswith("tasks.heavy.teacher.path = /")
    assert message.endswith("--set tasks.heavy.teacher.path=FILE")


def zipped_teacher(folder: Path) -> Path:
    """Write a Stable-Baselines3 zip of random weights that plays CartPole."""
    state = layers(0, q_net__q_net__0=(64, 4), q_net__q_net__2=(64, 64), q_net__q_net__4=(2, 64))
    return write(folder, state, action_space={"n": "2"}, observation_space={"_shape": [4]})


def test_statistics_that_lie_unread_beside_a_teacher_are_noted(tmp_path: Path) -> None:
    path = zipped_teacher(tmp_path)
    assert prepared(load_config(tmp_path, f"teacher.path={path}")).warnings == ()
    (tmp_path / "stats.pkl").touch()
    (note,) = prepared(load_config(tmp_path, f"teacher.path={path}")).warnings
    assert "stats.pkl was not read" in note


def test_a_recipe_names_a_teachers_statistics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mean, variance = np.arange(4.0), np.full(4, 4.0)
    statistics = vec_normalize(monkeypatch, mean=mean, variance=variance, clip=10.0)
    (tmp_path / "stats.pkl").write_bytes(pickle.dumps(statistics))
    path, named = zipped_teacher(tmp_path), f"teacher.normalizer={tmp_path / 'stats.pkl'}"
    alone = load_config(tmp_path, f"teacher.path={path}", named)
    together = load_config(tmp_path, f"teacher.path={path}", named, f"teacher.members=['{path}']")
    note = f"{path}: its observations are normalised, as {tmp_path / 'stats.pkl'} says"
    for config, notes in [(alone, (note,)), (together, (note, note))]:
        preparation = prepared(config)
        assert preparation.teacher is not None
        normalizer = preparation.teacher.spec.observation.normalizer
        assert normalizer is not None
        assert normalizer.mean == tuple(mean)
        assert preparation.warnings == notes


def test_a_recipe_may_ask_for_everything_and_no_more(tmp_path: Path) -> None:
    config = config_for(tmp_path, "actors.num_env_runners=3", "learner.num_gpus=1")
    check_resources(config, num_cpus=3 * 0.7 + 0.5, num_gpus=1)
    with pytest.raises(ResourceError, match="num_env_runners"):
        check_resources(config, num_cpus=2.5, num_gpus=1)
    with pytest.raises(ResourceError, match="num_gpus"):
        check_resources(config, num_cpus=9, num_gpus=0.5)


def test_a_shared_teacher_is_counted_with_the_rest(tmp_path: Path) -> None:
    shared = ("actors.inference.placement=shared", "actors.inference.num_actors=2")
    small = config_for(tmp_path, "actors.num_env_runners=2", *shared)
    check_resources(small, num_cpus=2 * 0.7 + 0.5 + 2 * 0.1, num_gpus=0)
    with pytest.raises(ResourceError, match=r"2.1 CPUs \(.*, 2 shared inference with 0.1 each\)"):
        check_resources(small, num_cpus=2, num_gpus=0)
    large = config_for(tmp_path, "actors.num_env_runners=2", *shared, "learner.num_gpus=1")
    gpu = large.actors.inference.model_copy(update={"num_gpus": 0.5})
    large = large.model_copy(update={"actors": large.actors.model_copy(update={"inference": gpu})})
    check_resources(large, num_cpus=9, num_gpus=2)
    with pytest.raises(ResourceError, match=r"actors.inference asks for 1 GPUs and .* there are 1"):
        check_resources(large, num_cpus=9, num_gpus=1)
    with pytest.raises(ResourceError, match=r"learner.num_gpus = 1, and there are 0"):
        check_resources(large, num_cpus=9, num_gpus=0)


def test_the_default_place_fits_two_runners_on_two_cpus(tmp_path: Path) -> None:
    """So does the shared one, with no other key changed."""
    for name in ("runner", "shared", "at_sampling"):
        placed = f"actors.inference.placement={name}"
        prepared(config_for(tmp_path, "actors.num_env_runners=2", placed), num_cpus=2)


def test_every_rank_of_the_learner_is_counted(tmp_path: Path) -> None:
    ranks = ("learner.num_ranks=2", "replay.num_shards=2", "learner.num_gpus=1")
    config = config_for(tmp_path, "actors.num_env_runners=2", *ranks)
    check_resources(config, num_cpus=2 * 0.7 + 2 * 0.5, num_gpus=2)
    with pytest.raises(ResourceError, match=r"2.4 CPUs \(.*2 learner ranks with 0.5 each\)"):
        check_resources(config, num_cpus=2.3, num_gpus=2)
    with pytest.raises(ResourceError, match="num_gpus = 1 for each of 2 ranks, and there are 1;"):
        check_resources(config, num_cpus=9, num_gpus=1)


def test_a_student_that_is_not_smaller_is_told_of(tmp_path: Path) -> None:
    (warning,) = prepared(load_config(tmp_path)).warnings
    assert warning == "the student (114 parameters) is not smaller than its teacher (16)"


def test_a_teacher_made_for_something_else_is_told_of(tmp_path: Path) -> None:
    made_for = {"family": "gymnasium", "id": "CartPole-v0", "kwargs": {}, "its_own_key": 1}
    (warning,) = prepared(config_for(tmp_path, environment=made_for)).warnings
    assert warning.endswith("was made for id = 'CartPole-v0', the recipe has 'CartPole-v1'")


def test_the_recipe_says_how_the_teacher_acts_where_it_wants_to(tmp_path: Path) -> None:
    sampled = ActingSpec(mode="sample", epsilon=0.25)
    as_filed = prepared(config_for(tmp_path, acting=sampled.model_dump())).teacher
    assert as_filed is not None
    assert as_filed.spec.acting == sampled
    changed = prepared(config_for(tmp_path, "teacher.acting.epsilon=0.5")).teacher
    assert changed is not None
    assert changed.spec.acting == ActingSpec(epsilon=0.5)
    assert changed.spec.network == as_filed.spec.network


def test_a_teacher_that_is_to_be_trained_is_checked_before(tmp_path: Path) -> None:
    good = prepared(teach_config(tmp_path, "teach.algorithm=dqn", "objective={q_mse = {}}"))
    assert good.teacher is None
    assert good.warnings == ()
    with pytest.raises(MismatchError, match="gives q_values, and balance-teacher gives logits"):
        prepared(teach_config(tmp_path, "teach.algorithm=ppo", "objective={q_mse = {}}"))
    with pytest.raises(MismatchError, match="use network mlp"):
        prepared(teach_config(tmp_path, "student.network={name = 'nature_cnn'}"))
    (warning,) = prepared(teach_config(tmp_path, "teach.hidden=[4]")).warnings
    assert warning == "the student (114 parameters) is not smaller than its teacher (30)"


def test_a_student_is_made_for_the_environment_and_acts_as_its_teacher(tmp_path: Path) -> None:
    preparation = prepared(config_for(tmp_path))
    acting = ActingSpec(mode="sample", epsilon=0.1)
    spec = cartpole_teacher().spec.model_copy(update={"acting": acting})
    student = new_student(preparation.config, preparation.environment, spec)
    assert student.spec.name == "balance-student"
    assert student.spec.network == preparation.config.student.network
    assert student.spec.observation == preparation.environment.observation
    assert student.spec.num_actions == 2
    assert student.spec.acting == acting
    assert student.spec.dist == "logits"
    assert student.spec.environment["id"] == "CartPole-v1"
    assert student.spec.provenance["teacher"] == "feedback"


def test_a_student_gives_q_values_where_it_learns_them(tmp_path: Path) -> None:
    preparation = prepared(config_for(tmp_path))
    config = load_config(tmp_path, "objective.q_mse.weight=1.0")
    student = new_student(config, preparation.environment, cartpole_teacher("q_values").spec)
    assert student.spec.dist == "q_values"


def test_a_student_has_a_value_head_where_it_learns_values(tmp_path: Path) -> None:
    teacher = config_for(tmp_path, "objective.value.error=absolute", has_value=True)
    preparation = prepared(teacher)
    assert preparation.teacher is not None
    student = new_student(teacher, preparation.environment, preparation.teacher.spec)
    assert student.spec.has_value
    assert "value.weight" in student.network.state_dict()
    plain = new_student(load_config(tmp_path), preparation.environment, preparation.teacher.spec)
    assert not plain.spec.has_value


def test_a_seed_gives_a_student(tmp_path: Path) -> None:
    preparation = prepared(config_for(tmp_path))
    first, again, other = (
        new_student(
            preparation.config.model_copy(update={"seed": seed}),
            preparation.environment,
            cartpole_teacher().spec,
        ).network.state_dict()["head.weight"]
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_teacher_of_a_game_is_known_before_it_is_trained(tmp_path: Path) -> None:
    game = "env={family = 'atari', id = 'pong', frame_size = 42}"
    student = "student.network={name = 'nature_cnn', size = '62k'}"
    preparation = prepared(teach_config(tmp_path, game, student))
    assert preparation.teacher is None
    spec = taught_spec(preparation.config, preparation.environment)
    assert spec.observation.shape == (4, 42, 42)
    assert (spec.num_actions, spec.dist) == (6, "q_values")
    assert spec.environment["frame_size"] == 42
