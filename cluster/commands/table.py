"""The commands by name; each is imported when it is called.

Importing torch takes seconds, and the commands on runs of a cluster do without it.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from typer.core import TyperGroup
from typer.main import get_group

DISTIL = "cluster.commands.distil"
ON_RUNS = "cluster.commands.runs"
REPORT = "cluster.commands.report"

MODULES = {
    "run": DISTIL,
    "resume": DISTIL,
    "check": DISTIL,
    "evaluate": "cluster.commands.evaluate",
    "report": REPORT,
    "compare": REPORT,
    "export": "cluster.commands.export",
    "play": "cluster.commands.play",
    "teach": "cluster.commands.teach",
    "record": "cluster.commands.record",
    "sweep": "cluster.commands.sweep",
    "status": ON_RUNS,
    "watch": ON_RUNS,
    "scale": ON_RUNS,
    "pause": ON_RUNS,
    "stop": ON_RUNS,
    "bench": "cluster.commands.bench",
}
"""The modules with the commands, each with `commands`, in the order of the help."""


class _Commands(Mapping[str, Any]):
    """Typer's commands, imported when they are asked for."""

    def __getitem__(self, name: str) -> Any:
        module = import_module(MODULES[name])
        if module.__name__ != ON_RUNS:
            from common.threads import set_threads

            set_threads(1)
        return get_group(module.commands).commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(MODULES)

    def __len__(self) -> int:
        return len(MODULES)


class CommandTable(TyperGroup):
    """The group of all commands."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = _Commands()  # type: ignore[assignment]
