"""Runs without a terminal on a cluster of three raylets, steered by commands alone."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray.cluster_utils import Cluster

from cluster.run_directory import RunDirectory
from common.policies.policy import load_policy
from tests.checkpoints import saved_env_steps
from tests.commands import called

Command = Callable[..., str]
STORE_BYTES = 100 * 2**20


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Start three raylets with two CPUs each on this machine."""
    node = {"num_cpus": 2, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=2, object_store_memory=STORE_BYTES)
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        cluster.shutdown()


@pytest.fixture
def stillhouse(
    address: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    """Run a command line on the cluster, and return what it printed."""
    monkeypatch.setenv("RAY_ADDRESS", address)

    def call(*args: str, code: int = 0) -> str:
        found = called(monkeypatch, *args)
        printed = capsys.readouterr()
        assert found == code, printed.out + printed.err
        return printed.out + printed.err

    return call


def status(stillhouse: Command, name: str) -> dict[str, Any]:
    (tree,) = json.loads(stillhouse("status", name, "--json"))
    assert isinstance(tree, dict)
    return tree


def wait_for(
    stillhouse: Command, name: str, condition: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """Ask for the status until it is as wanted, for two minutes at most."""
    deadline = time.monotonic() + 120
    while not condition(found := status(stillhouse, name)):
        assert found["phase"] != "failed", found
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    return found


def controller_process() -> psutil.Process:
    """Find the process that hosts the only detached run of this machine's test."""
    (found,) = (
        process
        for process in psutil.process_iter(["cmdline"])
        if (process.info["cmdline"] or [""])[0].startswith("ray::DetachedRun")
    )
    return found


@pytest.mark.ray
@pytest.mark.slow
def test_a_detached_run_is_steered_survives_its_controller_and_finishes(
    stillhouse: Command, address: str, tmp_path: Path
) -> None:
    endless = (
        *("--set", "total_env_steps=100_000_000", "--set", "learner.checkpoint_interval_s=0.5"),
        *("--set", "replay.samples_per_insert=1.0"),
    )
    assert "walk is running" in stillhouse(
        *("run", "recipe.toml", "--name", "walk", "--run-dir", "out", "--detach", *endless)
    )
    started = wait_for(stillhouse, "walk", lambda s: s["env_steps"] > 2_000)
    assert (started["phase"], started["alive"], started["env_runners"]) == ("distilling", True, 1)
    told = stillhouse("status")
    assert "walk" in told
    assert address in told
    refused = stillhouse("run", "recipe.toml", "--name", "walk", "--detach", code=2)
    assert "a run named walk is going on" in refused

    assert "walk: 4 env runners" in stillhouse("scale", "walk", "--env-runners", "4")
    scaled = wait_for(stillhouse, "walk", lambda s: s["env_runners"] == 4)
    assert not any(scaled["restarts"].values())
    assert "walk: 1 env runners" in stillhouse("scale", "walk", "--env-runners", "1")
    assert "--env-runners" in stillhouse("scale", "walk", "--env-runners", "0", code=2)

    assert "walk: paused" in stillhouse("pause", "walk")
    # What was under way when the env runners stopped arrives; then nothing more does.
    held = status(stillhouse, "walk")["env_steps"]
    while (now := status(stillhouse, "walk")["env_steps"]) != held:
        held = now
    assert "walk: going on" in stillhouse("pause", "walk", "--off")
    before = wait_for(stillhouse, "walk", lambda s: s["env_steps"] > held)

    os.kill(controller_process().pid, signal.SIGKILL)
    again = wait_for(
        stillhouse, "walk", lambda s: s["restarts"].get("controller") == 1 and s["env_steps"] > 0
    )
    assert again["wanted"]["num_env_runners"] == 1
    wait_for(stillhouse, "walk", lambda s: s["env_steps"] > before["env_steps"])

    assert "walk: stopped" in stillhouse("stop", "walk")
    directory = RunDirectory(tmp_path / "out")
    load_policy(directory.student)
    assert "the run is stopped" in stillhouse("pause", "walk", code=2)

    (tmp_path / "teacher.safetensors").unlink()  # the run directory has its own
    enough = f"total_env_steps={saved_env_steps(directory.checkpoints) + 8_000}"
    stillhouse("resume", "out", "--detach", "--set", enough)
    assert "walk: finished" in stillhouse("watch", "walk")
    assert status(stillhouse, "walk")["phase"] == "finished"
    evaluation = json.loads(directory.evaluation.read_text())
    assert evaluation["tasks"]["CartPole-v1"]["share_of_teacher"] > 0.9


@pytest.mark.ray
@pytest.mark.slow
def test_a_detached_run_that_fails_says_why(stillhouse: Command) -> None:
    stillhouse(
        *("run", "recipe.toml", "--name", "poor", "--run-dir", "out", "--detach"),
        *("--set", "total_env_steps=600", "--set", "evaluation.required_share=1.5"),
    )
    assert "poor: failed" in stillhouse("watch", "poor", code=1)
    (tree,) = json.loads(stillhouse("status", "poor", "--json"))
    assert "required_share = 150 %" in tree["detail"]
    assert not tree["alive"]


@pytest.mark.ray
def test_commands_without_a_run_say_so(stillhouse: Command) -> None:
    assert "nobody: no such run on this cluster" in stillhouse("stop", "nobody", code=2)
    assert "nobody: no such run" in stillhouse("watch", "nobody", code=2)


@pytest.mark.ray
def test_a_detached_run_needs_a_cluster(
    stillhouse: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS")
    assert "--detach needs --address" in stillhouse("run", "recipe.toml", "--detach", code=2)
    assert "--resume needs --run-dir" in stillhouse("run", "recipe.toml", "--resume", code=2)
