"""From a teacher to a dataset, and from the dataset to a student: the command line, end to end."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from common.dataset import open_dataset
from tests.cartpole import write_run
from tests.commands import called
from tests.datasets import write_offline_recipe

DATA_STEPS = 8_000
SHORT = ("--set", "total_env_steps=2_000", "--set", "replay.samples_per_insert=1.0")
PLAY_NOTHING = ("--set", "evaluation.play=false")


class Answer(NamedTuple):
    """What a command printed and its exit code."""

    code: int
    out: str
    error: str


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a dataset that the command line recorded."""
    folder = tmp_path_factory.mktemp("recording")
    words = ["record", str(write_run(folder)), "--out", str(folder / "data"), "--local"]
    words += [
        "--env-steps",
        str(DATA_STEPS),
        "--set",
        "behavior={name='dagger', teacher_epsilon=0.2}",
    ]
    with pytest.MonkeyPatch.context() as patch:
        assert called(patch, *words) == 0
    return folder


@pytest.fixture
def folder(recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder that holds a recipe, and a dataset of its own beside it."""
    shutil.copytree(recording / "data", tmp_path / "data")
    write_offline_recipe(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def stillhouse(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    def call(*words: str) -> Answer:
        code = called(monkeypatch, *words)
        printed = capsys.readouterr()
        return Answer(code, printed.out, printed.err)

    return call


def evaluation(run: Path) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads((run / "evaluation.json").read_text())
    return tree


def test_a_student_learns_from_a_dataset_and_plays_in_the_end(
    folder: Path, stillhouse: Callable[..., Answer]
) -> None:
    assert open_dataset(folder / "data").manifest.transitions >= DATA_STEPS
    assert stillhouse("check", "offline.toml").code == 0
    words = ("--local", "--run-dir", "out", "--set", "evaluation.required_share=0.95")
    answer = stillhouse("run", "offline.toml", *words)
    assert answer.code == 0, answer.error + answer.out
    (task, scores), *_ = evaluation(folder / "out")["tasks"].items()
    assert task == "CartPole-v1"
    assert scores["share_of_teacher"] >= 0.95
    assert scores["teacher"]["mean_return"] == 500
    held_out = scores["held_out"]
    assert held_out["greedy_agreement"] > 0.85
    assert 0 < held_out["kl"] < 0.1
    assert held_out["sequences"] % 8 == 0
    for name in ("student.safetensors", "student.onnx", "metrics.jsonl", "recipe.toml"):
        assert (folder / "out" / name).is_file(), name
    lines = (folder / "out" / "metrics.jsonl").read_text().splitlines()
    assert not {"teacher/return", "student/share_of_teacher"} & json.loads(lines[-1]).keys()
    for name in ("report.html", "disagreements.json"):
        (folder / "out" / name).unlink()
    again = stillhouse("evaluate", "out", "--local", "--episodes", "4", "--json")
    assert again.code == 0, again.error
    assert "CartPole-v1" in (folder / "out" / "disagreements.json").read_text()
    assert "held out: KL" in (folder / "out" / "report.html").read_text()
    assert json.loads(again.out)["tasks"][task]["held_out"] == held_out


def test_without_an_environment_the_held_out_sequences_decide(
    folder: Path, stillhouse: Callable[..., Answer]
) -> None:
    """The environment is one that nobody here can make."""
    path = folder / "data" / "dataset.json"
    tree = json.loads(path.read_text())
    tree["environment"]["id"] = tree["task"] = "Vanished-v0"
    (folder / "data" / "task=CartPole-v1").rename(folder / "data" / "task=Vanished-v0")
    for part in tree["parts"]:
        part["path"] = part["path"].replace("CartPole-v1", "Vanished-v0")
    path.write_text(json.dumps(tree))
    answer = stillhouse("run", "offline.toml", "--local", "--run-dir", "out", *SHORT)
    assert answer.code == 0, answer.error + answer.out
    assert "held-out sequences only" in answer.out
    found = evaluation(folder / "out")
    (scores,) = found["tasks"].values()
    assert scores["greedy_agreement"] == scores["held_out"]["greedy_agreement"]
    assert "share_of_teacher" not in scores
    assert found["student"]["parameters"] > 0
    assert (folder / "out" / "student.onnx").is_file()
    wanted = stillhouse("check", "offline.toml", "--set", "evaluation.play=true")
    assert (wanted.code, "Vanished" in wanted.error) == (2, True)
    wanted = stillhouse("check", "offline.toml", "--set", "evaluation.required_share=0.9")
    assert (wanted.code, "Vanished" in wanted.error) == (2, True)


def test_a_run_that_was_stopped_goes_on(folder: Path, stillhouse: Callable[..., Answer]) -> None:
    words = ("--local", "--run-dir", "out", *SHORT, *PLAY_NOTHING)
    assert stillhouse("run", "offline.toml", *words).code == 0
    more = ("resume", "out", "--local", "--set", "total_env_steps=4_000")
    assert stillhouse(*more).code == 0
    lines = (folder / "out" / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["learner/env_steps"] for line in lines]
    assert steps[0] >= 2_000
    assert steps[-1] >= 4_000


def test_the_same_seed_gives_the_same_student(
    folder: Path, stillhouse: Callable[..., Answer]
) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        words = ("--local", "--run-dir", name, *SHORT, *PLAY_NOTHING, "--set", f"seed={seed}")
        two = ("--set", "actors.num_env_runners=2")
        assert stillhouse("run", "offline.toml", *words, *two).code == 0
    students = [(folder / name / "student.safetensors").read_bytes() for name in "abc"]
    assert students[0] == students[1] != students[2]


def remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def damage(folder: Path) -> None:
    (part, *_) = (folder / "data").rglob("*.parquet")
    part.write_bytes(part.read_bytes()[:-1])


def newer(folder: Path) -> None:
    path = folder / "data" / "dataset.json"
    path.write_text(path.read_text().replace('"version": 1,', '"version": 2,', 1))


@pytest.mark.parametrize(
    ("change", "override", "words"),
    [
        (remove("data/dataset.json"), "seed=0", ["data", "no dataset", "stillhouse record"]),
        (damage, "seed=0", ["part-00000.parquet", "damaged"]),
        (newer, "seed=0", ["version 2"]),
        (remove("data/teacher.safetensors"), "seed=0", ["teacher.safetensors"]),
        (None, "dataset.path=elsewhere", ["elsewhere", "no dataset"]),
        (None, "dataset.holdout=1.0", ["dataset.holdout", "1"]),
        (None, "student.network.name=nature_cnn", ["student.network"]),
        (None, "objective.q_mse.weight=1", ["q_mse", "logits"]),
        (None, "teacher.path=t.safetensors", ["teacher", "both"]),
        (None, "actors.unroll_length=16", ["actors.unroll_length = 16", "recorded with 32"]),
        (None, "actors.num_envs_per_runner=4", ["actors.num_envs_per_runner = 4"]),
        (None, "actors.num_env_runners=1000", ["chunks", "lower it"]),
        (None, "actors.inference.placement=shared", ["actors.inference", "leave it out"]),
        (None, "actors.scaling={max_env_runners=4}", ["actors.scaling"]),
        (None, "stop.share_of_teacher=0.9", ["stop.share_of_teacher"]),
        (None, "env={family='gymnasium', id='Acrobot-v1'}", ["Acrobot-v1", "leave [env] out"]),
    ],
)
def test_check_finds_what_is_wrong(
    change: Callable[[Path], object] | None,
    override: str,
    words: list[str],
    folder: Path,
    stillhouse: Callable[..., Answer],
) -> None:
    if change is not None:
        change(folder)
    for command in (("check",), ("run", "--local", "--run-dir", "out")):
        answer = stillhouse(*command, "offline.toml", "--set", override)
        assert answer.code == 2, answer.out
        (line,) = answer.error.strip().splitlines()
        for word in words:
            assert word in line
    assert not (folder / "out").exists()


def test_without_a_dataset_a_student_must_play(
    folder: Path, stillhouse: Callable[..., Answer]
) -> None:
    write_run(folder)
    answer = stillhouse("check", "recipe.toml", *PLAY_NOTHING)
    assert (answer.code, "evaluation.play" in answer.error) == (2, True)


def test_record_refuses_what_it_cannot_record(
    folder: Path, stillhouse: Callable[..., Answer]
) -> None:
    write_run(folder)
    for words, says in (
        (("offline.toml", "--out", "new"), "[dataset]"),
        (("recipe.toml", "--out", "data"), "--out"),
        (("recipe.toml", "--out", "new", "--set", "behavior.name=student"), "behavior.name"),
        (("recipe.toml", "--out", "s3://KEY:secret@bucket/data"), "credentials"),
    ):
        answer = stillhouse("record", *words, "--local")
        assert (answer.code, says in answer.error) == (2, True), answer.error
        assert not (folder / "new").exists()


def test_a_dataset_may_lie_on_an_object_store(
    folder: Path, bucket: str, stillhouse: Callable[..., Answer]
) -> None:
    write_run(folder)
    place = f"{bucket}/data"
    words = ("--out", place, "--env-steps", "2000", "--local")
    assert stillhouse("record", "recipe.toml", *words).code == 0
    there = ("--set", f"dataset.path={place}", *SHORT, *PLAY_NOTHING)
    answer = stillhouse("run", "offline.toml", "--local", "--run-dir", f"{bucket}/run", *there)
    assert answer.code == 0, answer.error + answer.out


def test_bench_needs_an_environment(folder: Path, stillhouse: Callable[..., Answer]) -> None:
    answer = stillhouse("bench", "--recipe", "offline.toml", "--parts-only")
    assert (answer.code, "[teacher]" in answer.error) == (2, True)


@pytest.mark.ray
@pytest.mark.slow
def test_readers_on_ray_share_a_dataset(folder: Path, stillhouse: Callable[..., Answer]) -> None:
    two = ("--set", "actors.num_env_runners=2", "--set", "replay.num_shards=2")
    small = ("--set", "actors.num_cpus_per_runner=0.4", "--set", "learner.num_cpus=0.4")
    steps = ("--set", "total_env_steps=12_000")
    answer = stillhouse("run", "offline.toml", "--run-dir", "out", *two, *small, *steps)
    assert answer.code == 0, answer.error + answer.out
    (scores,) = evaluation(folder / "out")["tasks"].values()
    assert scores["share_of_teacher"] >= 0.95
