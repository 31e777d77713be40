from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from cluster.board import RunStatus
from cluster.run_directory import open_run_directory
from tests.cartpole import load_config
from tests.commands import called
from tests.common.teachers.sb3_files import layers, write


def test_a_detached_run_notes_at_once_what_its_teacher_was_read_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The cluster gets a copy of the teacher, of which the zip's statistics are a part."""
    state = layers(0, q_net__q_net__0=(64, 4), q_net__q_net__2=(64, 64), q_net__q_net__4=(2, 64))
    spaces: dict[str, Any] = {"action_space": {"n": "2"}, "observation_space": {"_shape": [4]}}
    path = write(tmp_path, state, **spaces)
    (tmp_path / "stats.pkl").touch()
    load_config(tmp_path)
    launched: list[RunStatus] = []
    monkeypatch.setattr("cluster.commands.distil.opened_backend", lambda *_: nullcontext())
    monkeypatch.setattr("cluster.on_ray.detached.launch", launched.append)
    monkeypatch.chdir(tmp_path)
    where = ("--detach", "--address", "nowhere:6379", "--run-dir", "run")
    assert called(monkeypatch, "run", "recipe.toml", *where, "--set", f"teacher.path={path}") == 0
    assert "its observations are not normalised; stats.pkl" in capsys.readouterr().out
    assert [status.run_dir for status in launched] == [str(tmp_path / "run")]
    assert open_run_directory(tmp_path / "run", [])[1].teacher is not None
