"""A run whose terminal goes away."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, cast

import pytest
from rich.console import Console

from cluster.progress import PlainReporter
from cluster.run_directory import RunDirectory
from cluster.screen import Screen
from common.policies.policy import load_policy
from tests.cartpole import save_cartpole_teacher, write_recipe
from tests.commands import ROOT


def test_what_is_said_to_nobody_is_lost_and_nothing_else() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", buffering=1) as stream:
        reporter = PlainReporter(Console(file=cast("IO[str]", Screen(stream))))
        reporter.say("first")
        assert b"first" in os.read(reading, 1_000)
        os.close(reading)
        reporter.say("second")
        reporter.say("third")


@pytest.mark.slow
def test_a_run_whose_terminal_is_closed_ends_with_a_checkpoint_and_a_student(
    tmp_path: Path,
) -> None:
    save_cartpole_teacher(tmp_path / "teacher.safetensors")
    write_recipe(tmp_path / "recipe.toml")
    command = [sys.executable, "-m", "cluster", "run", "recipe.toml", "--local", "--run-dir", "out"]
    terminal, other_end = pty.openpty()
    process = subprocess.Popen(
        [*command, "--set", "total_env_steps=100_000_000", "--set", "behavior.name=student"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm"},
        stdin=other_end,
        stdout=other_end,
        stderr=other_end,
        start_new_session=True,
    )
    os.close(other_end)
    shown = b""
    while b"share of the teacher" not in shown:
        shown += os.read(terminal, 4_096)
    os.close(terminal)
    os.kill(process.pid, signal.SIGHUP)  # as the kernel sends it to a terminal's own session
    assert process.wait(timeout=120) == 130
    directory = RunDirectory(tmp_path / "out")
    load_policy(directory.student)
    assert "stopping with a checkpoint" in directory.log.read_text()
