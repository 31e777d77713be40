"""The driver is killed: what of its run is left, on a shared cluster and on one of its own."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.cartpole import save_cartpole_teacher, write_recipe
from tests.checkpoints import saved_env_steps
from tests.cluster.raylets import actors_of_run, raylets, wait_until
from tests.commands import started

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ENDLESS = ("--set", "total_env_steps=10_000_000", "--set", "learner.checkpoint_interval_s=0.5")
SHORT = ("--set", "evaluation.num_episodes=2")


@contextmanager
def running(folder: Path, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Start a run without end, yield its driver once there is a checkpoint, and kill it."""
    save_cartpole_teacher(folder / "teacher.safetensors")
    write_recipe(folder / "recipe.toml")
    driver = started(folder, "run", "recipe.toml", "--run-dir", "out", *ENDLESS, *SHORT, *args)
    checkpoints = folder / "out" / "checkpoints"

    def saved() -> bool:
        assert driver.poll() is None, driver.communicate()[0]
        return any(checkpoints.glob("step-*/manifest.json"))  # written last

    try:
        wait_until(saved, "no checkpoint was written", timeout_s=300)
        yield driver
    finally:
        kill(driver)


def kill(driver: subprocess.Popen[str]) -> None:
    assert driver.stdout is not None
    driver.stdout.close()  # what it left behind may hold the other end open
    driver.send_signal(signal.SIGKILL)
    driver.wait(timeout=60)


def env_steps(folder: Path) -> list[int]:
    lines = (folder / "out" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [round(json.loads(line)["learner/env_steps"]) for line in lines]


def test_a_shared_cluster_is_rid_of_a_dead_drivers_actors_and_resume_goes_on(
    tmp_path: Path,
) -> None:
    with raylets(2) as cluster:
        address = ("--address", cluster.address)
        with running(tmp_path, *address) as driver:
            assert {role for role, _ in actors_of_run()} >= {"env runner", "learner", "shard"}
            kill(driver)
            wait_until(lambda: not actors_of_run(), "actors outlive their driver")
        former, saved = len(env_steps(tmp_path)), saved_env_steps(tmp_path / "out" / "checkpoints")
        longer = f"total_env_steps={saved + 4_000}"
        # Its name is its own for a minute more (tests/cluster/on_ray/test_ray_board.py).
        other = ("--set", "name=balance-again")
        resumed = started(tmp_path, "resume", "out", *address, *other, "--set", longer)
        output, _ = resumed.communicate(timeout=300)
        assert resumed.returncode == 0, output
        after = env_steps(tmp_path)[former:]
        assert after[0] >= saved > 0, "it began anew"
        assert after[-1] >= saved + 4_000


def test_a_cluster_that_a_run_started_ends_with_it(tmp_path: Path) -> None:
    with running(tmp_path) as driver:
        children = psutil.Process(driver.pid).children(recursive=True)
        # Ray's agents give their head a minute to come back, and end then.
        waited_for = [child for child in children if not child.name().endswith("Agent")]
        assert "raylet" in {child.name() for child in waited_for}
        kill(driver)
        _, alive = psutil.wait_procs(waited_for, timeout=60)
        assert not alive, "actors or Ray's processes outlive the driver"
