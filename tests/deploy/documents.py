"""The documents that a person reads, and the commands that they show."""

import re
import shlex
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]

DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "deploy").rglob("*.md")))

_FENCED = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_ON_A_CLUSTER = {"README.md": "ray start --head", "deploy/guide/runs.md": "stillhouse watch"}
"""Documents with a block that is typed on a cluster, and by what it is known."""
_OPERATORS = frozenset({"&", "&&", ";", "|"})


class Command(NamedTuple):
    """A command line of Stillhouse as a document shows it."""

    document: str
    args: tuple[str, ...]
    """Without `stillhouse`."""

    def __str__(self) -> str:
        return f"{self.document}: stillhouse {shlex.join(self.args)}"


def commands() -> Iterator[Command]:
    """Yield the commands in the fenced blocks of all documents."""
    for path in DOCUMENTS:
        name = str(path.relative_to(ROOT))
        for block in _blocks(path):
            yield from (Command(name, args) for args in _commands_in(block))


def cluster_commands() -> Iterator[Command]:
    """Yield those that launch, steer and watch a run of a cluster that `ray start` makes."""
    for name in _ON_A_CLUSTER:
        yield from (Command(name, args) for args in _commands_in(cluster_block(name)))


def cluster_block(document: str) -> str:
    """Return the block of a document that is typed on such a cluster."""
    [block] = [each for each in _blocks(ROOT / document) if _ON_A_CLUSTER[document] in each]
    return block


def python_of(path: Path) -> str:
    """Return the Python that a document shows, all blocks in their order."""
    return "\n".join(_PYTHON.findall(path.read_text()))


def mentioned() -> Iterator[Command]:
    """Yield the commands that stand within sentences and tables."""
    for path in DOCUMENTS:
        for code in code_in_sentences(path, "stillhouse "):
            yield Command(str(path.relative_to(ROOT)), tuple(code.split()[1:]))


def code_in_sentences(path: Path, start: str) -> list[str]:
    """Return what stands as code within a document's sentences and tables and begins so."""
    text = _FENCED.sub("", path.read_text())
    return [code for code in _CODE.findall(text) if code.startswith(start)]


def _blocks(path: Path) -> list[str]:
    """Return the fenced blocks of a document."""
    return _FENCED.findall(path.read_text())


def _commands_in(block: str) -> Iterator[tuple[str, ...]]:
    """Yield the arguments of every `stillhouse` in a block of shell lines."""
    for line in block.replace("\\\n", " ").splitlines():
        if "stillhouse " not in line:
            continue
        words = shlex.split(line, comments=True)
        if "stillhouse" in words:
            rest = words[words.index("stillhouse") + 1 :]
            yield tuple(takewhile(lambda word: word not in _OPERATORS, rest))
