"""The command line in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

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
