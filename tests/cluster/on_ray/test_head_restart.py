"""The head's GCS is killed and started again, with Redis behind it, while a run goes on."""

import os
import signal
from pathlib import Path

import pytest

from cluster.on_ray.head import AWAY
from cluster.prepare import prepare
from cluster.session import EvaluationJob, Session, Snapshot
from tests.cartpole import cartpole_teacher, load_config
from tests.cluster.raylets import actors_of_run, kill_gcs, raylets, redis_server, start_gcs

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PATIENT = {"gcs_rpc_server_reconnect_timeout_s": 600}
"""Ray ends all that cannot reach the head for 60 s, which a busy machine can need to start it."""


class Watched:
    """A session whose counters are held against those of the poll before."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.last = session.poll()

    def poll(self) -> Snapshot:
        former, self.last = self.last, self.session.poll()
        assert counters(self.last) >= counters(former)
        return self.last

    def poll_until_trained_on(self, more_env_steps: int) -> None:
        wanted = self.last.trainer.env_steps + more_env_steps
        for _ in range(200):
            if self.poll().trainer.env_steps >= wanted:
                return
        raise AssertionError("the run stands still")


class Counters(tuple[int, ...]):
    """Counters that are at least others where each of them is."""

    def __ge__(self, other: tuple[int, ...]) -> bool:
        return all(a >= b for a, b in zip(self, other, strict=True))


def counters(snapshot: Snapshot) -> Counters:
    trainer = snapshot.trainer
    inserted = sum(shard.inserted for shard in snapshot.shards)
    return Counters((trainer.env_steps, trainer.learner_steps, trainer.policy_version, inserted))


def test_a_run_goes_on_while_the_gcs_is_away_and_mends_itself_when_it_is_back(
    tmp_path: Path,
) -> None:
    from cluster.on_ray.backend import RayBackend
    from cluster.on_ray.session import RaySession

    config = load_config(
        tmp_path,
        "total_env_steps=10_000_000",
        "actors.num_env_runners=2",
        "replay.num_shards=2",
        "learner.checkpoint_interval_s=1",
    )
    preparation = prepare(config, num_cpus=3, num_gpus=0)
    head = {"_system_config": PATIENT}
    with redis_server(tmp_path) as redis, raylets(3, external_addresses=[redis], **head) as cluster:
        backend = RayBackend(address=cluster.address, num_cpus=1)
        try:
            session = backend.distil(preparation, cartpole_teacher(), tmp_path / "checkpoints")
            assert isinstance(session, RaySession)
            run = Watched(session)
            run.poll_until_trained_on(2_000)
            actors = actors_of_run()
            assert len(actors) == 6
            kill_gcs(cluster)
            run.poll_until_trained_on(2_000)
            start_gcs(cluster)
            run.poll_until_trained_on(2_000)
            assert actors_of_run() == actors

            # Nothing can be started while the GCS is away; what dies then comes back after it.
            kill_gcs(cluster)
            os.kill(session.runner_pid(0), signal.SIGKILL)
            while run.poll().waiting_for != AWAY:
                pass
            start_gcs(cluster)
            while [collector.incarnation for collector in run.poll().collectors] != [1, 0]:
                pass
            run.poll_until_trained_on(2_000)
            assert len(actors_of_run() & actors) == 5
            student = session.finish()
            job = EvaluationJob(policy=student, reference=None, num_episodes=2, seed=0)
            assert len(backend.evaluate(config, job).returns) == 2
        finally:
            backend.close()
