"""Bad input: one line, exit code 2, and nothing started, written or broken."""

import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from cluster.commands.table import MODULES
from common.teachers import load_teacher
from tests.cartpole import cartpole_teacher, write_run
from tests.commands import ROOT, Answer, Stillhouse, assert_refused


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_run(tmp_path)


def test_the_installed_command_prints_one_line_and_no_traceback(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", "from cluster.cli import main; main()", "run", "nothing.toml"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert_refused(Answer(result.returncode, result.stdout, result.stderr), "nothing.toml")


def test_the_version_is_told(stillhouse: Stillhouse) -> None:
    assert stillhouse("--version").stdout == f"stillhouse {version('stillhouse')}\n"


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (("rnu",), ["'rnu'", "'run'", "see stillhouse --help"]),
        (("--locl",), ["--locl", "see stillhouse --help"]),
        (("run", "recipe.toml", "--locl"), ["--locl", "--local", "see stillhouse run --help"]),
        (("run",), ["recipe", "see stillhouse run --help"]),
        (("run", "recipe.toml", "--name"), ["--name"]),
        (("evaluate", "runs/a", "--episodes", "0"), ["--episodes", "2"]),
        (("scale", "pong", "--env-runners", "many"), ["--env-runners", "integer"]),
        (("status", "pong", "more"), ["more", "see stillhouse status --help"]),
    ],
)
def test_a_command_line_that_is_none_is_refused_in_one_line(
    typed: tuple[str, ...], words: list[str], stillhouse: Stillhouse
) -> None:
    assert_refused(stillhouse(*typed), *words)


@pytest.mark.parametrize("typed", [(), ("--help",)])
def test_help_lists_all_commands(typed: tuple[str, ...], stillhouse: Stillhouse) -> None:
    answer = stillhouse(*typed)
    assert answer.returncode == 0
    assert all(name in answer.stdout for name in MODULES)


def test_check_finds_a_good_recipe_good(
    recipe: Path, tmp_path: Path, stillhouse: Stillhouse
) -> None:
    result = stillhouse("check", recipe)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-3:] == [
        "CartPole-v1: observations: 4 float32; actions: 2; teacher: feedback, mlp of 16 parameters",
        "student: mlp of 114 parameters",
        f"{recipe}: good",
    ]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("learner.batch_sise=3", ["learner.batch_sise", "did you mean batch_size?"]),
        ("objective.kl.temprature=1.0", ["objective.kl.temprature", "temperature"]),
        ("student.network.hiden=[8]", ["student.network", "hiden", "hidden"]),
        ("learner.batch_size=0", ["learner.batch_size", "0"]),
        ("learner.batch_size", ["key=value"]),
        ("behavior.name=dager", ["behavior", "dager"]),
        ("env.id=NoSuchEnv-v0", ["env.id", "NoSuchEnv"]),
        ("env.id=Pendulum-v1", ["feedback", "shape (3,)"]),
        ("env.id=Acrobot-v1", ["Acrobot-v1", "(4,)", "(6,)"]),
        ("env.id=MountainCar-v0", ["MountainCar-v0"]),
        ("teacher.path=nowhere.safetensors", ["nowhere.safetensors", "--set teacher.path=FILE"]),
        ("student.network.name=nature_cnn", ["student.network"]),
        ("actors.num_env_runners=100000", ["CPUs", "num_env_runners"]),
        ("learner.num_gpus=64", ["num_gpus"]),
        ("replay.error_buffer=0.5", ["replay.error_buffer", "0.5"]),
        ("replay.capacity=10", ["replay.capacity"]),
        ("replay.num_shards=9", ["replay.num_shards = 9", "env runners"]),
        ("objective={}", ["objective", "kl"]),
        ("teach.algorithm=dqn", ["teacher", "both"]),
        ("name=a b", ["name"]),
    ],
)
def test_a_wrong_key_or_value_is_refused_before_anything_starts(
    recipe: Path, tmp_path: Path, override: str, words: list[str], stillhouse: Stillhouse
) -> None:
    before = sorted(tmp_path.rglob("*"))
    result = stillhouse("run", recipe, "--set", override, "--run-dir", "out")
    assert_refused(result, *words)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "words",
    [
        ("run", "recipe.toml", "--run-dir", "s3://KEY:hidden@bucket/run"),
        ("run", "recipe.toml", "--run-dir=s3://KEY:hidden@bucket/run"),
        ("run", "recipe.toml", "--set", "teacher.path=s3://KEY:hidden@bucket/t.zip"),
        ("resume", "s3://KEY:hidden@bucket/run"),
    ],
)
def test_credentials_on_the_command_line_are_refused_and_not_repeated(
    recipe: Path, words: tuple[str, ...], stillhouse: Stillhouse
) -> None:
    result = stillhouse(*words)
    assert_refused(result, "credentials", "environment")
    assert "hidden" not in result.stderr


def test_q_mse_is_refused_for_a_teacher_without_q_values(
    recipe: Path, tmp_path: Path, stillhouse: Stillhouse
) -> None:
    assert_refused(stillhouse("run", recipe, "--set", "objective.q_mse.weight=1"))


def test_an_atari_game_without_a_rom_is_refused(
    tmp_path: Path, recipe: Path, stillhouse: Stillhouse
) -> None:
    text = recipe.read_text().replace('"gymnasium"', '"atari"').replace("CartPole-v1", "Pongg")
    recipe.write_text(text)
    assert_refused(stillhouse("check", recipe), "Pongg", "ROM")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def foreign(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))


def without_spec(path: Path) -> None:
    path.with_suffix(".json").unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncated, foreign, without_spec, empty])
def test_a_damaged_teacher_file_is_refused(
    recipe: Path, tmp_path: Path, damage: Callable[[Path], None], stillhouse: Stillhouse
) -> None:
    damage(tmp_path / "teacher.safetensors")
    result = stillhouse("run", recipe, "--run-dir", "out")
    assert_refused(result, "teacher.")
    assert not (tmp_path / "out").exists()


class Hostile:
    """Runs code when it is unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.remove, (str(self.victim),)


def test_a_hostile_zip_is_refused_and_runs_nothing(
    recipe: Path, tmp_path: Path, stillhouse: Stillhouse
) -> None:
    victim = tmp_path / "victim"
    victim.touch()
    buffer = io.BytesIO()
    torch.save(Hostile(victim), buffer)
    with zipfile.ZipFile(tmp_path / "teacher.zip", "w") as archive:
        archive.writestr("policy.pth", buffer.getvalue())
        archive.writestr("data", "{}")
    result = stillhouse("run", recipe, "--set", "teacher.path=teacher.zip")
    assert_refused(result, "teacher.zip")
    assert victim.exists()


def test_a_missing_recipe_is_refused(tmp_path: Path, stillhouse: Stillhouse) -> None:
    assert_refused(stillhouse("run", "nothing.toml"), "nothing.toml")


def test_a_recipe_that_is_no_toml_is_refused(tmp_path: Path, stillhouse: Stillhouse) -> None:
    (tmp_path / "bad.toml").write_text("name = \n")
    assert_refused(stillhouse("check", "bad.toml"), "bad.toml")


def test_a_taken_run_directory_is_refused_and_left_as_it_was(
    recipe: Path, tmp_path: Path, stillhouse: Stillhouse
) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "precious").write_text("data")
    result = stillhouse("run", recipe, "--run-dir", "taken")
    assert_refused(result, "taken", "--run-dir")
    assert "resume" not in result.stderr
    assert [path.name for path in taken.iterdir()] == ["precious"]


def test_a_file_in_the_place_of_a_run_directory_is_refused(
    recipe: Path, stillhouse: Stillhouse
) -> None:
    before = recipe.read_bytes()
    assert_refused(
        stillhouse("run", recipe, "--run-dir", "recipe.toml"), "recipe.toml", "--run-dir"
    )
    assert recipe.read_bytes() == before


def test_resume_and_evaluate_refuse_a_folder_without_a_run(
    tmp_path: Path, stillhouse: Stillhouse
) -> None:
    assert_refused(stillhouse("resume", "."), "recipe.toml")
    assert_refused(stillhouse("evaluate", "."), "recipe.toml")


def test_export_refuses_an_unknown_format_and_a_missing_policy(
    recipe: Path, tmp_path: Path, stillhouse: Stillhouse
) -> None:
    unknown = stillhouse("export", "teacher.safetensors", "--format", "onyx")
    assert_refused(unknown, "onyx", "onnx")
    missing = stillhouse("export", "runs/nowhere")
    assert_refused(missing, "runs/nowhere: neither a run directory nor a policy file is there")


def test_export_refuses_a_folder_that_is_not_there(recipe: Path, stillhouse: Stillhouse) -> None:
    result = stillhouse("export", "teacher.safetensors", "--out", "no/such/folder/t.onnx")
    assert_refused(result, "no/such/folder")


def test_export_writes_an_onnx_file(recipe: Path, tmp_path: Path, stillhouse: Stillhouse) -> None:
    result = stillhouse("export", "teacher.safetensors", "--format", "onnx")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "teacher.onnx").stat().st_size > 0


def test_export_writes_a_folder_for_rllib(
    recipe: Path, tmp_path: Path, stillhouse: Stillhouse
) -> None:
    ask = ("export", "teacher.safetensors", "--format", "rlmodule")
    for given, folder in (((), "teacher.rlmodule"), (("--out", "module"), "module")):
        result = stillhouse(*ask, *given)
        assert result.returncode == 0, result.stderr
        size = sum(file.stat().st_size for file in (tmp_path / folder).iterdir())
        assert f"{folder}: {size:,} bytes" in result.stdout
        back, policy = load_teacher(tmp_path / folder), cartpole_teacher()
        torch.testing.assert_close(back.network.state_dict(), policy.network.state_dict())
    (tmp_path / "taken").write_text("data")
    assert_refused(stillhouse(*ask, "--out", "taken"), "taken", "name a folder")
    assert_refused(stillhouse(*ask, "--out", "."), "of no RLModule; name a new folder")


def test_teach_refuses_a_recipe_without_a_teach_table(
    recipe: Path, tmp_path: Path, stillhouse: Stillhouse
) -> None:
    result = stillhouse("teach", recipe, "--out", "taught")
    assert_refused(result, "[teach]")
