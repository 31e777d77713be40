import logging
from pathlib import Path
from typing import Any

import pytest

from cluster.recipe.config import RunConfig
from cluster.teacher_versions import IncomingVersions, newest_taken, save_taken
from common.policies.policy import Policy, new_policy, save_policy
from common.storage import locate
from tests.cartpole import cartpole_teacher, load_config

SPEC = cartpole_teacher().spec


def version(seed: int = 0, **changes: Any) -> Policy:
    return new_policy(SPEC.model_copy(update={"name": f"seed {seed}"} | changes), seed=seed)


class Folder:
    """A folder with versions, and what watches it."""

    def __init__(self, path: Path, *overrides: str, first: str = "teacher.safetensors") -> None:
        self.path = path / "versions"
        self.path.mkdir()
        refresh = f"teacher.refresh={{path = '{self.path}'}}"
        self.config: RunConfig = load_config(path, refresh, *overrides)
        assert self.config.teacher is not None
        teacher = self.config.teacher.model_copy(update={"path": str(path / first)})
        self.incoming = IncomingVersions(teacher, SPEC)

    def write(self, *names: str) -> None:
        for name in names:
            save_policy(version(), self.path / name)

    def newest(self) -> str | None:
        found = self.incoming.newest()
        return None if found is None else found.name


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_folder_that_is_not_there_yet_has_no_version(tmp_path: Path) -> None:
    refresh = f"teacher.refresh={{path = '{tmp_path}/later'}}"
    teacher = load_config(tmp_path, refresh).teacher
    assert teacher is not None
    assert IncomingVersions(teacher, SPEC).newest() is None


def test_numbers_in_names_go_by_size_and_the_newest_comes_first(folder: Folder) -> None:
    folder.write("policy-9.safetensors", "policy-10.safetensors", "policy-1.safetensors")
    assert folder.newest() == "policy-10.safetensors"
    folder.incoming.refuse("policy-10.safetensors")
    assert folder.newest() == "policy-9.safetensors"
    folder.incoming.take("policy-9.safetensors")
    assert folder.newest() == "policy-10.safetensors"  # it may be better than this one
    folder.incoming.refuse("policy-10.safetensors")
    assert folder.newest() is None
    folder.write("policy-11.safetensors", "policy-8.safetensors")
    assert folder.newest() == "policy-11.safetensors"


def test_only_versions_after_the_runs_teacher_count(tmp_path: Path) -> None:
    folder = Folder(tmp_path, first="versions/policy-3.safetensors")
    folder.write("policy-2.safetensors", "policy-3.safetensors")
    assert folder.newest() is None
    folder.write("policy-4.safetensors")
    assert folder.newest() == "policy-4.safetensors"


def test_a_run_goes_on_after_the_file_that_it_took_last(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("policy-2.safetensors", "policy-3.safetensors")
    file = {"version_file": "policy-2.safetensors"}
    taken = SPEC.model_copy(update={"provenance": file, "teacher_version": 1})
    assert folder.config.teacher is not None
    folder.incoming = IncomingVersions(folder.config.teacher, taken)
    assert folder.newest() == "policy-3.safetensors"
    folder.incoming.refuse("policy-3.safetensors")
    assert folder.newest() is None
    # A recipe's own teacher may have been a version in another run, which says nothing here.
    first = taken.model_copy(update={"teacher_version": 0})
    folder.incoming = IncomingVersions(folder.config.teacher, first)
    folder.incoming.refuse("policy-3.safetensors")
    assert folder.newest() == "policy-2.safetensors"


def test_a_policy_without_its_specification_is_not_there_yet(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    folder.write("policy-1.safetensors", "policy-2.safetensors")
    (folder.path / "policy-2.json").unlink()
    (folder.path / "policy-3.safetensors.partial").write_bytes(b"half")
    assert folder.newest() == "policy-1.safetensors"
    assert not caplog.records


def test_a_damaged_file_is_told_of_once_and_read_when_it_is_whole(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    folder.write("policy-1.safetensors", "policy-2.safetensors")
    place = folder.path / "policy-2.safetensors"
    whole = place.read_bytes()
    place.write_bytes(whole[:-20])
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert folder.newest() == "policy-1.safetensors"
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"a version of the teacher is passed over: {place}: damaged")
    place.write_bytes(whole)
    assert folder.newest() == "policy-2.safetensors"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"observation": SPEC.observation.model_copy(update={"shape": (5,)})}, "observations = "),
        ({"num_actions": 3}, "actions = 3, and the run's teacher 2"),
        ({"dist": "q_values"}, "dist = q_values, and the run's teacher logits"),
        ({"has_value": True}, "has_value = True"),
    ],
)
def test_a_version_of_another_kind_is_passed_over_in_one_line(
    changes: dict[str, Any], words: str, folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    save_policy(version(**changes), folder.path / "policy-1.safetensors")
    with caplog.at_level(logging.WARNING):
        assert folder.newest() is None
    (record,) = caplog.records
    assert words in record.getMessage()
    assert "\n" not in record.getMessage()


def test_other_files_are_no_versions(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "teacher.refresh.pattern='best-*.safetensors'")
    folder.write("policy-7.safetensors", "best-1.safetensors")
    (folder.path / "curve.jsonl").write_text("{}")
    assert folder.newest() == "best-1.safetensors"


def test_a_version_acts_as_the_recipe_says(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "teacher.acting={mode = 'sample', epsilon = 0.1}")
    folder.write("policy-1.safetensors")
    found = folder.incoming.newest()
    assert found is not None
    assert (found.policy.spec.acting.mode, found.policy.spec.acting.epsilon) == ("sample", 0.1)


def test_versions_of_other_trainers_are_read(tmp_path: Path, shared_teachers: Path) -> None:
    folder = Folder(tmp_path, "teacher.refresh.pattern='*.zip'")
    zoo = shared_teachers / "sb3-zoo" / "dqn" / "CartPole-v1" / "CartPole-v1.zip"
    (folder.path / "rl_model_10000_steps.zip").write_bytes(zoo.read_bytes())
    (folder.path / "rl_model_9000_steps.zip").write_bytes(b"PK")
    folder.incoming._first = SPEC.model_copy(update={"dist": "q_values"})
    assert folder.newest() == "rl_model_10000_steps.zip"


def test_the_newest_whole_version_of_a_run_is_found_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = locate(tmp_path / "teachers")
    assert newest_taken(place, trust=False) is None
    for number in (1, 2, 10):
        save_taken(place, version(number, teacher_version=number))
    newest = newest_taken(place, trust=False)
    assert newest is not None
    assert (newest.spec.teacher_version, newest.spec.name) == (10, "seed 10")
    (tmp_path / "teachers" / "version-000010.safetensors").write_bytes(b"no more")
    with caplog.at_level(logging.WARNING):
        before = newest_taken(place, trust=False)
    assert before is not None
    assert before.spec.teacher_version == 2
    assert "going on with the version before" in caplog.text
    # One whose specification was not written is none.
    save_policy(version(11, teacher_version=11), place / "version-000011.safetensors")
    (tmp_path / "teachers" / "version-000011.json").unlink()
    assert newest_taken(place, trust=False) is not None
