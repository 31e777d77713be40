"""A run on a cluster of three nodes: scaled, paused, killed, frozen, and short of room.

The nodes are raylets on this machine. One run serves most tests, one after another; each leaves it
at work. Only what must come about is waited for, never a time.
"""

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from cluster.prepare import prepare
from cluster.session import Role, Snapshot
from common.errors import ResourceError, RunFailedError
from tests.cartpole import cartpole_teacher, load_config
from tests.cluster.polling import poll_until

pytestmark = [pytest.mark.ray, pytest.mark.slow]

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
PARTS = (
    "total_env_steps=100_000_000",
    "learner.checkpoint_interval_s=0.5",
    "learner.num_cpus=0.3",
    "learner.max_restarts=100",
    "actors.num_cpus_per_runner=0.3",
    "actors.max_restarts=100",
    "supervision.max_shard_restarts=100",
    "supervision.silence_s=6",
)


@dataclass
class Nodes:
    """The cluster, this process's way into it, and the run on it."""

    cluster: Any
    backend: Any
    session: Any

    def at_work(self, num_env_runners: int) -> Snapshot:
        """Wait until so many env runners go on giving data, and the learner taking it."""
        before = self.session.poll()
        chunks = {(found.runner_id, found.incarnation): found.chunks for found in before.collectors}
        self.session.scale(num_env_runners)
        self.session.pause(False)
        return poll_until(
            self.session,
            lambda found: (
                len(found.collectors) == num_env_runners
                and all(
                    runner.chunks > 2 + chunks.get((runner.runner_id, runner.incarnation), 0)
                    for runner in found.collectors
                )
                and found.trainer.learner_steps > before.trainer.learner_steps
            ),
        )

    def at_rest(self) -> Snapshot:
        """Pause, and wait until every transition is where it stays."""
        self.session.pause(True)
        former = -1

        def rests(found: Snapshot) -> bool:
            nonlocal former
            still, former = found.collected == former, found.collected
            unseen = sum(sum(shard.unseen.values()) for shard in found.shards)
            return still and found.collected == found.trainer.env_steps + unseen + found.lost

        return poll_until(self.session, rests)

    def goes_on_after(self, *roles: Role, than: Snapshot) -> Snapshot:
        """Wait until the roles were started again and data flows on beyond what there was."""
        again = poll_until(
            self.session,
            lambda found: all(found.restarts[role] > than.restarts[role] for role in roles),
        )
        top = max(than.trainer.env_steps, again.trainer.env_steps)
        return poll_until(self.session, lambda found: found.trainer.env_steps > top)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """Start a head without CPUs and two nodes with one each, and a run on them."""
    from ray.cluster_utils import Cluster

    from cluster.on_ray.backend import RayBackend

    folder = tmp_path_factory.mktemp("faults")
    head = NODE | {
        "num_cpus": 0,
        "include_dashboard": False,
        "_system_config": {"health_check_period_ms": 1_000, "health_check_timeout_ms": 5_000},
    }
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(2):
            cluster.add_node(**NODE)
        backend = RayBackend(address=cluster.address, num_cpus=2)
        try:
            preparation = prepare(load_config(folder, *PARTS), num_cpus=2, num_gpus=0)
            session = backend.distil(preparation, cartpole_teacher(), folder / "checkpoints")
            try:
                yield Nodes(cluster, backend, session)
            finally:
                session.abort()
        finally:
            backend.close()
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]


def test_env_runners_come_and_go_and_nothing_is_lost(nodes: Nodes) -> None:
    nodes.at_work(1)
    learner = nodes.session.learner_pid()
    four = nodes.at_work(4)
    assert sorted(collector.runner_id for collector in four.collectors) == [0, 1, 2, 3]
    nodes.at_work(1)
    again = nodes.at_work(2)
    assert [(found.runner_id, found.incarnation) for found in again.collectors] == [(0, 0), (1, 1)]
    rested = nodes.at_rest()
    assert rested.paused
    assert (rested.lost, sum(rested.restarts.values())) == (0, 0)
    assert sum(shard.duplicates for shard in rested.shards) == 0
    still = nodes.session.poll()
    assert still.collected == rested.collected
    nodes.at_work(2)
    assert nodes.session.learner_pid() == learner


def test_env_runners_that_find_no_cpus_are_told_of_and_start_when_there_are_some(
    nodes: Nodes,
) -> None:
    """Three parts of 0.3 CPUs find room on each node: the learner and five env runners."""
    nodes.session.scale(7)
    short = poll_until(
        nodes.session,
        lambda found: (found.waiting_for or "").startswith(
            "2 env runners wait for 0.3 CPUs each: "
        ),
    )
    assert short.env_runners_wanted == 7
    assert short.waiting_for is not None
    assert " of 2 CPUs are free, at most " in short.waiting_for
    assert nodes.at_work(2).waiting_for is None


def test_killed_parts_come_back_and_every_transition_is_accounted_for(nodes: Nodes) -> None:
    session = nodes.session
    before = nodes.at_work(2)
    os.kill(session.runner_pid(0), signal.SIGKILL)
    nodes.goes_on_after("env_runner", than=before)
    before = nodes.at_work(2)
    os.kill(session.shard_pid(0), signal.SIGKILL)
    nodes.goes_on_after("shard", than=before)
    before = nodes.at_work(2)
    os.kill(session.learner_pid(), signal.SIGKILL)
    nodes.goes_on_after("learner", than=before)
    nodes.at_work(2)
    nodes.at_rest()


def test_frozen_parts_are_noticed_and_replaced(nodes: Nodes) -> None:
    session = nodes.session
    before = nodes.at_work(2)
    for pid in (session.runner_pid(0), session.shard_pid(0), session.learner_pid()):
        os.kill(pid, signal.SIGSTOP)
    nodes.goes_on_after("env_runner", "shard", "learner", than=before)
    nodes.at_work(2)
    nodes.at_rest()


def test_a_lost_node_is_made_up_for_by_the_others(nodes: Nodes) -> None:
    before = nodes.at_work(2)
    lost = nodes.session.learner_node()
    (node,) = (node for node in nodes.cluster.worker_nodes if node.node_id == lost)
    node.kill_raylet()
    nodes.goes_on_after("learner", than=before)
    nodes.at_work(2)
    nodes.at_rest()
    nodes.cluster.remove_node(node, allow_graceful=False)


def test_a_run_without_room_says_so_and_holds_nothing(nodes: Nodes, tmp_path: Path) -> None:
    nodes.at_work(1)
    parts = (*PARTS, "learner.num_cpus=0.7", "supervision.wait_for_resources_s=3")
    preparation = prepare(load_config(tmp_path, *parts), num_cpus=2, num_gpus=0)
    with pytest.raises(ResourceError, match=r"the run waits for 1 CPUs .* of 1 CPUs are free"):
        nodes.backend.distil(preparation, cartpole_teacher(), tmp_path / "checkpoints")
    nodes.at_work(2)


def test_of_two_runs_with_room_for_one_the_second_waits_for_the_first(
    nodes: Nodes, tmp_path: Path
) -> None:
    from cluster.on_ray.placement import Reservation

    nodes.at_work(1)
    config = load_config(tmp_path, *PARTS, "learner.num_cpus=0.1")  # of the 0.4 that are left
    first = Reservation(config)
    first.wait()
    second = Reservation(config)
    waiting = threading.Thread(target=second.wait)
    waiting.start()
    waiting.join(timeout=1.0)
    assert waiting.is_alive()
    first.release()
    waiting.join(timeout=60.0)
    assert not waiting.is_alive()
    second.release()


def test_env_runners_that_cannot_be_built_end_the_run_with_the_reason(
    nodes: Nodes, tmp_path: Path
) -> None:
    """Only this process knows the environment."""
    gymnasium.register("OnlyHere-v0", entry_point="gymnasium.envs.classic_control:CartPoleEnv")
    config = load_config(tmp_path, *PARTS, "learner.num_cpus=0.1", "env.id=OnlyHere-v0")
    preparation = prepare(config, num_cpus=2, num_gpus=0)
    session = nodes.backend.distil(preparation, cartpole_teacher(), tmp_path / "checkpoints")
    try:
        with pytest.raises(RunFailedError, match=r"^env runners cannot start: .*OnlyHere"):
            poll_until(session, lambda found: False)
    finally:
        session.abort()
