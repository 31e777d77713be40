"""The run directory: what a run leaves behind, and what it goes on from.

`recipe.toml`, `metrics.jsonl`, `log.jsonl`, TensorBoard events, `checkpoints/`,
`student.safetensors` with its specification, `student.onnx`, `evaluation.json`; `groundwork.json`,
for the next start of the same run; `teacher.safetensors` where the run trained it or took it along
to a cluster.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from cluster.config import RunConfig, load_recipe
from common.errors import ConfigError, RunDirectoryError
from common.policies.policy import Policy, load_policy


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Paths in a run directory."""

    path: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.toml"

    @property
    def metrics(self) -> Path:
        """One JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def log(self) -> Path:
        """What the run said, one JSON object a line."""
        return self.path / "log.jsonl"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard events."""
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """Folder of the learner's checkpoints."""
        return self.path / "checkpoints"

    @property
    def groundwork(self) -> Path:
        """Baseline scores, and what `auto` was resolved to."""
        return self.path / "groundwork.json"

    @property
    def teacher(self) -> Path:
        """The teacher, where the run trained it or took it along to a cluster."""
        return self.path / "teacher.safetensors"

    @property
    def student(self) -> Path:
        """The student; its specification is beside it."""
        return self.path / "student.safetensors"

    @property
    def onnx(self) -> Path:
        """The student as ONNX."""
        return self.path / "student.onnx"

    @property
    def evaluation(self) -> Path:
        """The scores."""
        return self.path / "evaluation.json"


def check_new_directory(path: Path) -> None:
    """Refuse a place that already holds something.

    Raises:
        RunDirectoryError: it is no folder, or not an empty one.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunDirectoryError(
            f"{path}: not an empty folder; name another with --run-dir, or go on with "
            f"stillhouse resume {path}"
        )


def create_run_directory(path: Path, config: RunConfig) -> RunDirectory:
    """Make a run directory and save the resolved recipe in it.

    Raises:
        RunDirectoryError: the place is taken or cannot be written.
    """
    check_new_directory(path)
    directory = RunDirectory(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        save_recipe(directory, config)
    except OSError as error:
        raise RunDirectoryError(f"{path}: cannot write there ({error.strerror})") from None
    return directory


def save_recipe(directory: RunDirectory, config: RunConfig) -> None:
    """Write the resolved recipe."""
    tree = config.model_dump(mode="json", exclude_none=True)
    directory.recipe.write_text(tomli_w.dumps(tree), encoding="utf-8")


def check_writable(path: Path) -> None:
    """Refuse a file that cannot be written, before the work that it is to hold.

    Raises:
        ConfigError: its folder is missing or may not be written.
    """
    folder = path.parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ConfigError(f"{path}: cannot write there; name a file in an existing folder")


def open_run_directory(path: Path, overrides: list[str]) -> tuple[RunDirectory, RunConfig]:
    """Open a run that was started before.

    Raises:
        RunDirectoryError: there is no run in this place.
        ConfigError: its recipe, or an override, is wrong.
    """
    directory = RunDirectory(path)
    if not directory.recipe.is_file():
        raise RunDirectoryError(f"{path}: no run directory (it has no recipe.toml)")
    return directory, load_recipe(directory.recipe, overrides)


def kept_teacher(directory: RunDirectory, config: RunConfig) -> Policy | None:
    """Return the teacher that lies in the run directory, or None where the recipe's is another."""
    named = None if config.teacher is None else config.teacher.path
    if named not in (None, directory.teacher) or not directory.teacher.exists():
        return None
    return load_policy(directory.teacher)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write JSON whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(partial, path)
