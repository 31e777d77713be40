import json
import logging
import math
from pathlib import Path

import pytest

from cluster.teacher_versions import IncomingVersions
from cluster.teaching.version_writer import VersionWriter
from common.errors import ConfigError
from common.policies.policy import load_policy
from common.storage import locate
from learners.teacher_search import TeachEvaluation
from tests.cartpole import cartpole_teacher, load_config
from tests.commands import Stillhouse, assert_refused


def evaluation(env_steps: int, greedy: float, *, is_best: bool = True) -> TeachEvaluation:
    return TeachEvaluation(
        policy=cartpole_teacher(),
        env_steps=env_steps,
        mean_return=math.nan if env_steps < 200 else greedy / 2,
        greedy_return=greedy,
        is_best=is_best,
    )


def test_every_better_policy_becomes_a_version_that_a_run_can_take(tmp_path: Path) -> None:
    folder = tmp_path / "versions"
    writer = VersionWriter(locate(folder))
    writer.take(evaluation(100, 20.0))
    writer.take(evaluation(200, 15.0, is_best=False))
    writer.take(evaluation(300, 60.0))
    assert sorted(path.name for path in folder.iterdir()) == [
        "curve.jsonl",
        "version-000001.json",
        "version-000001.safetensors",
        "version-000002.json",
        "version-000002.safetensors",
    ]
    second = load_policy(folder / "version-000002.safetensors").spec
    assert second.measured == {"mean_return": 60.0, "acting": "greedy"}
    assert second.provenance["env_steps"] == 300
    assert [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()] == [
        {"env_steps": 100, "mean_return": None, "greedy_return": 20.0, "version": 1},
        {"env_steps": 200, "mean_return": 7.5, "greedy_return": 15.0, "version": 1},
        {"env_steps": 300, "mean_return": 30.0, "greedy_return": 60.0, "version": 2},
    ]
    teacher = load_config(tmp_path, f"teacher.refresh={{path = '{folder}'}}").teacher
    assert teacher is not None
    found = IncomingVersions(teacher, cartpole_teacher().spec).newest()
    assert found is not None
    assert found.name == "version-000002.safetensors"


def test_a_full_disk_does_not_end_the_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "versions"
    writer = VersionWriter(locate(folder))
    folder.mkdir()
    (folder / "version-000001.safetensors.partial").symlink_to("/dev/full")
    with caplog.at_level(logging.WARNING):
        writer.take(evaluation(100, 20.0))
    assert "the teacher so far is not written" in caplog.text
    writer.take(evaluation(200, 30.0))
    assert (folder / "version-000002.json").exists()
    assert len((folder / "curve.jsonl").read_text().splitlines()) == 2


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "version-000001.json").write_text("{}")
    with pytest.raises(ConfigError, match="not an empty folder; name another"):
        VersionWriter(locate(tmp_path))


def test_a_training_that_goes_on_counts_on(tmp_path: Path) -> None:
    folder = locate(tmp_path / "versions")
    VersionWriter(folder, after=0).take(evaluation(100, 20.0))
    writer = VersionWriter(folder, after=100)
    writer.take(evaluation(200, 30.0))
    again = VersionWriter(folder, after=100)  # killed, and from the same checkpoint once more
    again.take(evaluation(200, 40.0))
    lines = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
    assert [line["env_steps"] for line in lines] == [100, 200]
    assert [line["version"] for line in lines] == [1, 3]
    assert load_policy(folder / "version-000003.safetensors").spec.measured["mean_return"] == 40.0


def test_teach_refuses_it_before_anything_starts(tmp_path: Path, stillhouse: Stillhouse) -> None:
    load_config(tmp_path)
    recipe = tmp_path / "recipe.toml"
    table = '[teacher]\npath = "teacher.safetensors"'
    recipe.write_text(recipe.read_text().replace(table, "[teach]"))
    taught = ("teach", recipe, "--out", "taught", "--versions", tmp_path)
    assert_refused(stillhouse(*taught), f"--versions {tmp_path}: not an empty folder")
