"""The command line, in a process of its own and in this one."""

import os
import subprocess
import sys
from pathlib import Path

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
