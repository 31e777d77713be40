"""The quickstart, as a newcomer types it: every command of the page, in its order."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnxruntime as ort
import pytest

from tests.deploy.documents import ROOT, commands

STILLHOUSE = Path(sys.executable).with_name("stillhouse")


@pytest.mark.slow
def test_every_command_of_the_quickstart_works(shared_teachers: Path, tmp_path: Path) -> None:
    zoo = shared_teachers / "sb3-zoo" / "ppo" / "CartPole-v1" / "CartPole-v1.zip"
    shutil.copy(zoo, tmp_path)
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    shown = [command for command in commands() if command.document.endswith("quickstart.md")]
    assert [command.args[0] for command in shown] == [
        *("check", "run", "evaluate", "report", "play", "export"),
    ]
    for command in shown:
        done = subprocess.run(
            [STILLHOUSE, *command.args],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    assert (tmp_path / "both.mp4").stat().st_size > 10_000
    assert "data:video/mp4" in (tmp_path / "runs/first/report.html").read_text()
    session = ort.InferenceSession(tmp_path / "runs/first/student.onnx")
    assert session.get_inputs()[0].shape[1:] == [4]
