"""Whole runs: in one process and on Ray, stopped, resumed, and with actors killed."""

import json
import os
import re
import signal
import time
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from cluster.board import RunStatus
from cluster.control import Control
from cluster.controller import Controller, Outcome
from cluster.local_backend import LocalBackend
from cluster.prepare import prepare
from cluster.progress import PlainReporter
from cluster.recipe.config import RunConfig
from cluster.run_directory import RunDirectory, create_run_directory
from cluster.session import Backend
from common.errors import RunFailedError
from common.policies.policy import load_policy
from tests.cartpole import cartpole_teacher, load_config, write_run
from tests.checkpoints import saved_env_steps
from tests.cluster.polling import poll_until
from tests.commands import started


def run(config: RunConfig, directory: Path, backend: Backend) -> Outcome:
    preparation = prepare(config, num_cpus=2, num_gpus=0)
    reporter = PlainReporter(Console(quiet=True))
    run_directory = create_run_directory(directory, config)
    control = Control(RunStatus(name=config.name, run_dir=str(directory), task=config.env.id))
    return Controller(preparation, run_directory, backend, reporter, control).run()


def assert_complete(directory: Path, outcome: Outcome, config: RunConfig) -> None:
    """Hold a finished run against what its directory promises."""
    assert outcome.finished
    task = outcome.evaluation["tasks"]["CartPole-v1"] if outcome.evaluation else {}
    assert task["teacher"]["mean_return"] == 500.0
    assert task["random"]["mean_return"] < 60.0
    assert task["share_of_teacher"] > 0.9
    assert task["student"]["episodes"] >= 16
    assert task["greedy_agreement"] > 0.8
    files = RunDirectory(directory)
    assert json.loads(files.evaluation.read_text()) == outcome.evaluation
    assert load_policy(files.student).num_parameters == outcome.evaluation["student"]["parameters"]
    assert outcome.evaluation["onnx"]["greedy_agreement"] == 1.0
    assert files.onnx.exists()
    assert files.tensorboard.names()
    last = json.loads(files.metrics.read_text().splitlines()[-1])
    assert last["learner/env_steps"] >= config.total_env_steps
    # The rate limiter's bounds, for all shards together; an insert may overshoot by one chunk.
    replay, chunk = config.replay, config.actors.chunk_size
    limits = replay.limits(insert_size=chunk)
    surplus = last["replay/inserted"] * replay.samples_per_insert - last["replay/sampled"]
    middle = limits.samples_per_insert * limits.min_size_to_sample * replay.num_shards
    reach = (limits.error_buffer + limits.samples_per_insert * chunk) * replay.num_shards
    assert abs(surplus - middle) <= reach


ANNEALED = (
    "objective={jsd = {}, feature = {weight = "
    "{start = 0.1, end = 0.0, until = 0.9, by = 'share_of_teacher'}}}"
)
"""Features of the teacher count less, the better the student plays."""


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("actors.inference.placement=shared",),
        ("actors.inference.placement=at_sampling",),
        ("replay.sampler.name=prioritized",),
        ("replay.sampler.name=fresh_first",),
        ("replay.window=1_000", "replay.max_bytes=100_000"),
        (ANNEALED,),
    ],
    ids=[
        "defaults",
        "shared",
        "at_sampling",
        "prioritized",
        "fresh_first",
        "small_window",
        "terms",
    ],
)
def test_a_run_in_one_process_reaches_its_teacher(
    overrides: tuple[str, ...], tmp_path: Path
) -> None:
    config = load_config(tmp_path, *overrides)
    outcome = run(config, tmp_path / "run", LocalBackend())
    assert_complete(tmp_path / "run", outcome, config)


@pytest.mark.parametrize(
    "overrides", [(), ("replay.window=1_000", "replay.sampler.name=prioritized")]
)
def test_the_same_seed_gives_the_same_student(overrides: tuple[str, ...], tmp_path: Path) -> None:
    config = load_config(tmp_path, "total_env_steps=4_000", *overrides)
    for name in ("a", "b"):
        run(config, tmp_path / name, LocalBackend())
    first, second = (tmp_path / name / "student.safetensors" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_the_report_of_a_run_has_a_film_of_teacher_and_student(tmp_path: Path) -> None:
    config = load_config(tmp_path, "total_env_steps=2_000", "evaluation.video=true")
    run(config, tmp_path / "run", LocalBackend())
    directory = RunDirectory(tmp_path / "run")
    shown = json.loads((directory.games / "game.json").read_text())
    assert shown["return_teacher"] == 500.0
    assert "data:video/mp4;base64," in directory.report.read_text()


def test_a_student_that_falls_short_fails_the_run_and_is_still_delivered(tmp_path: Path) -> None:
    config = load_config(tmp_path, "total_env_steps=600", "evaluation.required_share=1.5")
    told = r"required_share = 150 %; it and its scores are kept: train it longer with stillhouse"
    with pytest.raises(RunFailedError, match=told):
        run(config, tmp_path / "run", LocalBackend())
    assert RunDirectory(tmp_path / "run").student.exists()
    assert RunDirectory(tmp_path / "run").evaluation.exists()


def test_q_values_are_kept_by_a_student_that_learns_them(tmp_path: Path) -> None:
    from common.policies.policy import save_policy

    config = load_config(
        tmp_path,
        "objective.kl.temperature=1.0",
        "objective.q_mse.weight=1.0",
        "total_env_steps=20_000",
    )
    save_policy(cartpole_teacher("q_values"), tmp_path / "teacher.safetensors")
    outcome = run(config, tmp_path / "run", LocalBackend())
    assert outcome.evaluation is not None
    task = outcome.evaluation["tasks"]["CartPole-v1"]
    assert task["share_of_teacher"] > 0.9
    assert task["value_error"] < task["value_scale"]


@pytest.mark.ray
@pytest.mark.parametrize(
    "placement",
    [
        "runner",
        pytest.param("shared", marks=pytest.mark.slow),
        pytest.param("at_sampling", marks=pytest.mark.slow),
    ],
)
def test_a_run_on_ray_reaches_its_teacher(
    placement: str, tmp_path: Path, ray_backend: Backend
) -> None:
    config = load_config(
        tmp_path,
        "actors.num_env_runners=2",
        "replay.num_shards=2",
        "replay.window=2_000",
        f"actors.inference.placement={placement}",
    )
    outcome = run(config, tmp_path / "run", ray_backend)
    assert_complete(tmp_path / "run", outcome, config)


@pytest.mark.ray
def test_ranks_hear_what_the_student_reaches_and_ask_the_teacher_for_features(
    tmp_path: Path, ray_backend: Backend
) -> None:
    two = ("learner.num_ranks=2", "replay.num_shards=2", "actors.num_env_runners=2")
    cpus = ("learner.num_cpus=0.25", "actors.num_cpus_per_runner=0.5")
    config = load_config(tmp_path, "total_env_steps=10_000_000", ANNEALED, *two, *cpus)
    preparation = prepare(config, num_cpus=2, num_gpus=0)
    session = ray_backend.distil(preparation, cartpole_teacher(), tmp_path / "checkpoints")
    try:
        before = poll_until(session, lambda found: "feature" in found.trainer.metrics)
        assert before.trainer.metrics["feature_weight"] == pytest.approx(0.1)
        session.tell_share_of_teacher(0.45)
        poll_until(session, lambda found: found.trainer.metrics["feature_weight"] < 0.1)
        assert session.poll().trainer.metrics["feature_weight"] == pytest.approx(0.05)
    finally:
        session.abort()


@pytest.mark.ray
def test_killed_actors_come_back_and_nothing_is_counted_twice(
    tmp_path: Path, ray_backend: Backend
) -> None:
    from cluster.on_ray.session import RaySession

    config = load_config(
        tmp_path, "total_env_steps=10_000_000", "learner.checkpoint_interval_s=0.5"
    )
    preparation = prepare(config, num_cpus=2, num_gpus=0)
    session = ray_backend.distil(preparation, cartpole_teacher(), tmp_path / "checkpoints")
    assert isinstance(session, RaySession)

    try:
        poll_until(session, lambda found: found.trainer.env_steps > 2_000)
        os.kill(session.runner_pid(0), signal.SIGKILL)
        poll_until(session, lambda found: found.restarts["env_runner"] == 1)
        before = session.poll().trainer.env_steps
        poll_until(session, lambda found: found.trainer.env_steps > before)
        poll_until(session, lambda _: any((tmp_path / "checkpoints").glob("step-*/manifest.json")))
        os.kill(session.learner_pid(), signal.SIGKILL)
        poll_until(session, lambda found: found.restarts["learner"] == 1)
        poll_until(session, lambda found: found.trainer.env_steps > before)
        last = session.poll()
        assert last.trainer.env_steps <= sum(shard.inserted for shard in last.shards)
        assert sum(shard.duplicates for shard in last.shards) == 0
    finally:
        session.abort()


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_shared_teacher_comes_back_and_the_run_goes_on(
    tmp_path: Path, ray_backend: Backend
) -> None:
    """Questions that were under way are answered by its next life; no env runner dies of it."""
    config = load_config(
        tmp_path,
        "total_env_steps=10_000_000",
        "actors.inference.placement=shared",
        "behavior.name=mixed",
    )
    preparation = prepare(config, num_cpus=2, num_gpus=0)
    session = ray_backend.distil(preparation, cartpole_teacher(), tmp_path / "checkpoints")

    try:
        (first,) = poll_until(
            session, lambda snapshot: snapshot.trainer.env_steps > 2_000
        ).inference
        for life in (1, 2):
            (killed,) = session.poll().inference
            os.kill(killed.pid, signal.SIGKILL)
            back = poll_until(
                session, lambda snapshot, life=life: snapshot.restarts["inference"] == life
            )
            poll_until(
                session,
                lambda snapshot, back=back: (
                    snapshot.trainer.env_steps > back.trainer.env_steps + 2_000
                ),
            )
        last = poll_until(session, lambda snapshot: snapshot.inference[0].num_rows > 0)
        assert last.inference[0].life != first.life
        assert [collector.incarnation for collector in last.collectors] == [0]
        assert sum(shard.duplicates for shard in last.shards) == 0
    finally:
        session.abort()


TWO_RANKS = (
    "learner.num_ranks=2",
    "replay.num_shards=2",
    "actors.num_env_runners=2",
    "actors.num_cpus_per_runner=0.5",
)


@pytest.mark.ray
def test_a_run_with_two_ranks_reaches_its_teacher(tmp_path: Path, ray_backend: Backend) -> None:
    config = load_config(tmp_path, *TWO_RANKS)
    outcome = run(config, tmp_path / "run", ray_backend)
    assert_complete(tmp_path / "run", outcome, config)


@pytest.mark.ray
def test_ranks_go_on_from_the_checkpoint_where_one_is_killed(
    tmp_path: Path, ray_backend: Backend
) -> None:
    from cluster.on_ray.session import RaySession

    checkpoints = tmp_path / "checkpoints"
    config = load_config(
        tmp_path, "total_env_steps=10_000_000", "learner.checkpoint_interval_s=0.5", *TWO_RANKS
    )
    preparation = prepare(config, num_cpus=2, num_gpus=0)
    session = ray_backend.distil(preparation, cartpole_teacher(), checkpoints)
    assert isinstance(session, RaySession)

    try:
        poll_until(session, lambda _: any(checkpoints.glob("step-*/manifest.json")))
        saved = max(
            int(manifest.parent.name.split("-")[1])
            for manifest in checkpoints.glob("step-*/manifest.json")
        )
        first, second = (session.learner_pid(rank) for rank in (0, 1))
        os.kill(second, signal.SIGKILL)
        poll_until(session, lambda found: found.restarts["learner"] > 0)
        assert {first, second}.isdisjoint(session.learner_pid(rank) for rank in (0, 1))
        last = poll_until(session, lambda found: found.trainer.learner_steps > saved + 100)
        assert last.restarts["learner"] == sum(last.restarts.values()) == 1
        assert last.trainer.env_steps <= sum(shard.inserted for shard in last.shards)
        assert sum(shard.duplicates for shard in last.shards) == 0
        assert session.finish().spec.name == "balance-student"
    finally:
        session.abort()


def test_one_process_takes_the_steps_of_all_ranks(tmp_path: Path) -> None:
    config = load_config(tmp_path, "total_env_steps=2_000", *TWO_RANKS)
    session = LocalBackend().distil(
        prepare(config, num_cpus=2, num_gpus=0), cartpole_teacher(), tmp_path / "checkpoints"
    )
    while not (last := session.poll()).finished:
        pass
    assert last.trainer.samples == last.trainer.learner_steps * config.learner.batch_size > 0


@pytest.mark.ray
@pytest.mark.slow
def test_ctrl_c_leaves_a_usable_student_and_resume_goes_on(tmp_path: Path) -> None:
    write_run(tmp_path)
    process = started(
        tmp_path,
        *("run", "recipe.toml", "--run-dir", "out", "--set", "total_env_steps=10_000_000"),
    )
    metrics = tmp_path / "out" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and '"learner/loss"' in metrics.read_text()):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 130, output
    assert "stillhouse resume out" in output
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive, "actors or Ray's processes are still running"
    load_policy(tmp_path / "out" / "student.safetensors")
    longer = f"total_env_steps={saved_env_steps(tmp_path / 'out' / 'checkpoints') + 8_000}"
    resumed = started(tmp_path, "resume", "out", "--local", "--set", longer)
    output, _ = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, output
    assert re.search(r"student: out", output)
    evaluation = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert evaluation["tasks"]["CartPole-v1"]["share_of_teacher"] > 0.9
