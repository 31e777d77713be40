"""The README's commands on a cluster, typed line by line on three raylets that ask for a token.

A free port and the run directory that is there take the place of the README's, and the run starts
sooner than it would.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.deploy.documents import ROOT, cluster_block
from tests.deploy.ray_head import free_ports

DEADLINE_S = 180.0
RAY_HOME = "RAY_TMPDIR"
SHORTER = " ".join(
    f"--set {setting}"
    for setting in (
        *("evaluation.num_episodes=2", "evaluation.num_random_episodes=2"),
        *("evaluation.video=false", "actors.precision=float32", "actors.layout=contiguous"),
        *("learner.layout=contiguous", "learner.micro_batch_size=64"),
    )
)
"""Few games, and nothing to be measured before the first step."""
PAGE = re.compile(r"http://127\.0\.0\.1:\d+/\S+")


class Terminal:
    """A person's shell.

    Args:
        home: the person's home, with the recipes; Ray keeps its files there too.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self._environment = kept | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(home),
            RAY_HOME: str(home),
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
        }

    def type(self, line: str) -> str:
        """Run a line to its end, hold it against exit code 0, and return what it printed."""
        if line.startswith("export "):
            self._environment |= dict(word.split("=", 1) for word in line.split()[1:])
            return ""
        process = self._start(line)
        printed, _ = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, f"{line}\n{printed}"
        return printed

    def type_and_interrupt(self, line: str, seen: Callable[[str], bool]) -> None:
        """Run a line until one that it prints is as wanted, and press Ctrl-C."""
        process = self._start(f"exec {line}")
        assert process.stdout is not None
        printed = []
        try:
            for each in process.stdout:
                printed.append(each)
                if seen(each):
                    return
            raise AssertionError(f"{line}\n{''.join(printed)}")
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=DEADLINE_S)

    def close(self) -> None:
        """End every process that was started here; Ray's workers write over their environment, but
        have parents that do not."""
        mine: set[psutil.Process] = set()
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(RAY_HOME) == str(self._home):
                    mine |= {process, *process.children(recursive=True)}
        for process in mine:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(mine, timeout=10)

    def _start(self, line: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", "-c", line],
            cwd=self._home,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """Open a shell in a home of its own, whose short name Ray's sockets need."""
    with tempfile.TemporaryDirectory(prefix="sh-", ignore_cleanup_errors=True) as folder:
        for part in ("recipes", "teachers"):
            shutil.copytree(ROOT / "deploy" / part, Path(folder) / "deploy" / part)
        terminal = Terminal(Path(folder))
        try:
            yield terminal
        finally:
            terminal.close()


def lines(document: str) -> list[str]:
    """Return the lines, without remarks, of a document's block on a cluster."""
    shown = cluster_block(document).splitlines()
    return list(filter(None, (line.partition("  #")[0].strip() for line in shown)))


def run_is(terminal: Terminal, wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Wait until the run is as wanted."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        printed = terminal.type("stillhouse status pong --json")
        [status] = json.loads(printed.splitlines()[-1])
        if wanted(status):
            return
        assert time.monotonic() < deadline, status


def opens(line: str) -> bool:
    """Whether a line tells the address of a page; the page must open."""
    if found := PAGE.search(line):
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with browser.open(found.group(), timeout=DEADLINE_S) as answer:
            assert answer.status == 200
    return found is not None


@pytest.mark.ray
@pytest.mark.slow
def test_every_command_on_a_cluster_works(terminal: Terminal) -> None:
    [port] = free_ports(1)
    shown = lines("README.md")
    watched = lines("deploy/guide/runs.md")
    after: dict[str, Callable[[dict[str, Any]], bool]] = {
        "run": lambda status: bool(status["env_steps"] > 0),
        "scale": lambda status: bool(status["env_runners"] == 4),
        "stop": lambda status: status["phase"] == "stopped",
        "resume": lambda status: bool(status["alive"] and status["env_steps"] > 0),
    }
    typed = set()
    for line in [*shown[:-2], *watched, *shown[-2:]]:
        line = line.replace("6379", str(port)).replace("pong-…", "pong-*")
        program, command, *_ = line.split()
        if program != "stillhouse":
            terminal.type(line)
            continue
        typed.add(command)
        if command == "watch":
            terminal.type_and_interrupt(line, opens if "--web" in line else bool)
        else:
            terminal.type(f"{line} {SHORTER}" if command == "run" else line)
        if command in after:
            run_is(terminal, after[command])
    assert typed == {"run", "status", "scale", "pause", "watch", "stop", "resume"}
