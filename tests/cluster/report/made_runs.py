"""Run directories as runs leave them, made up in a moment: figures, log, scores, disagreements."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from cluster.report.pictures import as_png

RECIPE = """
name = "made"
total_env_steps = 10_000

[env]
family = "gymnasium"
id = "CartPole-v1"

[teacher]
path = "teacher.safetensors"

[objective.kl]
temperature = "auto"

[evaluation]
required_share = 0.9
"""

TEACHER = {"mean_return": 500.0, "ci_low": 490.0, "ci_high": 500.0, "episodes": 30}
RANDOM = {"mean_return": 20.0, "ci_low": 15.0, "ci_high": 25.0, "episodes": 30}

COSTS = {
    "student": {"parameters": 100, "multiply_adds": 90, "bytes": 1_000, "latency_ms": 0.02},
    "teacher": {"parameters": 2_000, "multiply_adds": 1_900, "bytes": 15_000, "latency_ms": 0.06},
}


def task_scores(share: float = 0.98, **changes: Any) -> dict[str, Any]:
    """Return a task of an `evaluation.json`."""
    mean = 20 + share * 480
    scores = {
        "teacher": TEACHER,
        "student": {"mean_return": mean, "ci_low": mean - 9, "ci_high": mean + 9, "episodes": 30},
        "random": RANDOM,
        "share_of_teacher": share,
        "share_ci_low": share - 0.02,
        "share_ci_high": share + 0.02,
        "greedy_agreement": 0.97,
        "states_compared": 12_345,
        "acting": "greedy, ε = 0",
    }
    return scores | changes


def evaluation(**tasks: dict[str, Any]) -> dict[str, Any]:
    """Return an `evaluation.json`; without tasks, of one."""
    return {"tasks": tasks or {"CartPole-v1": task_scores()}, **COSTS}


def metrics(num_lines: int = 50, *tasks: str) -> list[dict[str, float]]:
    """Return lines of a `metrics.jsonl`."""
    return [
        {
            "learner/loss": math.exp(-i / 10),
            "learner/kl": math.exp(-i / 10),
            "learner/agreement": 1 - 0.4 * math.exp(-i / 10),
            "learner/env_steps": 200 * i,
            "learner/samples": 400 * i,
            "learner/samples_per_s": 400.0,
            "learner/wait_share": 0.3,
            "actor/env_steps_per_s": 200.0,
            "actor/wait_share": 0.01,
            "actor/store_wait_share": 0.0,
            "actor/policy_lag_versions": i % 3,
            "student/share_of_teacher": i / num_lines,
            "time/elapsed_s": float(i),
            **{f"student/{task}training_return": 20 + 9.0 * i for task in _parts(tasks)},
            **{f"teacher/{task}return": 500.0 for task in _parts(tasks)},
            **{f"random/{task}return": 20.0 for task in _parts(tasks)},
            **{f"learner/{task}/loss": 1.0 / (1 + i) for task in tasks},
            **{f"learner/{task}/agreement": i / num_lines for task in tasks},
        }
        for i in range(num_lines)
    ]


def _parts(tasks: tuple[str, ...]) -> list[str]:
    return [f"{task}/" for task in tasks] or [""]


def log_line(message: str, level: str = "info", second: int = 0) -> str:
    """Return a line of a `log.jsonl`."""
    time = f"2026-01-02T03:04:{second:02}.000+00:00"
    return json.dumps({"time": time, "level": level, "message": message}) + "\n"


def disagreements(**tasks: dict[str, Any]) -> dict[str, Any]:
    """Return a `disagreements.json`; without tasks, of one on vectors."""
    found = {
        "observations": 500,
        "mean_difference": 0.03,
        "actions": ["left", "right"],
        "teacher_temperature": 0.45,
        "student_temperature": 1.0,
        "mean": [0.0, 0.0, 0.0, 0.0],
        "std": [1.0, 1.0, 1.0, 0.0],
        "examples": [
            {
                "difference": 0.8,
                "teacher": [0.9, 0.1],
                "student": [0.1, 0.9],
                "vector": [0.5, -2.0, 9.0, 0.0],
            }
        ],
    }
    return {"tasks": tasks or {"CartPole-v1": found}}


def frame_disagreements(num_actions: int = 6) -> dict[str, Any]:
    """Return what was found of a task on frames."""
    stack = np.random.default_rng(0).integers(256, size=(4, 84, 84), dtype=np.uint8)
    teacher = [0.0] * (num_actions - 1) + [1.0]
    return {
        "observations": 500,
        "mean_difference": 0.1,
        "actions": [f"ACTION{index}" for index in range(num_actions)],
        "teacher_temperature": 0.45,
        "student_temperature": 1.0,
        "examples": [
            {"difference": 1.0, "teacher": teacher, "student": teacher[::-1], "png": as_png(stack)}
        ]
        * 3,
    }


def write_made_run(
    folder: Path,
    *,
    recipe: str = RECIPE,
    lines: list[dict[str, float]] | None = None,
    scores: dict[str, Any] | None = None,
    log: str | None = None,
    found: dict[str, Any] | None = None,
) -> Path:
    """Write a run directory; what is None is not written, but for figures and a log."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.toml").write_text(recipe, encoding="utf-8")
    figures = metrics() if lines is None else lines
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in figures))
    (folder / "log.jsonl").write_text(log_line("the run starts") if log is None else log)
    for name, tree in (("evaluation", scores), ("disagreements", found)):
        if tree is not None:
            (folder / f"{name}.json").write_text(json.dumps(tree))
    return folder
