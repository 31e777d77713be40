import json
import signal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import cluster.controller
from cluster.board import RunStatus
from cluster.control import Control
from cluster.controller import Controller
from cluster.local_backend import LocalBackend
from cluster.prepare import prepare
from cluster.progress import PlainReporter
from cluster.recipe.config import RunConfig
from cluster.run_directory import create_run_directory
from cluster.teaching.directory import TeachDirectory
from cluster.teaching.training import train_teacher_for
from cluster.teaching.version_writer import VersionWriter
from common.storage import locate
from learners.teach_checkpoint import newest_training, save_training
from learners.teach_config import TeachConfig
from tests.cartpole import load_config
from tests.taught import TINY_PPO, taught


def teach_config(folder: Path, teach: TeachConfig) -> RunConfig:
    return load_config(folder).model_copy(update={"teach": teach, "teacher": None})


@pytest.mark.ray
@pytest.mark.parametrize("started", [False, True])
def test_rllib_has_a_ray_of_this_process_whoever_starts_it(
    started: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    from cluster.on_ray.connection import start_here
    from learners import rllib_teacher

    def train(*args: Any, **kwargs: Any) -> Any:
        seen.append((ray.is_initialized(), ray.cluster_resources()["CPU"]))
        return "teacher"

    seen: list[tuple[bool, float]] = []
    monkeypatch.setattr(rllib_teacher, "train_teacher", train)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # a cluster that nobody asked for
    preparation = prepare(teach_config(tmp_path, TeachConfig()), num_cpus=2, num_gpus=0)
    if started:
        start_here(num_cpus=2)
    try:
        taught = train_teacher_for(preparation, PlainReporter(Console(quiet=True)))
        assert taught == ("teacher", False)
        assert ray.is_initialized() == started
    finally:
        ray.shutdown()
    assert seen == [(True, 2.0 if started else 1.0)]


class _CtrlC(PlainReporter):
    """Presses it once, as soon as there is progress."""

    pressed = False

    def progress(self, phase: str, fraction: float, text: str) -> None:
        if not self.pressed:
            self.pressed = True
            signal.raise_signal(signal.SIGINT)


@pytest.mark.ray
def test_ctrl_c_ends_a_training_with_its_best_and_a_checkpoint(tmp_path: Path) -> None:
    endless = TINY_PPO.model_copy(update={"total_env_steps": 10**9})
    preparation = prepare(teach_config(tmp_path, endless), num_cpus=2, num_gpus=0)
    directory = TeachDirectory(tmp_path / "out")
    versions = VersionWriter(locate(tmp_path / "versions"))
    reporter = _CtrlC(Console(quiet=True))
    teacher, interrupted = train_teacher_for(
        preparation, reporter, directory=directory, versions=versions
    )
    assert interrupted
    found = newest_training(directory.checkpoints)
    assert found is not None
    (*_, last) = directory.metrics.read_text().splitlines()
    trained = teacher.spec.provenance["env_steps"]
    assert trained == found.env_steps == json.loads(last)["teach/env_steps"]
    assert (tmp_path / "versions" / "version-000001.safetensors").exists()


class _Asked(Exception):
    """What a run asked of the training of its teacher."""


def test_a_run_goes_on_with_the_training_of_its_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*args: Any, directory: TeachDirectory, resumed: Any) -> Any:
        raise _Asked(directory, resumed)

    monkeypatch.setattr(cluster.controller, "train_teacher_for", train)
    config = teach_config(tmp_path, TINY_PPO)
    run = create_run_directory(tmp_path / "run", config)
    control = Control(RunStatus(name=config.name, run_dir=str(run.path), task=config.task_name))
    preparation = prepare(config, num_cpus=2, num_gpus=0)

    def asked() -> tuple[TeachDirectory, Any]:
        reporter = PlainReporter(Console(quiet=True))
        with pytest.raises(_Asked) as error:
            Controller(preparation, run, LocalBackend(), reporter, control).run()
        directory, resumed = error.value.args
        return directory, resumed

    directory, resumed = asked()
    assert directory.path == locate(tmp_path / "run" / "teaching")
    assert resumed is None
    save_training(directory.checkpoints, TINY_PPO, taught(TINY_PPO)[0], {"env_steps": 256}, {})
    assert asked()[1].env_steps == 256
