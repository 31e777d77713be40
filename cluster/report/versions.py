"""With which versions a run was started: what it takes to repeat it, written by the run itself.

`versions.json` has one entry a start. The report says where a run went on with others.
"""

import json
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import cluster
from cluster.run_directory import RunDirectory, write_json
from common.errors import FileMissingError

PACKAGES = ("stillhouse", "torch", "ray", "numpy", "gymnasium", "ale-py")
GIT_TIMEOUT_S = 5.0


class Start(NamedTuple):
    """One start of a run."""

    time: str
    """UTC."""
    versions: dict[str, str]
    """By the name of what has it."""
    is_local: bool = False
    """Whether all was done in one process, without Ray."""


def note_start(directory: RunDirectory, *, is_local: bool) -> None:
    """Add this start, with the versions of now, to the run directory.

    Args:
        directory: of the run.
        is_local: whether all is done in one process, without Ray.

    Raises:
        StorageError: it cannot be written.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    starts = [*starts_of(directory), Start(now, versions(), is_local)]
    write_json(directory.versions, {"starts": [start._asdict() for start in starts]})


def starts_of(directory: RunDirectory) -> tuple[Start, ...]:
    """Return the starts of a run; none where what tells of them is missing or damaged.

    Raises:
        StorageError: it cannot be read.
    """
    try:
        return read_starts(json.loads(directory.versions.read_bytes()))
    except (FileMissingError, ValueError):
        return ()


def read_starts(tree: Any) -> tuple[Start, ...]:
    """Return what `versions.json` says; nothing of a run that has none, or another thing there."""
    return tuple(_starts_in(tree))


def was_local(starts: Sequence[Start]) -> bool:
    """Return whether the newest start did all in one process, as far as is known."""
    return bool(starts) and starts[-1].is_local


def versions() -> dict[str, str]:
    """Return the versions of this process by name; `git commit` where it runs from a checkout."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    commit = _git_commit()
    return found | ({} if commit is None else {"git commit": commit}) | {"system": _system()}


def _system() -> str:
    return f"{platform.system()} {platform.machine()}"


@lru_cache(maxsize=1)
def _git_commit() -> str | None:
    """Return the commit of the checkout that this code lies in, or None where it lies in none."""
    root = Path(cluster.__file__).resolve().parents[1]
    try:
        top = _git(root, "rev-parse", "--show-toplevel")
        if Path(top).resolve() != root:
            return None  # installed below a checkout of something else
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
        return _git(root, "rev-parse", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=GIT_TIMEOUT_S,
    )
    return done.stdout.strip()


def _starts_in(tree: Any) -> list[Start]:
    starts = tree.get("starts") if isinstance(tree, dict) else None
    found = []
    for entry in starts if isinstance(starts, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("versions"), dict):
            told = {str(name): str(value) for name, value in entry["versions"].items()}
            is_local = entry.get("is_local") is True
            found.append(Start(str(entry.get("time", "")), told, is_local))
    return found
