"""The versions of a teacher that is refreshed: those that come in, and those that were taken.

Another program writes versions into a folder while the run goes on; `IncomingVersions` watches it.
What the run took lies in its run directory under `teachers/`, as `version-000003.safetensors` with
its specification, which is written last: a version counts once that is there.
"""

import logging
import re
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from cluster.recipe.tasks import TeacherConfig
from common.errors import MismatchError, UserError
from common.policies.policy import Policy, load_policy, save_policy
from common.policies.spec import PolicySpec
from common.storage import Location, locate
from common.teachers import load_teacher

logger = logging.getLogger(__name__)

_TAKEN = re.compile(r"version-(\d{6,})\.json")
_UNFINISHED = ".partial"
"""How the name of a file ends that Stillhouse is still writing."""


class Incoming(NamedTuple):
    """A version that was found."""

    name: str
    """Of its file."""
    policy: Policy


class IncomingVersions:
    """A folder into which another program writes versions.

    They follow each other by name, numbers in it by size, and only those after the one taken last
    count. One that cannot be read is told of once and tried again: it may still be written.

    Args:
        config: the recipe's `[teacher]`, with `refresh`.
        first: what the run's teacher is; a version that differs where it must not is refused.
    """

    def __init__(self, config: TeacherConfig, first: PolicySpec) -> None:
        assert config.refresh is not None
        self._config, self._refresh = config, config.refresh
        self._folder = locate(config.refresh.path)
        self._first = first
        self._after = _file_in(self._folder, config, first)
        self._refused: set[str] = set()
        self._told: dict[str, str] = {}

    def newest(self) -> Incoming | None:
        """Read the newest version that is neither taken, nor refused, nor before one taken.

        Raises:
            StorageError: the folder cannot be read.
        """
        for name in reversed(self._names()):
            try:
                return Incoming(name, self._read(name))
            except UserError as error:
                if self._told.get(name) != str(error):
                    self._told[name] = str(error)
                    logger.warning("a version of the teacher is passed over: %s", error)
        return None

    def refuse(self, name: str) -> None:
        """Never return this one again."""
        self._refused.add(name)

    def take(self, name: str) -> None:
        """Return only later ones from now on."""
        self._after = name
        self._refused.clear()

    def _names(self) -> list[str]:
        """Return the names of what could be taken, in their order."""
        there = set(self._folder.names())
        found = [
            name
            for name in there - self._refused
            if fnmatchcase(name, self._refresh.pattern)
            and not name.endswith(_UNFINISHED)
            and (not name.endswith(".safetensors") or f"{name[: -len('safetensors')]}json" in there)
            and (self._after is None or _order(name) > _order(self._after))
        ]
        return sorted(found, key=_order)

    def _read(self, name: str) -> Policy:
        policy = load_teacher((self._folder / name).absolute, trust=self._config.trust)
        _check_fits(policy.spec, self._first, name)
        changes: dict[str, Any] = {"provenance": policy.spec.provenance | {"version_file": name}}
        if (acting := self._config.acting) is not None:
            changes["acting"] = acting
        return Policy(policy.spec.model_copy(update=changes), policy.network)


def save_taken(folder: Location, teacher: Policy) -> None:
    """Write a version that the run takes.

    Raises:
        StorageError: it cannot be written.
    """
    save_policy(teacher, folder / f"version-{teacher.spec.teacher_version:06d}.safetensors")


def newest_taken(folder: Location, *, trust: bool) -> Policy | None:
    """Return the newest version that the run took and that is whole, or None where there is none.

    Args:
        folder: `teachers/` of the run directory.
        trust: whether it may hold a program that could do more than compute.
    """
    numbers = [int(found[1]) for name in folder.names() if (found := _TAKEN.fullmatch(name))]
    for number in sorted(numbers, reverse=True):
        try:
            return load_policy(folder / f"version-{number:06d}.safetensors", trust=trust)
        except UserError as error:
            logger.warning("%s; going on with the version before", error)
    return None


def _file_in(folder: Location, config: TeacherConfig, first: PolicySpec) -> str | None:
    """Return which of a folder's files the run's teacher is, or None where it is none of them."""
    if first.teacher_version:
        return str(first.provenance["version_file"])
    path = locate(config.path) if "://" in config.path or ":" not in config.path else None
    return path.name if path is not None and folder / path.name == path else None


def _check_fits(newer: PolicySpec, first: PolicySpec, name: str) -> None:
    """Refuse what cannot take the place of a run's teacher.

    Args:
        newer: what it is.
        first: what the run's teacher is, which fits the run.
        name: of its file.

    Raises:
        MismatchError: it sees, says or does something else.
    """
    if newer.heads or newer.network.name == "lstm":
        raise MismatchError(f"{name}: is of several tasks or has a memory; give a teacher of one")
    seen, wanted = newer.observation, first.observation
    pairs: dict[str, tuple[object, object]] = {
        "observations": ((seen.dtype, seen.shape), (wanted.dtype, wanted.shape)),
        "dist": (newer.dist, first.dist),
        "has_value": (newer.has_value, first.has_value),
        "actions": (newer.num_actions or newer.action_box, first.num_actions or first.action_box),
    }
    for what, (there, expected) in pairs.items():
        if there != expected:
            raise MismatchError(
                f"{name}: has {what} = {there}, and the run's teacher {expected}; write versions "
                f"of the same kind"
            )


def _order(name: str) -> list[tuple[int, str]]:
    """Return what names are sorted by: numbers by size, all else by letters."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
