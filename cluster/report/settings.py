"""What sets runs apart: the settings in which their recipes differ."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cluster.report.tables import Table

Settings = dict[str, Any]
"""Values by their keys with dots; None where a recipe does not have the key."""

_OF_THE_RUN = ("name",)
"""What every run has of its own."""


def differing(recipes: Sequence[Mapping[str, Any]]) -> list[Settings]:
    """Return what is not the same in all recipes, of each of them.

    Args:
        recipes: as they were read; one that could not be read is empty, and has nothing.
    """
    known = [recipe for recipe in recipes if recipe]
    places = [place for place in _places(known) if place != _OF_THE_RUN]
    return [
        {".".join(place): _value(recipe, place) for place in places} if recipe else {}
        for recipe in recipes
    ]


def settings_text(settings: Settings) -> str:
    """Return settings as a recipe has them, one a line, without those that are not in it."""
    return "\n".join(
        f"{key} = {_text(value)}" for key, value in settings.items() if value is not None
    )


def settings_table(named: Mapping[str, Settings]) -> Table | None:
    """Return a row for every setting and a column for every run, or None where none differ.

    Args:
        named: settings by the names of the runs.
    """
    keys = next((list(settings) for settings in named.values() if settings), [])
    rows = tuple((key, *(_text(own.get(key)) for own in named.values())) for key in keys)
    head = ("setting", *named)
    return Table(caption="Where their recipes differ", head=head, rows=rows) if rows else None


def _places(trees: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    """Yield the names, from the outermost table inwards, under which the values differ."""
    for name in dict.fromkeys(name for tree in trees for name in tree):
        values = [tree.get(name) for tree in trees]
        tables = [value for value in values if isinstance(value, dict)]
        if len(tables) == len(values):
            yield from ((name, *rest) for rest in _places(tables))
        elif any(value != values[0] for value in values):
            yield (name,)


def _value(recipe: Mapping[str, Any], place: tuple[str, ...]) -> Any:
    """Return a value as JSON can have it."""
    value: Any = recipe
    for name in place:
        value = value.get(name)
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):  # times, and numbers without end
        return str(value)
    return value


def _text(value: Any) -> str:
    """Return a value for people."""
    if value is None:
        return "–"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name} = {_text(own)}' for name, own in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return value if isinstance(value, str) else json.dumps(value)
