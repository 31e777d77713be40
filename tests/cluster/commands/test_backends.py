"""What the command line does with a backend that is not there, or larger than this machine."""

from pathlib import Path
from typing import Any

import pytest

from cluster.on_ray import connection as ray_connection
from tests.commands import called


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the addresses at which a cluster was looked for, in vain."""
    addresses: list[str] = []

    def init(*, address: str, **options: Any) -> None:
        addresses.append(address)
        raise ConnectionError("nobody there")

    monkeypatch.setattr(ray_connection.ray, "init", init)
    return addresses


RUN = ("run", "recipe.toml", "--run-dir", "out")


def test_an_address_without_a_cluster_is_refused_and_leaves_nothing(
    folder: Path,
    reached: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert called(monkeypatch, *RUN, "--address", "auto") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --address auto: ")
    assert reached == ["auto"]
    assert not (folder / "out").exists()


def test_a_ray_that_does_not_start_is_not_the_users_mistake_and_leaves_nothing(
    folder: Path, reached: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert called(monkeypatch, *RUN) == 1
    assert reached == ["local"]
    assert not (folder / "out").exists()


def test_this_machine_is_not_asked_for_what_a_cluster_has(
    folder: Path,
    reached: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    large = ("--set", "actors.num_env_runners=100000", "--set", "learner.num_gpus=64")
    assert called(monkeypatch, *RUN, *large, "--address", "auto") == 2
    assert "cannot use a Ray cluster there" in capsys.readouterr().err
    assert called(monkeypatch, *RUN, *large) == 2
    assert "lower actors.num_env_runners" in capsys.readouterr().err
    assert reached == ["auto"]


def test_one_process_needs_no_cpus_for_env_runners_but_has_no_more_gpus(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class ReachedError(Exception):
        pass

    def reached(self: object, *args: object) -> None:
        raise ReachedError

    monkeypatch.setattr("cluster.controller.Controller.run", reached)
    many = ("--set", "actors.num_env_runners=100000", "--local")
    with pytest.raises(ReachedError):
        called(monkeypatch, *RUN, *many)
    capsys.readouterr()
    gpus = ("run", "recipe.toml", "--local", "--set", "learner.num_gpus=64")
    assert called(monkeypatch, *gpus) == 2
    assert "learner.num_gpus = 64" in capsys.readouterr().err
