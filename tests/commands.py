"""The command line, in a process of its own and in this one."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest

from cluster.cli import main

ROOT = Path(__file__).resolve().parents[1]


def started(folder: Path, *args: str) -> subprocess.Popen[str]:
    """Start `stillhouse ARGS` in `folder`; its output is one pipe."""
    return subprocess.Popen(
        [sys.executable, "-c", "from cluster.cli import main; main()", *args],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def called(monkeypatch: pytest.MonkeyPatch, *args: str) -> int:
    """Run `stillhouse ARGS` in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["stillhouse", *args])
    try:
        main()
    except SystemExit as error:
        return int(error.code or 0)
    return 0


class Answer(NamedTuple):
    """What a command printed and its exit code."""

    returncode: int
    stdout: str
    stderr: str


class Stillhouse(Protocol):
    """Runs a command line in the test's folder."""

    def __call__(self, *args: str | Path) -> Answer: ...


def assert_refused(result: Answer, *words: str) -> None:
    """Hold an answer against exit code 2 and one line with these words."""
    assert result.returncode == 2, result.stdout + result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]
