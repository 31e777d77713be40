"""How a process comes to a cluster: what goes along, and what is refused."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from cluster.on_ray import connection as ray_connection
from cluster.on_ray.connection import CHECKOUT, JOB_CONFIG, connect
from common.errors import ResourceError


@pytest.fixture
def inits(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return what Ray was asked for, in the place of a cluster."""
    asked: list[dict[str, Any]] = []
    monkeypatch.delenv(JOB_CONFIG, raising=False)
    monkeypatch.setattr(ray_connection.ray, "init", lambda **options: asked.append(options))
    return asked


def test_the_checkout_goes_along(inits: list[dict[str, Any]]) -> None:
    connect("auto")
    runtime_env = inits[0]["runtime_env"]
    assert runtime_env["working_dir"] == str(CHECKOUT)
    assert (CHECKOUT / "pyproject.toml").is_file()
    assert "/.venv" in runtime_env["excludes"]
    assert runtime_env["env_vars"] == {"OMP_NUM_THREADS": "1"}


def test_who_only_asks_brings_nothing(inits: list[dict[str, Any]]) -> None:
    connect("auto", with_code=False)
    assert inits[0]["runtime_env"] == {}


@pytest.mark.parametrize("field", ["working_dir", "py_modules"])
def test_a_job_has_brought_its_code(
    field: str, inits: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(JOB_CONFIG, json.dumps({"runtime_env": {field: "gcs://code.zip"}}))
    connect("auto")
    assert "working_dir" not in inits[0]["runtime_env"]


def test_a_job_without_code_gets_the_checkout(
    inits: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(JOB_CONFIG, json.dumps({"runtime_env": {"env_vars": {"A": "1"}}}))
    connect("auto")
    assert inits[0]["runtime_env"]["working_dir"] == str(CHECKOUT)


def test_an_installation_without_a_checkout_brings_nothing(
    inits: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ray_connection, "CHECKOUT", tmp_path)
    connect("auto")
    assert "working_dir" not in inits[0]["runtime_env"]


def test_a_port_where_nobody_listens_is_refused_at_once(inits: list[dict[str, Any]]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ResourceError, match=f"--address {address}: cannot use a Ray cluster"):
        connect(address)
    assert inits == []


def test_the_environment_is_named_where_the_address_comes_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray_connection.ray, "init", nobody_there)
    monkeypatch.setenv("RAY_ADDRESS", "ray://away")
    with pytest.raises(ResourceError, match=r"^RAY_ADDRESS=ray://away: cannot use a Ray cluster"):
        connect("ray://away")
    with pytest.raises(ResourceError, match=r"^--address auto: cannot use a Ray cluster"):
        connect("auto")


def test_where_nobody_gave_an_address_the_reason_names_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray_connection.ray, "init", nobody_there)
    with pytest.raises(ResourceError, match=r"^no Ray cluster is running here, .*ray start --head"):
        connect(None, with_code=False)
    monkeypatch.setattr(ray_connection.ray, "init", of_another_version)
    with pytest.raises(ResourceError, match=r"^this machine: .*Version mismatch"):
        connect(None, with_code=False)


def nobody_there(**options: Any) -> None:
    raise ConnectionError("Could not find any running Ray instance. Please specify the one")


def of_another_version(**options: Any) -> None:
    raise RuntimeError("Version mismatch")
