"""The commands that are suggested work as the run did."""

from pathlib import Path

import pytest

from cluster.next_command import next_command
from cluster.report.repeat import repeat_commands
from cluster.report.versions import note_start
from cluster.run_directory import RunDirectory


def test_a_run_in_one_process_goes_on_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    directory = RunDirectory("runs/my pong")
    assert next_command(directory, "resume") == "stillhouse resume 'runs/my pong'"
    note_start(directory, is_local=True)
    assert next_command(directory, "resume") == "stillhouse resume 'runs/my pong' --local"
    note_start(directory, is_local=False)
    assert next_command(directory, "evaluate") == "stillhouse evaluate 'runs/my pong'"
    directory.versions.write_text("{")
    assert next_command(directory, "resume") == "stillhouse resume 'runs/my pong'"


@pytest.mark.parametrize("is_local", [True, False])
def test_a_report_repeats_a_run_as_it_was(is_local: bool) -> None:
    again, otherwise, scored, written = [
        command for _, command in repeat_commands("/runs/a", is_local=is_local)
    ]
    local, on_ray = " --local", ""
    here, there = (local, on_ray) if is_local else (on_ray, local)
    assert again == f"stillhouse run /runs/a/recipe.toml{here}"
    assert otherwise == f"stillhouse run /runs/a/recipe.toml{there}"
    assert scored == f"stillhouse evaluate /runs/a --episodes 100{here}"
    assert written == "stillhouse report /runs/a"
