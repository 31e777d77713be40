"""A run that has finished has nothing left to do until its recipe changes."""

import json
from pathlib import Path

import pytest

from common.policies.policy import load_policy
from tests.cartpole import write_run
from tests.commands import Stillhouse, assert_refused

SHORT = (
    *("--set", "total_env_steps=600", "--set", "evaluation.num_episodes=2"),
    *("--set", "evaluation.video=false"),
)


@pytest.fixture
def finished(tmp_path: Path, stillhouse: Stillhouse) -> Path:
    """Finish a short run, and return its directory."""
    write_run(tmp_path)
    done = stillhouse("run", "recipe.toml", "--local", "--run-dir", "out", *SHORT)
    assert done.returncode == 0, done.stdout + done.stderr
    return tmp_path / "out"


def contents(folder: Path) -> dict[Path, bytes]:
    """Return every file of a run."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_finished_run_is_told_and_left_as_it_is(finished: Path, stillhouse: Stillhouse) -> None:
    again = ("run", "recipe.toml", "--local", "--run-dir", "out", "--resume", *SHORT)
    for command in (("resume", "out", "--local"), again):
        before = contents(finished)
        answer = stillhouse(*command)
        assert answer.returncode == 0
        assert "out: finished; CartPole-v1: the student plays" in answer.stdout
        assert answer.stdout.rstrip().endswith("stillhouse evaluate out --local")
        assert contents(finished) == before


def test_a_new_run_in_its_place_is_refused_and_told_how_to_go_on(
    finished: Path, stillhouse: Stillhouse
) -> None:
    before = contents(finished)
    answer = stillhouse("run", "recipe.toml", "--local", "--run-dir", "out", *SHORT)
    assert_refused(answer, "out: holds a run", "stillhouse resume out --local", "--run-dir")
    assert contents(finished) == before


def test_a_finished_run_that_falls_short_fails_again(
    finished: Path, stillhouse: Stillhouse
) -> None:
    recipe = finished / "recipe.toml"
    text = recipe.read_text()
    recipe.write_text(text.replace("[evaluation]", "[evaluation]\nrequired_share = 1.5"))
    answer = stillhouse("resume", "out", "--local")
    assert answer.returncode == 1
    assert "required_share = 150 %" in answer.stderr


def test_a_longer_run_withdraws_the_scores_and_names_the_exports_of_its_former_student(
    finished: Path, stillhouse: Stillhouse
) -> None:
    (finished / "student.int8.onnx").write_bytes(b"exported before")
    former = (finished / "student.onnx").read_bytes()
    longer = stillhouse("resume", "out", "--local", "--set", "total_env_steps=1_200")
    assert "note: student.int8.onnx: of the student before this one" in longer.stdout
    assert (finished / "student.int8.onnx").read_bytes() == b"exported before"
    assert (finished / "student.onnx").read_bytes() != former


def test_a_change_or_another_student_lets_a_finished_run_go_on(
    finished: Path, stillhouse: Stillhouse
) -> None:
    longer = stillhouse("resume", "out", "--local", "--set", "total_env_steps=1_200")
    assert longer.returncode == 0, longer.stderr
    last = json.loads((finished / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["learner/env_steps"] >= 1_200

    student = finished / "student.safetensors"
    damaged = bytearray(student.read_bytes())
    damaged[-1] ^= 1
    student.write_bytes(damaged)
    again = stillhouse("resume", "out", "--local")
    assert again.returncode == 0, again.stderr
    assert "finished;" not in again.stdout
    assert student.read_bytes() != damaged
    load_policy(student)


def test_an_end_that_lies_behind_the_run_is_refused_and_nothing_is_changed(
    finished: Path, stillhouse: Stillhouse
) -> None:
    before = contents(finished)
    done = json.loads((finished / "metrics.jsonl").read_text().splitlines()[-1])
    steps = int(done["learner/env_steps"])
    for total in ("400", str(steps)):
        answer = stillhouse("resume", "out", "--local", "--set", f"total_env_steps={total}")
        assert_refused(
            answer,
            f"total_env_steps = {total}: {steps:,} env steps are done already",
            "stillhouse evaluate out --local",
        )
        assert contents(finished) == before


def test_a_finished_run_can_be_finished_by_other_rules(
    finished: Path, stillhouse: Stillhouse
) -> None:
    answer = stillhouse("resume", "out", "--local", "--set", "evaluation.num_episodes=3")
    assert answer.returncode == 0, answer.stderr
    scores = json.loads((finished / "evaluation.json").read_text())
    assert scores["tasks"]["CartPole-v1"]["student"]["episodes"] == 3
