from pathlib import Path

import pytest

from cluster.exports.source import open_source
from cluster.players import load_entry_policy
from cluster.policy_files import load_policy_file
from cluster.scene import Scene
from common.errors import PolicyMissingError, RunDirectoryError
from tests.common.teachers.sb3_files import q_network, write


def test_what_its_reader_says_goes_to_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "stats.pkl").touch()
    path = write(tmp_path, q_network())
    assert load_policy_file(path, trust=False).spec.name == "dqn-teacher"
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"note: {path}: its observations are not normalised; stats.pkl ")
    assert said.err.count("\n") == 1


def test_a_run_without_a_student_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match=f"^{tmp_path}: has no student yet; finish it"):
        open_source(str(tmp_path), Scene())


def test_neither_a_run_nor_a_policy(tmp_path: Path) -> None:
    source = str(tmp_path / "nothere")
    wanted = f"{source}: neither a run directory nor a policy file is there"
    with pytest.raises(PolicyMissingError, match=f"^{wanted}; give the path of one$"):
        open_source(source, Scene())
    write(tmp_path, q_network(), name="nothere")
    with pytest.raises(PolicyMissingError) as caught:
        load_entry_policy(source, task=None, trust=False)
    assert str(caught.value) == f"{wanted} (did you mean {source}.zip?); give the path of one"
