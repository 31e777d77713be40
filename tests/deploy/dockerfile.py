"""Reads the Dockerfile as far as the tests ask: its instructions, in order."""

import re
from typing import NamedTuple

from tests.deploy.manifests import DEPLOY

TEXT = (DEPLOY / "docker" / "Dockerfile").read_text(encoding="utf-8")


class Instruction(NamedTuple):
    """A word and what follows it, on one line."""

    word: str
    rest: str


def instructions(text: str) -> list[Instruction]:
    """Return a Dockerfile's instructions, continued lines joined, comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    parts = [line.strip().partition(" ") for line in joined.splitlines() if line.strip()]
    return [Instruction(word, rest.strip()) for word, _, rest in parts]


[WORKDIR] = [found.rest for found in instructions(TEXT) if found.word == "WORKDIR"]
