"""Teacher and student side by side, as a video in the run directory: `games/NAME.mp4`.

Beside it, `games/NAME.json` has the seed and both returns.
"""

import base64
import json
from dataclasses import dataclass
from typing import Any

from common.errors import FileMissingError
from common.storage import Location

MOST_BYTES = 4_000_000
"""Of all videos of a report: they are part of its file, a third larger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Game:
    """A recorded game."""

    name: str
    """Of the task, or `game`."""
    source: str | None
    """The video as a data: URI; None where it is too large to be part of a page."""
    num_bytes: int
    facts: dict[str, float]
    """`seed`, `return_teacher`, `return_student`, `steps`, and `cut`, whether the film ends before
    the game does; those that are there."""


def read_games(folder: Location) -> tuple[Game, ...]:
    """Return the recorded games of a run, those that fit with their video.

    Raises:
        StorageError: the folder cannot be read.
    """
    left, found = MOST_BYTES, list[Game]()
    for file in folder.names():
        if not file.endswith(".mp4"):
            continue
        video = folder / file
        num_bytes = video.num_bytes()
        source = None
        if num_bytes <= left:
            left -= num_bytes
            source = f"data:video/mp4;base64,{base64.b64encode(video.read_bytes()).decode()}"
        name = file.removesuffix(".mp4")
        facts = _facts(folder / f"{name}.json")
        found.append(Game(name=name, source=source, num_bytes=num_bytes, facts=facts))
    return tuple(found)


def _facts(location: Location) -> dict[str, float]:
    try:
        tree: Any = json.loads(location.read_bytes())
    except (FileMissingError, ValueError):
        return {}
    known = tree if isinstance(tree, dict) else {}
    return {
        name: known[name]
        for name in ("seed", "return_teacher", "return_student", "steps", "cut")
        if isinstance(known.get(name), int | float)
    }
