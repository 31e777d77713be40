"""Everything that a report says of a run, read from its run directory alone.

Whatever is missing or damaged is left out and noted: a report of a run that crashed, that goes on,
or that an older version made, shows what there is.
"""

import json
import tomllib
from dataclasses import dataclass
from typing import Any

from cluster.report.disagreements import TaskDisagreements, read_disagreements
from cluster.report.games import Game, read_games
from cluster.report.metrics_log import MetricsLog, read_metrics
from cluster.report.results import Results, read_results
from cluster.report.run_state import RunState, read_state
from cluster.report.versions import Start, read_starts, was_local
from cluster.run_directory import RunDirectory
from common.errors import FileMissingError, RunDirectoryError
from common.storage import Location, Named

Tree = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunData:
    """What a run directory tells."""

    path: str
    name: str
    recipe: Tree
    recipe_text: str
    resolved: dict[str, str]
    """What the recipe leaves `auto`, by key, and what the run found for it."""
    state: RunState
    results: Results | None
    metrics: MetricsLog
    disagreements: dict[str, TaskDisagreements]
    games: tuple[Game, ...]
    starts: tuple[Start, ...]
    notes: tuple[str, ...]
    """What could not be read, and why."""

    @property
    def total_env_steps(self) -> int | None:
        """How many the recipe asks for."""
        wanted = self.recipe.get("total_env_steps")
        return wanted if isinstance(wanted, int) else None

    @property
    def required_share(self) -> float | None:
        """What the recipe requires of the student."""
        share = _table(self.recipe, "evaluation").get("required_share")
        return float(share) if isinstance(share, int | float) else None

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the tasks."""
        if self.results is not None:
            return tuple(self.results.tasks)
        tables = self.recipe.get("tasks") or [{"name": _table(self.recipe, "env").get("id", "")}]
        return tuple(str(table.get("name", "")) for table in tables)

    @property
    def terms(self) -> tuple[str, ...]:
        """The names of the objective's terms."""
        return tuple(_table(self.recipe, "objective"))

    @property
    def is_local(self) -> bool:
        """Whether all was done in one process when it was last started."""
        return was_local(self.starts)

    @property
    def seconds(self) -> float:
        """How long it was distilled, all sessions together."""
        seconds = self.metrics.seconds()
        return float(seconds[-1]) if seconds.size else 0.0


def read_run(path: Named) -> RunData:
    """Read a run directory.

    Args:
        path: a folder or a URI.

    Raises:
        RunDirectoryError: there is no run in this place.
        StorageError: the place cannot be reached.
    """
    directory = RunDirectory(path)
    try:
        text = directory.recipe.read_text()
    except FileMissingError:
        raise RunDirectoryError(
            f"{directory.path}: no run directory (it has no recipe.toml)"
        ) from None
    notes: list[str] = []
    recipe = _parsed(directory.recipe, text, notes)
    evaluation = _json(directory.evaluation, notes)
    results = None
    if evaluation is not None:
        try:
            results = read_results(evaluation)
        except ValueError:
            notes.append(f"{directory.evaluation.name}: damaged, so there are no scores here")
    metrics = read_metrics(_content(directory.metrics))
    if metrics.num_damaged:
        notes.append(f"{directory.metrics.name}: {metrics.num_damaged} damaged lines left out")
    log = _content(directory.log).decode(errors="replace")
    return RunData(
        path=directory.path.absolute,
        name=str(recipe.get("name") or directory.path.name),
        recipe=recipe,
        recipe_text=text,
        resolved=_resolved(recipe, directory, notes),
        state=read_state(log, evaluated=results is not None),
        results=results,
        metrics=metrics,
        disagreements=read_disagreements(_json(directory.disagreements, notes)),
        games=read_games(directory.games),
        starts=read_starts(_json(directory.versions, notes)),
        notes=tuple(notes),
    )


def _parsed(location: Location, text: str, notes: list[str]) -> Tree:
    """Return a recipe as it stands: one of an older version is not held against this one's keys."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        notes.append(f"{location.name}: not a TOML file ({error})")
        return {}


def _content(location: Location) -> bytes:
    """Return a file's content, or nothing where there is none."""
    try:
        return location.read_bytes()
    except FileMissingError:
        return b""


def _json(location: Location, notes: list[str]) -> Any:
    """Return what a JSON file holds, or None where there is none."""
    if not (content := _content(location)):
        return None
    try:
        return json.loads(content)
    except ValueError as error:
        notes.append(f"{location.name}: damaged ({error})")
        return None


def _resolved(recipe: Tree, directory: RunDirectory, notes: list[str]) -> dict[str, str]:
    """Return what the run found for every key that its recipe leaves `auto`."""
    names = [str(table.get("name", "")) for table in recipe.get("tasks") or ()]
    folders = {name: directory.of_task(name) for name in names if name} or {"": directory}
    given, found = _leaves(recipe), dict[str, str]()
    for task, folder in folders.items():
        kept = _json(folder.groundwork, notes)
        resolved = _leaves(kept.get("resolved", {})) if isinstance(kept, dict) else {}
        for key, value in resolved.items():
            if given.get(key) == "auto" and value != "auto":
                found[f"{key} ({task})" if task else key] = str(value)
    return found


def _leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Return the values of nested tables by their keys with dots."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    start = f"{prefix}." if prefix else ""
    return {
        key: value
        for name, child in tree.items()
        for key, value in _leaves(child, f"{start}{name}").items()
    }


def _table(recipe: Tree, name: str) -> Tree:
    table = recipe.get(name)
    return table if isinstance(table, dict) else {}
