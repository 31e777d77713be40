"""`stillhouse teach`: what it refuses, and a training that is killed and goes on."""

import json
import os
import signal
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cluster.commands import teach as teach_command
from common.policies.policy import Policy, load_policy
from common.storage import locate
from learners.teach_checkpoint import TeachCheckpoint, newest_training
from tests.cartpole import cartpole_teacher, write_recipe
from tests.cluster.raylets import wait_until
from tests.commands import Stillhouse, assert_refused, started

SETTINGS = """[teach]
algorithm = "{algorithm}"
hidden = [16]
total_env_steps = 10_000_000
evaluation_interval = 512
evaluation_episodes = 2
evaluation_max_steps = 50
checkpoint_interval_s = 1e-6
"""
TABLES = {
    "dqn": "[teach.dqn]\nbatch_size = 8\ntraining_intensity = 0.5\nlearning_starts = 64\n",
    "ppo": "[teach.ppo]\nbatch_size = 256\nminibatch_size = 128\nnum_epochs = 2\n",
}
ITERATION = 256
"""Env steps of one, of either algorithm, and up to a round of sampling more."""
ROUND = 40


def write_teach_recipe(folder: Path, algorithm: str = "dqn") -> Path:
    recipe = write_recipe(folder / "recipe.toml")
    teach = SETTINGS.format(algorithm=algorithm) + TABLES[algorithm]
    given = '[teacher]\npath = "teacher.safetensors"\n'
    recipe.write_text(recipe.read_text().replace(given, teach))
    return recipe


def test_it_names_a_new_folder(tmp_path: Path, stillhouse: Stillhouse) -> None:
    recipe = write_teach_recipe(tmp_path)
    for resume in ((), ("--resume",)):
        taken = stillhouse("teach", recipe, "--out", tmp_path, *resume)
        assert_refused(taken, f"--out {tmp_path}: not an empty folder", "--resume")
    named = stillhouse("teach", recipe, "--out", "teacher.safetensors")
    assert_refused(named, "--out teacher.safetensors: names a file; give a folder")


def test_it_refuses_to_go_on_with_what_is_no_training(
    tmp_path: Path, stillhouse: Stillhouse
) -> None:
    from learners.checkpoint import save_checkpoint

    recipe = write_teach_recipe(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "teach.toml").write_text(recipe.read_text())
    save_checkpoint(tmp_path / "out" / "checkpoints", {"step": 1}, step=1, keep=1)
    refused = stillhouse("teach", recipe, "--out", "out", "--resume")
    assert_refused(refused, "holds checkpoints, but of no teacher's training")


def curve(folder: Path) -> list[dict[str, float]]:
    """Return the whole lines of the curve."""
    file = folder / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def killed_training(folder: Path, recipe: Path) -> TeachCheckpoint:
    """Start a training without end, kill it after some iterations, and return where it stood."""
    training = started(folder, "teach", str(recipe), "--out", "out")
    assert training.stdout is not None

    def is_under_way() -> bool:
        assert training.poll() is None, training.communicate()[0]
        return len(curve(folder / "out")) > 4 and (
            newest_training(locate(folder / "out" / "checkpoints")) is not None
        )

    try:
        wait_until(is_under_way, "the training does not get under way", timeout_s=300)
    finally:
        training.stdout.close()
        os.killpg(training.pid, signal.SIGKILL)
        training.wait(timeout=60)
    found = newest_training(locate(folder / "out" / "checkpoints"))
    assert found is not None
    return found


def updates(checkpoint: TeachCheckpoint) -> int:
    """Return how many steps the optimiser has taken."""
    (optimizer,) = checkpoint.state["algorithm"]["optimizers"].values()
    return int(optimizer["state"][0]["step"])


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["dqn", "ppo"])
def test_a_training_that_was_killed_goes_on(
    algorithm: str, tmp_path: Path, stillhouse: Stillhouse
) -> None:
    recipe = write_teach_recipe(tmp_path, algorithm)
    before = killed_training(tmp_path, recipe)
    out, total = tmp_path / "out", before.env_steps + 3 * ITERATION
    known = [line for line in curve(out) if line["teach/env_steps"] <= before.env_steps]
    changes = ("--set", f"teach.total_env_steps={total}")
    answer = stillhouse("teach", recipe, "--out", "out", "--resume", *changes)
    assert answer.returncode == 0, answer.stderr
    assert f"after {before.env_steps:,} env steps" in answer.stdout

    lines = curve(out)
    assert lines[: len(known)] == known
    steps = [line["teach/env_steps"] for line in lines]
    assert all(
        ITERATION <= later - earlier < ITERATION + ROUND for earlier, later in pairwise([0, *steps])
    )
    assert total <= steps[-1] < total + ITERATION + ROUND
    for figure in ("teach/episodes", "time/elapsed_s"):
        values = [line[figure] for line in lines]
        assert values == sorted(values)
    assert lines[-1]["teach/greedy_return"] > 0

    after: Any = newest_training(locate(out / "checkpoints"))
    assert after.env_steps == steps[-1]
    # The optimiser and RLlib's own counter went on; so did the replay of a DQN.
    assert updates(after) > updates(before) > 0
    counters = after.state["algorithm"]["counters"]
    assert counters["env_runners--num_env_steps_sampled_lifetime"]["lifetime_sum"] == steps[-1]
    if algorithm == "dqn":
        assert transitions(after) == steps[-1]
    assert load_policy(out / "teacher.safetensors").spec.provenance["env_steps"] == steps[-1]
    kept = [path.name for path in (out / "checkpoints").iterdir()]
    assert len(kept) == 2


def transitions(checkpoint: TeachCheckpoint) -> int:
    """Return how many the replay holds."""
    from learners.rllib_replay import NStepEpisodeReplayBuffer

    replay = NStepEpisodeReplayBuffer(10**6, seed=0)
    replay.read(checkpoint.replay.open())
    return len(replay)


def test_ctrl_c_leaves_the_teacher_so_far(
    tmp_path: Path, stillhouse: Stillhouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> tuple[Policy, bool]:
        return measured, True

    policy = cartpole_teacher()
    measured = Policy(
        policy.spec.model_copy(update={"measured": {"mean_return": 9.5, "episodes": 2}}),
        policy.network,
    )
    monkeypatch.setattr(teach_command, "train_teacher_for", interrupted)
    monkeypatch.setattr(teach_command, "opened_backend", lambda *args, **kwargs: nullcontext())
    recipe = write_teach_recipe(tmp_path)
    answer = stillhouse("teach", recipe, "--out", "out")
    assert answer.returncode == 130
    assert f"go on with: stillhouse teach {recipe} --out out --resume" in answer.stdout
    assert load_policy(tmp_path / "out" / "teacher.safetensors").spec == measured.spec
