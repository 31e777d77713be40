"""Which student a sweep chooses, what it refuses, and a sweep of real runs."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster.cli import main
from cluster.sweep import Candidate, Variation, judge, plan_trials, with_settings
from common.errors import UserError
from common.policies.policy import load_policy
from learners.footprint import Footprint
from tests.cartpole import load_config, save_cartpole_teacher, write_recipe


def candidate(name: str, share: float, size: int, latency_ms: float = 1.0) -> Candidate:
    footprint = Footprint(
        parameters=size // 4, multiply_adds=size // 4, bytes=size, latency_ms=latency_ms
    )
    return Candidate(
        name=name,
        settings={},
        run_dir=name,
        share=share,
        share_ci_low=share - 0.01,
        share_ci_high=share + 0.01,
        footprint=footprint,
    )


def test_the_smallest_student_that_is_good_enough_is_chosen() -> None:
    found = judge(
        [candidate("best", 1.0, 4_000), candidate("good", 0.96, 400), candidate("poor", 0.5, 40)],
        {},
        required_share=0.95,
    )
    assert [each.name for each in found.candidates] == ["best", "good", "poor"]
    assert found.chosen is not None
    assert found.chosen.name == "good"


def test_where_none_is_good_enough_the_best_is_chosen_and_without_any_none() -> None:
    found = judge(
        [candidate("a", 0.5, 40), candidate("b", 0.7, 400)], {"c": "x"}, required_share=0.9
    )
    assert found.chosen is not None
    assert found.chosen.name == "b"
    assert found.as_json()["failed"] == {"c": "x"}
    assert judge([], {}, required_share=0.9).chosen is None


def test_the_front_holds_whoever_is_beaten_by_nobody_at_a_cost() -> None:
    found = judge(
        [
            candidate("a", 1.0, 400, latency_ms=2.0),
            candidate("b", 0.9, 400, latency_ms=1.0),  # larger share at the same size: beaten there
            candidate("c", 0.8, 40, latency_ms=3.0),
            candidate("d", 0.8, 40, latency_ms=3.0),  # as good as c in everything
        ],
        {},
        required_share=0.95,
    )
    best_for = {each.name: each.best_for for each in found.candidates}
    assert best_for == {
        "a": ("bytes", "multiply_adds", "latency_ms"),
        "b": ("latency_ms",),
        "c": ("bytes", "multiply_adds"),
        "d": ("bytes", "multiply_adds"),
    }


def test_settings_become_part_of_the_recipe(tmp_path: Path) -> None:
    config = load_config(tmp_path, "evaluation.required_share=0.9")
    changed = with_settings(
        config, {"student.network.hidden": [4], "objective.kl.temperature": 0.5}
    )
    assert changed.student.network.model_dump()["hidden"] == (4,)
    assert changed.objective.kl is not None
    assert changed.objective.kl.temperature == 0.5
    assert changed.evaluation.required_share is None


@pytest.mark.parametrize(
    ("key", "values", "reason"),
    [
        ("learner.batch_sise", (1,), "did you mean batch_size"),
        ("seed.x", (1,), "seed is a value"),
        ("student.network.hidden", ([8], [-1]), "hidden"),
        ("env.id", ("CartPole-v1", "Pendulum-v1"), "teacher feedback sees"),
    ],
)
def test_settings_that_no_run_could_have_are_found_before(
    tmp_path: Path, key: str, values: tuple[Any, ...], reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        plan_trials(load_config(tmp_path), [Variation(key, values)], num_samples=None)


def test_random_trials_are_all_different_and_the_seeds_own(tmp_path: Path) -> None:
    config = load_config(tmp_path)
    vary = [Variation("student.network.hidden", ([4], [8], [16])), Variation("seed", (0, 1))]
    every = plan_trials(config, vary, num_samples=None)
    assert len(every) == 6
    drawn = plan_trials(config, vary, num_samples=4)
    assert len({str(settings) for settings in drawn}) == 4
    assert all(settings in every for settings in drawn)
    assert plan_trials(config, vary, num_samples=4) == drawn
    assert plan_trials(config, vary, num_samples=7) == every


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    save_cartpole_teacher(tmp_path / "teacher.safetensors")
    write_recipe(tmp_path / "recipe.toml")
    return tmp_path


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["stillhouse", *words])
    try:
        main()
    except SystemExit as error:
        return int(error.code or 0)
    return 0


@pytest.mark.parametrize("vary", ["seed", "seed=1", "seed=[]", "=[1]"])
def test_a_variation_that_is_none_is_refused_in_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], vary: str
) -> None:
    assert call(monkeypatch, "sweep", "recipe.toml", "--vary", vary) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.ray
@pytest.mark.slow
def test_a_sweep_runs_its_trials_and_names_the_smallest_good_student(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    vary = ("--vary", "student.network.hidden=[[4], [32]]", "--vary", "learner.weight_decay=[0.0]")
    assert call(monkeypatch, "sweep", "recipe.toml", *vary, "--out", "sweep", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    kept = json.loads((folder / "sweep" / "sweep.json").read_text())
    assert printed == kept
    assert not kept["failed"]
    sizes = {tuple(c["settings"]["student.network.hidden"]): c for c in kept["candidates"]}
    assert sizes.keys() == {(4,), (32,)}
    assert max(each["share"] for each in sizes.values()) > 0.9
    good = [each for each in kept["candidates"] if each["share"] >= 0.95] or kept["candidates"][:1]
    chosen = min(good, key=lambda each: each["footprint"]["bytes"])
    assert kept["chosen"] == chosen["name"]
    student = load_policy(Path(chosen["run_dir"]) / "student.safetensors")
    assert student.num_parameters == chosen["footprint"]["parameters"]
