import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from cluster.report.tables import version_table
from cluster.report.versions import Start, note_start, read_starts, starts_of, versions
from cluster.run_directory import RunDirectory
from tests.commands import ROOT


def test_versions_are_those_of_this_process() -> None:
    found = versions()
    assert found["python"] == platform.python_version()
    for package in ("torch", "ray", "stillhouse"):
        assert found[package] == version(package)
    head = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True
    )
    assert found.get("git commit", "").split(" ")[0] == head.stdout.strip()


def test_every_start_is_kept(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    for is_local in (False, True):
        note_start(directory, is_local=is_local)
    first, second = starts_of(directory)
    assert first.versions == second.versions == versions()
    assert (first.is_local, second.is_local) == (False, True)


def test_a_damaged_file_costs_what_was_in_it(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.versions.write_text("{")
    assert starts_of(directory) == ()
    note_start(directory, is_local=True)
    assert '"starts"' in directory.versions.read_text()
    assert read_starts({"starts": [3, {"versions": 3}]}) == ()
    (old,) = read_starts({"starts": [{"time": "now", "versions": {}}]})
    assert not old.is_local


def test_only_starts_with_other_versions_are_shown() -> None:
    old, new = {"python": "3.11"}, {"python": "3.12", "torch": "3"}
    table = version_table((Start("a", old), Start("b", old), Start("c", new)))
    assert table is not None
    assert table.head == ("", "a", "c")
    assert table.rows == (("python", "3.11", "3.12"), ("torch", "–", "3"))
    assert version_table(()) is None
