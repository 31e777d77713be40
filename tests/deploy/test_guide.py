"""What the guide shows, typed as it shows it, page by page.

The quickstart is done in full. On the other pages, what trains is cut short by options that are
added to those that are shown, and the finished runs of which a page speaks are copies of the
quickstart's. What steers runs of a cluster is typed in test_cluster_commands.py.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnxruntime as ort
import pytest

from tests.deploy.documents import ROOT, Command, cluster_commands, commands, python_of

STILLHOUSE = Path(sys.executable).with_name("stillhouse")
QUICKSTART = "deploy/guide/quickstart.md"
PAGES = (
    "README.md",
    *(f"deploy/guide/{name}.md" for name in ("datasets", "report", "students", "teachers")),
)
NEEDS_DOCKER = "deploy/guide/cluster.md"

SHORT_TEACHING = ("--set", "teach.total_env_steps=2_000")
SHORT_RUN = (
    *("--set", "total_env_steps=2_000", "--set", "evaluation.num_episodes=2"),
    *("--set", "evaluation.video=false"),
)
FALLS_SHORT = "evaluation.required_share"
"""In the reason with which a run ends with exit code 1 when all of it is done."""
CUT_SHORT = {
    "run": ("--local", *SHORT_RUN),
    "record": ("--local", "--env-steps", "2_000", *SHORT_TEACHING),
    "teach": SHORT_TEACHING,
    "sweep": ("--samples", "2", *SHORT_RUN),
}


def shown_on(page: str) -> list[Command]:
    """Return the commands of a page that need no cluster."""
    steered = set(cluster_commands())
    return [
        command for command in commands() if command.document == page and command not in steered
    ]


def furnish(folder: Path, shared_teachers: Path) -> None:
    """Put what the pages speak of into a folder: recipes, the bundled teacher, two zips."""
    for part in ("recipes", "teachers"):
        shutil.copytree(ROOT / "deploy" / part, folder / "deploy" / part)
    for name in ("CartPole-v1", "LunarLander-v2"):
        shutil.copy(shared_teachers / "sb3-zoo" / "ppo" / name / f"{name}.zip", folder)


def type_(folder: Path, command: Command, *more: str) -> None:
    """Run a command in a process of its own, and hold it against exit code 0; the student of a run
    that is cut short may fall short of its teacher."""
    done = subprocess.run(
        [STILLHOUSE, *command.args, *more],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    falls_short = bool(more) and done.returncode == 1 and FALLS_SHORT in done.stderr
    assert done.returncode == 0 or falls_short, f"{command}\n{done.stdout}{done.stderr}"


@pytest.fixture(scope="module")
def quickstart(shared_teachers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Do what the quickstart says, and return the folder in which it was done."""
    folder = tmp_path_factory.mktemp("quickstart")
    furnish(folder, shared_teachers)
    for command in shown_on(QUICKSTART):
        type_(folder, command)
    return folder


@pytest.mark.slow
def test_the_quickstart_ends_with_a_student_a_page_a_video_and_an_export(quickstart: Path) -> None:
    assert [command.args[0] for command in shown_on(QUICKSTART)] == [
        *("check", "run", "evaluate", "report", "play", "export"),
    ]
    assert (quickstart / "both.mp4").stat().st_size > 10_000
    assert "data:video/mp4" in (quickstart / "runs/first/report.html").read_text()
    session = ort.InferenceSession(quickstart / "runs/first/student.onnx")
    assert session.get_inputs()[0].shape[1:] == [4]


@pytest.mark.slow
def test_who_has_no_zip_makes_one_with_the_lines_of_the_quickstart(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "deploy" / "recipes", tmp_path / "deploy" / "recipes")
    program = python_of(ROOT / QUICKSTART)
    assert "50_000" in program
    short = program.replace("50_000", "500")
    subprocess.run([sys.executable, "-c", short], cwd=tmp_path, check=True, timeout=300)
    check, *_ = shown_on(QUICKSTART)
    assert check.args[0] == "check"
    type_(tmp_path, check)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_works(
    page: str, quickstart: Path, shared_teachers: Path, tmp_path: Path
) -> None:
    furnish(tmp_path, shared_teachers)
    for name in ("pong-…", "breakout-…", "pong"):
        shutil.copytree(quickstart / "runs/first", tmp_path / "runs" / name)
    shutil.copy(quickstart / "runs/first/student.onnx", tmp_path)
    shown = shown_on(page)
    assert shown
    for command in shown:
        type_(tmp_path, command, *CUT_SHORT.get(command.args[0], ()))


def test_a_page_with_commands_is_tried_or_needs_docker() -> None:
    tried = {QUICKSTART, *PAGES, *(command.document for command in cluster_commands())}
    assert {command.document for command in commands()} == tried | {NEEDS_DOCKER}
