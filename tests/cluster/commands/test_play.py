"""`stillhouse play`: who plays where, what is written and printed, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from cluster.assembly import play_episodes
from cluster.recipe.config import RunConfig
from cluster.run_directory import RunDirectory, create_run_directory
from common.policies.policy import Policy, new_policy, save_policy
from common.policies.tasks import joined_spec, policy_of_task
from tests.builders import make_policy
from tests.cartpole import cartpole_teacher, load_config
from tests.commands import ROOT, Answer, Stillhouse, assert_refused
from tests.programs import write_program
from tests.tasks import heavy_teacher, load_tasks
from tests.unrendered import UNRENDERED, id_of
from tests.videos import read_video

PONG = ROOT / "deploy" / "teachers" / "pong-nature.safetensors"
TEACHER = "teacher.safetensors"


def config_of(folder: Path) -> RunConfig:
    """Write teacher and recipe of a short CartPole into a folder and load the recipe."""
    return load_config(folder, "seed=3", "env.kwargs={max_episode_steps = 100}")


def weak() -> Policy:
    """Return what falls within a few steps."""
    observation = {"shape": (4,), "dtype": "float32"}
    return make_policy(seed=3, observation=observation, num_actions=2)


@pytest.fixture(autouse=True)
def finished_run(tmp_path: Path) -> RunDirectory:
    """Return a run directory with a student, beside its teacher and recipe."""
    directory = create_run_directory(tmp_path / "run", config_of(tmp_path))
    save_policy(weak(), directory.student)
    return directory


def played(answer: Answer) -> dict[str, Any]:
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def frames_of(video: Path) -> npt.NDArray[np.uint8]:
    return read_video(video)[0]


def test_a_run_shows_teacher_and_student_as_they_are_scored(
    tmp_path: Path, finished_run: RunDirectory, stillhouse: Stillhouse
) -> None:
    found = played(stillhouse("play", "run", "--teacher", "--json"))
    config = config_of(tmp_path)
    wanted = [
        play_episodes(
            config, policy=policy, reference=None, num_episodes=1, seed=3, num_observations=0
        )
        for policy in (cartpole_teacher(), weak())
    ]
    assert [player["title"] for player in found["players"]] == ["teacher", "student"]
    assert [player["returns"] for player in found["players"]] == [list(x.returns) for x in wanted]
    assert [player["lengths"] for player in found["players"]] == [list(x.lengths) for x in wanted]
    assert (found["seed"], found["env"], found["out"]) == (3, "CartPole-v1", "run/game.mp4")
    video = tmp_path / "run" / "game.mp4"
    assert not (tmp_path / "game.mp4").exists()
    assert found["bytes"] == video.stat().st_size
    frames = frames_of(video)
    assert len(frames) == found["frames"] == wanted[0].lengths[0] + 1 + 15
    assert frames.shape[2:] == (768, 3)
    moving = np.abs(frames[:-16].astype(int) - frames[1:-15]).max(axis=(1, 2, 3))
    assert (moving > 20).all()


def test_a_policy_plays_where_its_specification_says(
    tmp_path: Path, stillhouse: Stillhouse
) -> None:
    result = stillhouse("play", TEACHER, "--episodes", "2", "--max-steps", "30", "--seed", "1")
    assert result.returncode == 0, result.stderr
    first, *others = result.stdout.splitlines()
    size = (tmp_path / "game.mp4").stat().st_size
    told = "92 frames (of each episode its start, one a step, and 15 of its end)"
    assert first == f"game.mp4: {told}, {size:,} bytes"
    assert others == [
        "teacher: episode 1: return 30 in 30 steps, broken off there",
        "teacher: episode 2: return 30 in 30 steps, broken off there",
        "teacher: mean return 30 in 2 episodes",
    ]
    assert frames_of(tmp_path / "game.mp4").shape[:1] == (92,)


def test_pong_is_played_with_its_actions_named(tmp_path: Path, stillhouse: Stillhouse) -> None:
    """Decoded, the picture of the game and the bars of the actions move."""
    ask = ("play", PONG, "--against", PONG, "--max-steps", "60", "--out", "pong.mp4", "--json")
    found = played(stillhouse(*ask))
    assert [player["title"] for player in found["players"]] == ["pong-nature 1", "pong-nature 2"]
    assert found["players"][0]["returns"] == found["players"][1]["returns"]
    frames = frames_of(tmp_path / "pong.mp4")[:61].astype(int)
    screen, bars = frames[:, 100:500, :384], frames[:, -190:-20, 100:300]
    for part in (screen, bars):
        assert (np.abs(part[1:] - part[:-1]).max(axis=(1, 2, 3)) > 40).mean() > 0.5


@pytest.mark.parametrize("given", [("--env", "CartPole-v1"), ("--recipe", "recipe.toml"), ()])
def test_any_format_plays(tmp_path: Path, given: tuple[str, ...], stillhouse: Stillhouse) -> None:
    """A file that does not say where it plays is told so, or plays beside one that does."""
    write_program(tmp_path, "onnx").rename(tmp_path / "program.onnx")
    (tmp_path / "teacher.json").rename(tmp_path / "program.json")
    save_policy(cartpole_teacher(), tmp_path / TEACHER)
    ask = ("--max-steps", "20", "--json")
    if not given:
        assert_refused(stillhouse("play", "program.onnx", *ask), "--env", "--recipe")
        found = played(stillhouse("play", TEACHER, "--against", "program.onnx", *ask))
        assert [player["title"] for player in found["players"]] == ["teacher", "program"]
    else:
        found = played(stillhouse("play", "program.onnx", *given, *ask))
    assert found["players"][-1]["lengths"] == [20]


def test_what_runs_code_asks_for_trust(tmp_path: Path, stillhouse: Stillhouse) -> None:
    program = write_program(tmp_path, "torch_export")
    ask = ("play", program.name, "--env", "CartPole-v1", "--max-steps", "5")
    assert_refused(stillhouse(*ask), "teacher.pt2", "--trust")
    assert stillhouse(*ask, "--trust").returncode == 0
    own = ("play", TEACHER, "--env", "tests.tasks:CartPole-v1", "--max-steps", "5")
    save_policy(cartpole_teacher(), tmp_path / TEACHER)
    assert_refused(stillhouse(*own), "tests.tasks", "--trust")
    assert stillhouse(*own, "--trust").returncode == 0


def test_one_task_of_several_is_named(tmp_path: Path, stillhouse: Stillhouse) -> None:
    directory = create_run_directory(tmp_path / "both", load_tasks(tmp_path))
    specs = {"light": cartpole_teacher().spec, "heavy": heavy_teacher().spec}
    student = new_policy(joined_spec(specs, name="both"), seed=0)
    save_policy(student, directory.student)
    ask = ("--json", "--max-steps", "200")
    for source in ("both", "both/student.safetensors"):
        assert_refused(stillhouse("play", source, *ask), "--task: light, heavy")
    assert_refused(stillhouse("play", "both", "--task", "other"), "other", "light, heavy")
    found = played(stillhouse("play", "both", "--teacher", "--task", "heavy", *ask))
    assert found["players"][0]["lengths"] == [200]
    config = load_tasks(tmp_path).of_tasks()[1]
    (wanted,) = play_episodes(
        config,
        policy=policy_of_task(student, "heavy"),
        reference=None,
        num_episodes=1,
        seed=0,
        num_observations=0,
    ).lengths
    assert found["players"][1]["lengths"] == [wanted]


def test_a_recurrent_and_a_box_policy_play(tmp_path: Path, stillhouse: Stillhouse) -> None:
    lstm = {"name": "lstm", "torso": {"name": "mlp", "hidden": (8,)}, "hidden": 6}
    seen = {"shape": (4,), "dtype": "float32"}
    save_policy(
        make_policy(network=lstm, observation=seen, num_actions=2), tmp_path / "lstm.safetensors"
    )
    box = {"low": (-2.0,), "high": (2.0,)}
    swing = make_policy(
        observation=seen | {"shape": (3,)}, num_actions=None, action_box=box, dist="gaussian"
    )
    save_policy(swing, tmp_path / "swing.safetensors")
    for name, env in (("lstm", "CartPole-v1"), ("swing", "Pendulum-v1")):
        ask = ("--env", env, "--max-steps", "10", "--out", f"{name}.mp4", "--json")
        found = played(stillhouse("play", f"{name}.safetensors", *ask))
        frames = frames_of(tmp_path / f"{name}.mp4")
        assert len(frames) == found["frames"]
        assert (frames[0, -60:] != frames[8, -60:]).any()


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (("runs/nowhere",), ["runs/nowhere: neither a run directory nor a policy file"]),
        (("recipe.toml",), ["recipe.toml", "not a teacher file"]),
        ((TEACHER, "--env", "Acrobot-v1"), ["feedback", "(4,)", "(6,)"]),
        ((TEACHER, "--env", "pong"), ["feedback", "(4,)", "'pong'"]),
        ((TEACHER, "--env", "NoSuchEnv-v0"), ["NoSuchEnv"]),
        ((TEACHER, "--env", "LunarLander-v2"), ["use `LunarLander-v3` instead"]),
        ((TEACHER, "--against", PONG), ["plays CartPole-v1", "plays pong", "--env"]),
        ((TEACHER, "--teacher"), ["--teacher", "run directory"]),
        ((TEACHER, "--set", "seed=1"), ["--set", "--recipe"]),
        ((TEACHER, "--recipe", "none.toml"), ["none.toml"]),
        ((TEACHER, "--recipe", "recipe.toml", "--env", "pong"), ["--recipe and --env"]),
        (("run", "--env", "pong"), ["run", "--set"]),
        (("run", "--teacher", "--against", TEACHER), ["--teacher and --against"]),
        (("run", "--task", "light"), ["light", "one task"]),
        ((TEACHER, "--out", "game.gif"), ["game.gif", ".mp4"]),
        ((TEACHER, "--out", "no/such/folder/game.mp4"), ["no/such/folder"]),
    ],
)
def test_what_does_not_go_together_is_refused_and_nothing_written(
    tmp_path: Path, ask: tuple[str, ...], words: list[str], stillhouse: Stillhouse
) -> None:
    assert_refused(stillhouse("play", *ask), *words)
    assert not list(tmp_path.rglob("*.mp4"))


@pytest.mark.parametrize("kind", UNRENDERED, ids=lambda kind: kind.__name__)
def test_an_environment_without_pictures_is_refused(
    tmp_path: Path, kind: Any, stillhouse: Stillhouse
) -> None:
    result = stillhouse("play", TEACHER, "--env", id_of(kind), "--trust")
    assert_refused(result, "cannot be shown", UNRENDERED[kind])
    assert not (tmp_path / "game.mp4").exists()


def test_a_run_without_a_student_is_refused(
    finished_run: RunDirectory, stillhouse: Stillhouse
) -> None:
    finished_run.student.remove()
    assert_refused(stillhouse("play", "run"), "no student yet")
