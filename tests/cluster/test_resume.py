"""Runs that are stopped and go on, on a disk and on an S3 server, in one process and on Ray."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from cluster import local_backend
from cluster.board import RunStatus
from cluster.control import Control
from cluster.controller import Controller, Outcome
from cluster.local_backend import LocalBackend, LocalSession
from cluster.prepare import prepare
from cluster.progress import PlainReporter
from cluster.recipe.config import RunConfig
from cluster.run_directory import RunDirectory, create_run_directory, open_run_directory
from cluster.session import Backend, Session
from common.errors import ConfigError
from common.policies.policy import load_policy
from common.storage import Location, locate
from tests.cartpole import cartpole_teacher, load_config
from tests.cluster.polling import poll_until
from tests.commands import called

REPLAY = ("replay.checkpoint=true", "replay.window=2_000", "replay.num_shards=2")
TWO = ("actors.num_env_runners=2", *REPLAY)


def start(config: RunConfig, checkpoints: Path | Location, backend: Backend) -> Session:
    preparation = prepare(config, num_cpus=2, num_gpus=0)
    return backend.distil(preparation, cartpole_teacher(), checkpoints)


def start_here(config: RunConfig, checkpoints: Path | Location) -> LocalSession:
    session = start(config, checkpoints, LocalBackend())
    assert isinstance(session, LocalSession)
    return session


def stopped_here(config: RunConfig, checkpoints: Path | Location) -> LocalSession:
    """Return a session that was stopped after some steps, with its last checkpoint."""
    session = start_here(config, checkpoints)
    while session.poll().trainer.learner_steps < 20:
        pass
    session.finish()
    assert session.unsaved is None
    return session


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    if request.param == "disk":
        return locate(tmp_path / "checkpoints")
    return locate(request.getfixturevalue("bucket")) / "checkpoints"


def test_a_stopped_session_goes_on_with_its_counters_and_its_replay(
    place: Location,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = load_config(tmp_path, "total_env_steps=10_000_000", *TWO)
    monkeypatch.setattr(local_backend, "POLL_S", 0.05)
    first, second = stopped_here(config, place), start_here(config, place)
    then, now = first._trainer.stats(), second._trainer.stats()
    for name in ("learner_steps", "env_steps", "samples", "skipped_steps", "metrics"):
        assert getattr(now, name) == getattr(then, name), name
    shards = [[shard.stats() for shard in session._shards] for session in (first, second)]
    assert shards[1] == shards[0]
    assert caplog.messages == []
    draws = [session._trainer._learner.draw(200).rows for session in (first, second)]
    np.testing.assert_array_equal(*[draw.numpy() for draw in draws])
    later = second.poll()
    assert later.trainer.env_steps > then.env_steps
    assert later.trainer.env_steps == sum(shard.inserted for shard in later.shards)
    assert sum(shard.duplicates for shard in later.shards) == 0


def test_env_runners_of_a_resumed_run_play_other_games(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(tmp_path, "total_env_steps=10_000_000", "actors.num_env_runners=2")
    monkeypatch.setattr(local_backend, "POLL_S", 0.05)
    built: list[int] = []
    build = local_backend.build_collector

    def spy(config: RunConfig, **parts: Any) -> Any:
        built.append(parts["start_env_steps"])
        return build(config, **parts)

    monkeypatch.setattr(local_backend, "build_collector", spy)
    first = stopped_here(config, tmp_path / "checkpoints")
    second = start_here(config, tmp_path / "checkpoints")
    steps = first._trainer.stats().env_steps
    second._adjust()
    assert built == [0, 0, steps, steps]
    third = start_here(config, tmp_path / "nothing")
    third._adjust()
    seen = [
        [collector._runner._observations for collector in session._collectors]
        for session in (second, third)
    ]
    for resumed, anew in zip(*seen, strict=True):
        assert not np.array_equal(resumed, anew)
    assert not np.array_equal(*seen[0])


@pytest.mark.ray
def test_on_ray_a_stopped_session_goes_on_with_its_counters_and_its_replay(
    bucket: str, tmp_path: Path, ray_backend: Backend
) -> None:
    config = load_config(
        tmp_path,
        "total_env_steps=10_000_000",
        "actors.num_cpus_per_runner=0.4",
        "learner.checkpoint_interval_s=0.2",
        *TWO,
    )
    place = locate(bucket) / "checkpoints"
    first = start(config, place, ray_backend)
    then = first.poll()
    while then.trainer.learner_steps < 50 or not place.names():
        then = first.poll()
    first.finish()
    assert first.unsaved is None
    newest = place / place.names()[-1]
    assert newest.names() == [
        *("learner.pt", "manifest.json", "shard-0.arrow", "shard-1.arrow", "window.arrow")
    ]
    second = start(config, place, ray_backend)
    try:
        now = second.poll()
        assert now.trainer.env_steps >= then.trainer.env_steps
        assert now.trainer.learner_steps >= int(newest.name.split("-")[1])
        later = poll_until(
            second,
            lambda found: (
                found.trainer.learner_steps >= now.trainer.learner_steps + 50
                and found.trainer.env_steps > then.trainer.env_steps
                and len(found.shards) > 0
            ),
        )
        assert sum(shard.duplicates for shard in later.shards) == 0
        # Env steps count what the shards of both sessions took in, less what is on its way.
        assert later.trainer.env_steps <= sum(shard.inserted for shard in second.poll().shards)
    finally:
        second.abort()


def finished(directory: RunDirectory, config: RunConfig) -> Outcome:
    preparation = prepare(config, num_cpus=2, num_gpus=0)
    reporter = PlainReporter(Console(quiet=True))
    control = Control(RunStatus(name=config.name, run_dir=directory.path.absolute, task="CartPole"))
    return Controller(preparation, directory, LocalBackend(), reporter, control).run()


@pytest.mark.slow
def test_a_run_whose_directory_is_on_an_object_store(bucket: str, tmp_path: Path) -> None:
    """From recipe to delivered student, and on from there."""
    config = load_config(tmp_path, "total_env_steps=4_000", "replay.checkpoint=true")
    uri = f"{bucket}/runs/balance"
    assert finished(create_run_directory(uri, config), config).finished
    assert (locate(bucket) / "runs" / "balance").names() == [
        *("checkpoints", "disagreements.json", "evaluation.json", "groundwork.json", "log.jsonl"),
        *("metrics.jsonl", "recipe.toml", "report.html"),
        *("student.json", "student.onnx", "student.safetensors", "tensorboard", "versions.json"),
    ]
    directory, config = open_run_directory(uri, ["total_env_steps=8_000"])
    lines = directory.metrics.read_text().splitlines()
    outcome = finished(directory, config)
    more = [json.loads(line) for line in directory.metrics.read_text().splitlines()]
    assert len(more) > len(lines)
    assert more[len(lines)]["learner/env_steps"] > json.loads(lines[-1])["learner/env_steps"]
    assert more[-1]["learner/env_steps"] == more[-1]["replay/inserted"] >= 8_000
    assert len(directory.tensorboard.names()) == 2
    said = [json.loads(line)["message"] for line in directory.log.read_text().splitlines()]
    assert [said.count(line) for line in ("the run starts", "the run ends")] == [2, 2]
    assert said[-1] == "the run ends"
    assert json.loads(directory.evaluation.read_text()) == outcome.evaluation
    assert load_policy(directory.student).spec.name == "balance-student"


@pytest.mark.slow
def test_every_command_takes_a_uri(
    bucket: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    uri = f"{bucket}/run"
    short = ("--set", "total_env_steps=600", "--set", "evaluation.num_episodes=2", "--local")
    assert called(monkeypatch, "run", "recipe.toml", "--run-dir", uri, *short) == 0
    assert f"student: {uri}/student.safetensors" in capsys.readouterr().out
    assert called(monkeypatch, "run", "recipe.toml", "--run-dir", uri, *short) == 2
    assert f"stillhouse resume {uri}" in capsys.readouterr().err
    again = ("--set", "total_env_steps=1_200", "--local")
    assert called(monkeypatch, "resume", uri, *again) == 0
    assert called(monkeypatch, "evaluate", uri, "--episodes", "3", "--local") == 0
    scores = json.loads((locate(uri) / "evaluation.json").read_text())
    assert scores["tasks"]["CartPole-v1"]["student"]["episodes"] == 3
    assert "onnx" in scores
    assert called(monkeypatch, "export", uri, "--out", "here.onnx") == 0
    assert (folder / "here.onnx").exists()
    assert called(monkeypatch, "export", f"{uri}/student.safetensors") == 0
    (locate(uri) / "evaluation.json").write_text("{half of")
    capsys.readouterr()
    assert called(monkeypatch, "evaluate", uri, "--local") == 2
    error = capsys.readouterr().err
    assert f"error: {uri}/evaluation.json: damaged" in error
    assert error.count("\n") == 1
    assert called(monkeypatch, "resume", f"{bucket}/nowhere", "--local") == 2
    assert f"{bucket}/nowhere: no run directory" in capsys.readouterr().err
    assert not [name for name in os.listdir(folder) if name.startswith("s3")]


@pytest.mark.parametrize("local", [True, pytest.param(False, marks=pytest.mark.ray)])
def test_another_student_on_resume_gets_one_line(
    local: bool,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    short = ("--set", "total_env_steps=600", "--set", "evaluation.num_episodes=2")
    run = ("run", "recipe.toml", "--run-dir", "run", "--local", *short)
    assert called(monkeypatch, *run) == 0
    capsys.readouterr()
    files = RunDirectory("run")
    kept = {file: file.read_bytes() for file in (files.recipe, files.evaluation, files.versions)}
    wider = ("--set", "student.network.hidden=[24]", *(["--local"] if local else []))
    assert called(monkeypatch, "resume", "run", *wider) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: student.network = ")
    assert "[24]" in line
    assert "[16]" in line
    assert {file: file.read_bytes() for file in kept} == kept


def test_a_replay_of_several_ranks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"replay\.checkpoint = true: works with .*num_ranks = 1"):
        load_config(tmp_path, "learner.num_ranks=2", *TWO)
