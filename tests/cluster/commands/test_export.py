"""`stillhouse export`: what it writes, asks the file, and tells; and what it refuses."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cluster.run_directory import RunDirectory, create_run_directory
from common.networks.lstm import LSTMSpec
from common.networks.mlp import MLPSpec
from common.policies.policy import Policy, load_policy, new_policy, save_policy
from learners.export import EXPORT_FORMATS, LIMITS, Limits
from tests.cartpole import cartpole_teacher, load_config, save_cartpole_teacher, write_run
from tests.commands import Stillhouse, assert_refused, called
from tests.datasets import write_dataset, write_offline_recipe
from tests.learners.export.programs import needs_compiler

EPISODES = 16
"""Of the recipe's evaluation."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of CartPole, with its replay saved, and a dataset beside it."""
    folder = tmp_path_factory.mktemp("finished")
    recipe = str(write_run(folder))
    change = ["--set", "replay.checkpoint=true", "--set", "student.network.hidden=[32, 32]"]
    record = ["--out", str(folder / "data"), "--env-steps", "4000"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert called(patch, "run", recipe, "--local", "--run-dir", "run", *change) == 0
        assert called(patch, "record", recipe, "--local", *record) == 0
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """Return a folder of the test's own with the run and the dataset."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return tmp_path


def told(stillhouse: Stillhouse, *args: str | Path) -> dict[str, Any]:
    result = stillhouse("export", *args, "--json")
    assert result.returncode == 0, result.stderr
    scores: dict[str, Any] = json.loads(result.stdout)
    return scores


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        pytest.param(name, precision, marks=needs_compiler if name == "c" else ())
        for name, chosen in EXPORT_FORMATS.items()
        for precision in chosen.precisions
    ],
)
def test_every_format_of_a_runs_student_plays_as_the_student_does(
    name: str, precision: str, folder: Path, stillhouse: Stillhouse
) -> None:
    result = stillhouse("export", "run", "--format", name, "--precision", precision, "--json")
    scores = json.loads(result.stdout)
    # Of 506 observations one where two actions lie as close as float16 rounds is .2 %.
    least = {"int8": 0.98, "float16": 0.99}.get(precision, 0.999)
    assert scores["greedy_agreement"] >= least
    limit = 0.98 if precision == "int8" else 0.999
    assert result.returncode == int(scores["greedy_agreement"] < limit), result.stderr
    middle = "" if precision == EXPORT_FORMATS[name].precisions[0] else f".{precision}"
    place = folder / "run" / f"student{middle}{EXPORT_FORMATS[name].suffix}"
    files = list(place.iterdir()) if place.is_dir() else [place]
    assert scores["bytes"] == sum(file.stat().st_size for file in files)
    assert (scores["format"], scores["precision"]) == (name, precision)
    assert 0 < scores["latency_ms"] < 1_000
    assert 0 < scores["policy"]["latency_ms"] < 1_000
    assert scores["observations_from"] == "the run's replay"
    assert scores["observations"] >= 500
    of_int8 = {"onnx": 506, "c": 2_250}  # the larger one is half of the replay
    assert scores["calibration_observations"] == (of_int8[name] if precision == "int8" else None)
    assert ("bytes of RAM; weights of" in scores["notes"]) == (name == "c")
    assert (scores["constant_bytes"] is None) == (name != "c")
    assert (scores["max_abs_difference"] is None) == (name == "c")
    assert scores["episodes"] == scores["policy"]["episodes"] == EPISODES
    assert scores["policy"]["mean_return"] > 400
    assert scores["share_of_policy"] == pytest.approx(1.0, abs=0.01)
    assert scores["share_ci_low"] <= scores["share_of_policy"] <= scores["share_ci_high"]


def test_the_table_has_the_policy_and_the_export(folder: Path, stillhouse: Stillhouse) -> None:
    result = stillhouse("export", "run", "--play", "3")
    assert result.returncode == 0, result.stderr
    size = (folder / "run" / "student.onnx").stat().st_size
    assert result.stdout.startswith(f"run/student.onnx: {size:,} bytes")
    for word in ("policy", "onnx", "100.0", "ms"):
        assert word in result.stdout


def test_a_c_program_where_nobody_compiles_it_is_written_and_not_compared(
    folder: Path, stillhouse: Stillhouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setenv("COLUMNS", "120")
    result = stillhouse("export", "run", "--format", "c")
    assert result.returncode == 0, result.stderr
    size = (folder / "run" / "student.c").stat().st_size
    assert result.stdout.startswith(f"run/student.c: {size:,} bytes")
    scores = told(stillhouse, "run", "--format", "c")
    assert 1_000 < scores["constant_bytes"] < size
    constants = f"{scores['constant_bytes']:,}"
    for words in (
        "not compared: no C compiler here",
        "not played",
        f"{constants} bytes of constants",
        "bytes of RAM; weights of",
    ):
        assert words in " ".join(result.stdout.split())
    [row] = [line for line in result.stdout.splitlines() if "c (int8, cc)" in line]
    assert f"{constants} of constants" in row
    assert f"{size:,}" not in row
    assert scores["observations_from"] == "the run's replay"
    assert scores["not_compared"] == "no C compiler here"
    assert (scores["latency_ms"], scores["greedy_agreement"], scores["episodes"]) == (None,) * 3


def test_observations_come_from_the_dataset_that_is_named(
    folder: Path, stillhouse: Stillhouse
) -> None:
    ask = ("run", "--precision", "int8", "--play", "0")
    scores = told(stillhouse, *ask, "--calibration", "data")
    assert scores["observations_from"] == "data"
    assert scores["mean_return"] is None
    assert scores["share_of_policy"] is None


def test_without_a_replay_the_student_plays(folder: Path, stillhouse: Stillhouse) -> None:
    shutil.rmtree(folder / "run" / "checkpoints")
    played = told(stillhouse, "run", "--precision", "int8", "--play", "8")
    assert played["observations_from"] == "the student's play"
    short = told(stillhouse, "run", "--precision", "int8", "--play", "0")
    assert short["observations_from"] == "a short play of the student"
    assert played["greedy_agreement"] >= 0.98 <= short["greedy_agreement"]


def test_a_run_from_a_dataset_is_calibrated_with_it(folder: Path, stillhouse: Stillhouse) -> None:
    recipe = write_offline_recipe(folder)
    short = ("--set", "total_env_steps=1_000", "--set", "evaluation.play=false")
    ran = stillhouse("run", recipe, "--local", "--run-dir", "offline", *short)
    assert ran.returncode == 0, ran.stderr
    scores = told(stillhouse, "offline", "--precision", "int8")
    assert scores["observations_from"] == str(folder / "data")
    assert scores["mean_return"] is None  # as the run did not play, either


def test_a_policy_file_is_compared_in_its_environment_and_plays_when_asked(
    folder: Path, stillhouse: Stillhouse
) -> None:
    scores = told(stillhouse, "teacher.safetensors", "--format", "pt2")
    assert scores["greedy_agreement"] >= 0.999
    assert scores["mean_return"] is None
    scores = told(stillhouse, "teacher.safetensors", "--format", "pt2", "--play", "4")
    assert (scores["episodes"], scores["mean_return"]) == (4, 500.0)


def test_a_policy_of_nowhere_is_not_compared(folder: Path, stillhouse: Stillhouse) -> None:
    teacher = cartpole_teacher()
    nowhere = teacher.spec.model_copy(update={"environment": {}})
    save_policy(Policy(nowhere, teacher.network), folder / "nowhere.safetensors")
    result = stillhouse("export", "nowhere.safetensors")
    assert (result.returncode, "not compared" in result.stdout) == (0, True)
    assert "--env" in result.stdout
    ask = ("export", "nowhere.safetensors", "--precision", "int8")
    assert_refused(stillhouse(*ask), "does not say where it plays", "--env", "--calibration")
    assert_refused(stillhouse("export", "nowhere.safetensors", "--play", "3"), "--env", "--recipe")
    assert not (folder / "nowhere.int8.onnx").exists()
    assert stillhouse(*ask, "--calibration", "data").returncode == 0


@pytest.mark.parametrize("given", [("--env", "CartPole-v1"), ("--recipe", "recipe.toml")])
def test_a_policy_that_does_not_say_where_it_plays_is_told_so(
    given: tuple[str, ...], tmp_path: Path, stillhouse: Stillhouse
) -> None:
    write_run(tmp_path)
    teacher = cartpole_teacher()
    nowhere = teacher.spec.model_copy(update={"environment": {}})
    save_policy(Policy(nowhere, teacher.network), tmp_path / "nowhere.safetensors")
    scores = told(stillhouse, "nowhere.safetensors", "--precision", "int8", "--play", "2", *given)
    assert scores["greedy_agreement"] >= 0.98
    assert scores["episodes"] == 2
    assert told(stillhouse, "nowhere.safetensors", *given)["episodes"] is None


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (("run", "--env", "CartPole-v1"), ["run: has a recipe of its own", "--env"]),
        (("teacher.safetensors", "--env", "pong", "--recipe", "recipe.toml"), ["give one of them"]),
        (("teacher.safetensors", "--env", "Acrobot-v1"), ["takes float32 (4,)", "(6,)"]),
        (("teacher.safetensors", "--env", "NoSuchEnv-v0"), ["NoSuchEnv"]),
        (("teacher.safetensors", "--env", "tests.tasks:CartPole-v1"), ["tests.tasks", "--trust"]),
        (("teacher.safetensors", "--recipe", "none.toml"), ["none.toml"]),
        (("teacher.safetensors", "--task", "light"), ["light", "one task"]),
    ],
)
def test_an_environment_that_does_not_fit_is_refused_and_nothing_written(
    ask: tuple[str, ...], words: list[str], tmp_path: Path, stillhouse: Stillhouse
) -> None:
    directory = create_run_directory(tmp_path / "run", load_config(tmp_path))
    save_policy(cartpole_teacher(), directory.student)
    assert_refused(stillhouse("export", *ask), *words)
    assert not list(tmp_path.rglob("*.onnx"))


def test_a_specification_cannot_have_code_run(tmp_path: Path, stillhouse: Stillhouse) -> None:
    own = {"family": "gymnasium", "id": "tests.tasks:CartPole-v1", "trust": True}
    teacher = cartpole_teacher()
    spec = teacher.spec.model_copy(update={"environment": own})
    save_policy(Policy(spec, teacher.network), tmp_path / "own.safetensors")
    result = stillhouse("export", "own.safetensors")
    said = " ".join(result.stdout.split())
    assert (result.returncode, "not compared" in said, "--trust" in said) == (0, True, True)
    assert told(stillhouse, "own.safetensors", "--trust")["observations"] > 0


def test_an_export_unlike_its_policy_fails_and_says_so(
    folder: Path, stillhouse: Stillhouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LIMITS, "int8", Limits(1.1, 0.0))
    result = stillhouse("export", "run", "--precision", "int8", "--play", "0")
    assert result.returncode == 1
    assert "not like the policy, it takes its greedy action in" in result.stderr
    assert "int8 is held to 110 %" in result.stderr


def test_a_precision_that_makes_no_smaller_file_is_told_to_make_none(
    folder: Path, stillhouse: Stillhouse
) -> None:
    spec = cartpole_teacher().spec
    for hidden, is_smaller in (((8,), False), ((256, 256), True)):
        network = MLPSpec(hidden=hidden)
        policy = new_policy(spec.model_copy(update={"network": network}), seed=0)
        save_policy(policy, folder / "policy.safetensors")
        ask = ("export", "policy.safetensors", "--precision", "int8", "--calibration", "data")
        told_so = "note: no smaller than its policy (" in stillhouse(*ask).stdout
        own = (folder / "policy.int8.onnx").stat().st_size
        full = (folder / "policy.safetensors").stat().st_size
        assert told_so == (own >= full) == (not is_smaller)


def test_a_memory_is_compared_and_not_played(folder: Path, stillhouse: Stillhouse) -> None:
    teacher = cartpole_teacher().spec
    policy = new_policy(teacher.model_copy(update={"network": LSTMSpec(hidden=8)}), seed=0)
    save_policy(policy, folder / "memory.safetensors")
    for precision in ("float32", "int8"):
        scores = told(stillhouse, "memory.safetensors", "--precision", precision)
        assert scores["greedy_agreement"] >= 0.98
    ask = ("export", "memory.safetensors")
    assert_refused(stillhouse(*ask, "--play", "4"), "--play 4", "memory")
    assert_refused(stillhouse(*ask, "--format", "sb3"), "its network is lstm", "onnx or pt2")
    assert not (folder / "memory.zip").exists()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--precision", "int4"], "--precision int4: not one of onnx's"),
        (["--format", "pt2", "--precision", "int8"], "--precision int8: not one of pt2's"),
        (["--calibration", "nowhere"], "nowhere: no dataset"),
        (["--calibration", "other"], "other: was recorded in toy/task"),
        (["--out", "run/student.safetensors"], "is the policy itself"),
    ],
)
def test_what_cannot_be_done_gets_one_line(
    words: list[str], complaint: str, folder: Path, stillhouse: Stillhouse
) -> None:
    write_dataset(folder / "other")
    before = (folder / "run" / "student.safetensors").read_bytes()
    assert_refused(stillhouse("export", "run", "--play", "0", *words), complaint)
    assert (folder / "run" / "student.safetensors").read_bytes() == before


def test_a_dataset_of_other_observations_gets_one_line(
    folder: Path, stillhouse: Stillhouse
) -> None:
    write_dataset(folder / "other")
    student = load_policy(RunDirectory(folder / "run").student)
    nowhere = student.spec.model_copy(update={"environment": {}})
    save_policy(Policy(nowhere, student.network), folder / "student.safetensors")
    ask = ("export", "student.safetensors", "--precision", "int8", "--calibration", "other")
    assert_refused(stillhouse(*ask), "other: its observations are float32 (5,)", "(4,)")


def test_another_environment_than_the_policys_gets_one_line(
    tmp_path: Path, stillhouse: Stillhouse
) -> None:
    save_cartpole_teacher(tmp_path / "teacher.safetensors")
    spec = tmp_path / "teacher.json"
    spec.write_text(spec.read_text().replace("CartPole-v1", "Acrobot-v1"))
    ask = ("export", "teacher.safetensors", "--play", "2")
    assert_refused(stillhouse(*ask), "takes float32 (4,)", "float32 (6,)")
