"""Secrets of the environment stay out of what a run leaves behind and says."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from cluster.board import RunStatus
from cluster.control import Control
from cluster.controller import Controller
from cluster.local_backend import LocalBackend
from cluster.prepare import prepare
from cluster.progress import PlainReporter
from cluster.run_directory import create_run_directory
from common.errors import ConfigError
from tests.cartpole import load_config

SECRETS = ("RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY", "REDIS_PASSWORD", "GOOGLE_API_KEY")


def secret_of(name: str) -> str:
    return f"hidden-{name.lower()}-0123456789"


def test_no_secret_of_the_environment_is_in_a_run_directory_or_what_is_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, secret_of(name))
    config = load_config(
        tmp_path, "total_env_steps=1024", "evaluation.num_episodes=2", "evaluation.num_workers=1"
    )
    said = io.StringIO()
    directory = create_run_directory(tmp_path / "run", config)
    with caplog.at_level("DEBUG"):
        Controller(
            prepare(config, num_cpus=2, num_gpus=0),
            directory,
            LocalBackend(),
            PlainReporter(Console(file=said)),
            Control(RunStatus(name=config.name, run_dir=str(tmp_path / "run"), task=config.env.id)),
        ).run()
    written = [path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert len(written) > 5
    printed = capfd.readouterr()
    everything = b"".join(written).decode("latin-1") + said.getvalue() + caplog.text
    everything += printed.out + printed.err
    assert "teacher" in everything
    for name in SECRETS:
        assert secret_of(name) not in everything


@pytest.mark.parametrize("key", ["teacher.path", "env.kwargs.source"])
def test_a_recipe_with_credentials_is_refused_before_it_is_saved(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key}: holds credentials") as refused:
        load_config(tmp_path, f"{key}=s3://AKIAKEY:hidden@bucket/x")
    assert "hidden" not in str(refused.value)
