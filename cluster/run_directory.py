"""The run directory: what a run leaves behind, and what it goes on from.

`recipe.toml`, `metrics.jsonl`, `log.jsonl`, TensorBoard events, `checkpoints/`,
`student.safetensors` with its specification, `student.onnx`, `evaluation.json`; `report.html`, and
for it `disagreements.json`, `versions.json` and `games/`, videos of teacher and student at play;
`groundwork.json`, for the next start of the same run; `teacher.safetensors` where the run trained
it or took it along to a cluster, `teaching/` with its training, `teachers/` with the newer versions
of one that is refreshed. Of several tasks each has its own `groundwork.json` and `student.onnx`, in
`tasks/NAME/`.

It is named by a local path or by a URI that pyarrow's filesystems know. What is written whole is
written there; metrics, log and events grow, and go through `cluster.spool`.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from cluster.recipe.config import RunConfig, load_recipe
from cluster.teacher_versions import newest_taken
from common.errors import ConfigError, RunDirectoryError
from common.policies.policy import Policy, load_policy
from common.storage import Location, Named, locate

RUNS = Path("runs")
"""Where run directories go by default."""


@dataclass(frozen=True, slots=True, init=False)
class RunDirectory:
    """Where everything lies in a run directory."""

    path: Location

    def __init__(self, path: Named) -> None:
        object.__setattr__(self, "path", locate(path))

    @property
    def recipe(self) -> Location:
        """The resolved recipe."""
        return self.path / "recipe.toml"

    @property
    def metrics(self) -> Location:
        """One JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def log(self) -> Location:
        """What the run said, one JSON object a line."""
        return self.path / "log.jsonl"

    @property
    def tensorboard(self) -> Location:
        """Folder of TensorBoard events."""
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Location:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def groundwork(self) -> Location:
        """Baseline scores, and what `auto` was resolved to."""
        return self.path / "groundwork.json"

    @property
    def teacher(self) -> Location:
        """The teacher, where the run trained it or took it along to a cluster."""
        return self.path / "teacher.safetensors"

    @property
    def teachers(self) -> Location:
        """Folder of the versions of a teacher that is refreshed, from the second."""
        return self.path / "teachers"

    @property
    def teaching(self) -> Location:
        """Folder of the training of the teacher, where the run trains it."""
        return self.path / "teaching"

    @property
    def student(self) -> Location:
        """The student; its specification is beside it."""
        return self.path / "student.safetensors"

    def of_task(self, name: str) -> "RunDirectory":
        """Return the folder of what is one task's alone, where there are several."""
        return RunDirectory(self.path / "tasks" / name)

    @property
    def onnx(self) -> Location:
        """The student as ONNX."""
        return self.path / "student.onnx"

    @property
    def games(self) -> Location:
        """Folder of videos of teacher and student side by side, each with what it shows in JSON."""
        return self.path / "games"

    @property
    def evaluation(self) -> Location:
        """The scores."""
        return self.path / "evaluation.json"

    @property
    def disagreements(self) -> Location:
        """Where student and teacher disagree most."""
        return self.path / "disagreements.json"

    @property
    def versions(self) -> Location:
        """With which versions each start of the run was made."""
        return self.path / "versions.json"

    @property
    def report(self) -> Location:
        """What the run came to, as one page."""
        return self.path / "report.html"


def check_new_directory(path: Named) -> None:
    """Refuse a place that already holds something.

    Raises:
        RunDirectoryError: it is no folder, or not an empty one.
        StorageError: nobody can say what is there.
    """
    location = locate(path)
    if location.is_file() or location.names():
        raise RunDirectoryError(
            f"{location}: not an empty folder; name another with --run-dir, or go on with "
            f"stillhouse resume {location}"
        )


def create_run_directory(path: Named, config: RunConfig) -> RunDirectory:
    """Make a run directory and save the resolved recipe in it.

    Raises:
        RunDirectoryError: the place is taken.
        StorageError: it cannot be written.
    """
    check_new_directory(path)
    directory = RunDirectory(path)
    save_recipe(directory, config)
    return directory


def save_recipe(directory: RunDirectory, config: RunConfig) -> None:
    """Write the resolved recipe."""
    tree = config.model_dump(mode="json", exclude_none=True)
    directory.recipe.write_text(tomli_w.dumps(tree))


def withdraw_scores(directory: RunDirectory) -> list[str]:
    """Remove what a run wrote about the student that lies there, because another one replaces it.

    Returns:
        The names of that student's further exports, which stay: somebody has asked for them.

    Raises:
        StorageError: something cannot be removed.
    """
    tasks = (directory.path / "tasks").names()
    for told in (
        *(directory.evaluation, directory.disagreements, directory.games, directory.onnx),
        *(directory.of_task(name).onnx for name in tasks),
    ):
        told.remove()
    own = {directory.student.name, directory.student.with_suffix(".json").name}
    return [
        name for name in directory.path.names() if name.startswith("student.") and name not in own
    ]


def check_writable(path: Named, *, is_folder: bool = False) -> None:
    """Refuse what on this disk cannot be written, before the work that it is to hold.

    Args:
        path: of a file, or of a folder that may be there already.
        is_folder: whether it is a folder.

    Raises:
        ConfigError: the folder that it lies in is missing or may not be written, or there is a
            folder in the place of a file or the other way round.
    """
    location = locate(path)
    if not location.is_local:
        return
    target = Path(location.path)
    folder, kind = target.parent, "folder" if is_folder else "file"
    is_taken = target.is_file() if is_folder else target.is_dir()
    if is_taken or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ConfigError(f"{location}: cannot write there; name a {kind} in an existing folder")


def open_run_directory(path: Named, overrides: list[str]) -> tuple[RunDirectory, RunConfig]:
    """Open a run that was started before.

    Raises:
        RunDirectoryError: there is no run in this place.
        StorageError: the place cannot be reached.
        ConfigError: its recipe, or an override, is wrong.
    """
    directory = RunDirectory(path)
    if not directory.recipe.is_file():
        raise RunDirectoryError(f"{directory.path}: no run directory (it has no recipe.toml)")
    return directory, load_recipe(directory.recipe, overrides)


def kept_student(directory: RunDirectory) -> Policy:
    """Return the student that the run made.

    Raises:
        RunDirectoryError: there is none yet.
        PolicyFileError: it cannot be read.
    """
    if not directory.student.exists():
        raise RunDirectoryError(
            f"{directory.path}: has no student yet; finish it with stillhouse resume"
        )
    return load_policy(directory.student)


def kept_teacher(directory: RunDirectory, config: RunConfig) -> Policy | None:
    """Return the teacher that lies in the run directory, or None where the recipe's is another.

    Of one that is refreshed, the newest version.
    """
    trust = config.teacher is not None and config.teacher.trust
    newest = None if config.refresh is None else newest_taken(directory.teachers, trust=trust)
    if newest is not None:
        return newest
    named = None if config.teacher is None else locate(config.teacher.path)
    if named not in (None, directory.teacher) or not directory.teacher.exists():
        return None
    return load_policy(directory.teacher, trust=trust)


def read_evaluation(directory: RunDirectory) -> dict[str, Any]:
    """Return the scores that the run has, or {}.

    Raises:
        RunDirectoryError: the file holds something else.
        StorageError: it cannot be read.
    """
    location = directory.evaluation
    if not location.exists():
        return {}
    try:
        scores = json.loads(location.read_bytes())
        if not isinstance(scores, dict):
            raise ValueError(f"{type(scores).__name__}, not an object")
    except ValueError as error:
        raise RunDirectoryError(
            f"{location}: damaged ({error}); remove it, and the scores are written anew"
        ) from None
    return scores


def write_json(path: Named, value: dict[str, Any]) -> None:
    """Write JSON whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    locate(path).write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")
