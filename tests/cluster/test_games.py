"""The videos of a run's games."""

import json
from pathlib import Path

import pytest

from cluster.assembly import play_episodes
from cluster.games import GAME_BYTES, GAME_S, GAME_STEPS, write_game, write_games
from cluster.prepare import Preparation, prepare
from cluster.recipe.config import RunConfig, load_recipe
from cluster.run_directory import RunDirectory
from cluster.video import FRAMES_PER_S
from common.errors import ConfigError
from common.policies.policy import Policy
from tests.builders import make_policy
from tests.cartpole import load_config
from tests.commands import ROOT
from tests.tasks import load_tasks
from tests.unrendered import WithoutModes, id_of
from tests.videos import read_video

SHORT = "{max_episode_steps = 120}"
"""Arguments of CartPoles."""


def student_of(config: RunConfig) -> tuple[Preparation, Policy, Policy]:
    """Return the recipe prepared, its teacher, and a student that has learnt nothing yet."""
    preparation = prepare(config, num_cpus=2, num_gpus=0)
    teacher = preparation.teacher
    assert teacher is not None
    return preparation, teacher, preparation.new_student(teacher)


def test_teacher_and_student_play_the_game_that_is_scored(tmp_path: Path) -> None:
    config = load_config(tmp_path, "seed=3", f"env.kwargs={SHORT}")
    preparation, teacher, student = student_of(config)
    directory = RunDirectory(tmp_path / "run")
    place = write_game(directory, config, teacher, student)
    assert place == directory.games / "game.mp4"
    told = json.loads((tmp_path / "run/games/game.json").read_text())
    scores = {
        who: play_episodes(
            config, policy=policy, reference=None, num_episodes=1, seed=3, num_observations=0
        ).returns[0]
        for who, policy in (("teacher", teacher), ("student", student))
    }
    assert told == {
        "seed": 3,
        "return_teacher": scores["teacher"],
        "return_student": scores["student"],
        "steps": 120,
        "cut": False,
    }
    assert scores["student"] < scores["teacher"] == 120
    frames, _ = read_video(Path(place.path))
    assert len(frames) == 120 + 1 + 15
    assert frames.shape[2] == 2 * 384
    assert place.num_bytes() < GAME_BYTES
    # Who is given as teacher plays, and not the one that the recipe had in the beginning.
    write_games(directory, preparation, student, student, say=pytest.fail)
    told = json.loads((tmp_path / "run/games/game.json").read_text())
    assert told["return_teacher"] == told["return_student"] == scores["student"]


@pytest.mark.slow
def test_a_long_game_is_cut_and_small_enough(tmp_path: Path) -> None:
    config = load_recipe(ROOT / "deploy/recipes/pong.toml", ["objective.kl.temperature=0.5"])
    _, teacher, student = student_of(config)
    place = write_game(RunDirectory(tmp_path), config, teacher, student, task="pong")
    assert (tmp_path / "games/pong.mp4").stat().st_size == place.num_bytes() < GAME_BYTES
    told = json.loads((tmp_path / "games/pong.json").read_text())
    assert (told["cut"], told["steps"]) == (True, GAME_STEPS)
    assert told["return_teacher"] > told["return_student"]
    frames, about = read_video(tmp_path / "games/pong.mp4")
    assert len(frames) == GAME_S * FRAMES_PER_S
    assert about["duration"] == pytest.approx(GAME_S, abs=0.1)


def test_every_task_has_a_game(tmp_path: Path) -> None:
    short = (f"tasks.{name}.env.kwargs={SHORT}" for name in ("light", "heavy"))
    config = load_tasks(tmp_path, *short)
    preparation, teacher, student = student_of(config)
    said: list[str] = []
    write_games(RunDirectory(tmp_path), preparation, teacher, student, say=said.append)
    names = sorted(file.name for file in (tmp_path / "games").iterdir())
    assert names == ["heavy.json", "heavy.mp4", "light.json", "light.mp4"]
    assert said == []


def test_a_game_that_cannot_be_shown_is_told_of_and_fails_nothing(tmp_path: Path) -> None:
    env_id = id_of(WithoutModes)
    config = load_config(tmp_path, f"env.id={env_id}", "env.trust=true")
    preparation, teacher, student = student_of(config)
    directory = RunDirectory(tmp_path / "run")
    said: list[str] = []
    write_games(directory, preparation, teacher, student, say=said.append)
    (line,) = said
    assert line.startswith(f"no video of {env_id}: env.id = '{env_id}': cannot be shown (")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="cannot be shown"):
        write_game(directory, config, teacher, student)


def test_each_sees_the_game_in_its_own_view(tmp_path: Path) -> None:
    view = {"shape": (1, 16, 16), "dtype": "uint8", "scale": 1 / 255}
    recipe = f"""
name = "views"
total_env_steps = 1_024
env = {{ family = "atari", id = "pong", frame_size = 36, max_frames_per_episode = 60 }}
[teacher]
path = "{tmp_path}/teacher.safetensors"
view = {{ picture = "field", frame_size = 16, frame_stack = 1 }}
[student.network]
name = "nature_cnn"
channels = [2]
kernels = [8]
strides = [4]
hidden = 8
[objective.kl]
"""
    (tmp_path / "recipe.toml").write_text(recipe)
    config = load_recipe(tmp_path / "recipe.toml", [])
    teacher = make_policy("frames", observation=view, num_actions=6)
    small = {"shape": (4, 36, 36), "dtype": "uint8", "scale": 1 / 255}
    student = make_policy("frames", observation=small, num_actions=6)
    write_game(RunDirectory(tmp_path), config, teacher, student)
    assert json.loads((tmp_path / "games/game.json").read_text())["steps"] == 15
