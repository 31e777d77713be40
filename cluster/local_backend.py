"""Everything in this process, in turn: for tests, debugging and `--local`.

One turn collects a chunk in every env runner and then trains on all that the shards grant, so the
same recipe and seed give the same student.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from actors.collector import Collector
from actors.evaluator import EvaluationResult
from cluster.assembly import (
    build_collector,
    build_readers,
    build_shard,
    build_trainer,
    play_episodes,
)
from cluster.compute import resolve_compute
from cluster.config import RunConfig
from cluster.placement import build_acting_teacher, build_labeller
from cluster.prepare import Preparation, new_student
from cluster.session import EvaluationJob, Session, Snapshot
from common.policies.inference import Observations
from common.policies.policy import Policy, policy_from_bytes, policy_to_bytes
from common.replay.shard import ReplayShard
from common.threads import set_threads
from common.weights import WeightStore
from learners.feed import DirectFeed
from learners.trainer import Trainer

POLL_S = 1.0


class LocalBackend:
    """Runs in this process, on one computing thread."""

    def __init__(self) -> None:
        set_threads(1)

    def evaluate(self, config: RunConfig, job: EvaluationJob) -> EvaluationResult:
        """Play the episodes here."""
        return play_episodes(
            config,
            policy=job.policy,
            reference=job.reference,
            num_episodes=job.num_episodes,
            seed=job.seed,
            num_observations=job.num_observations,
        )

    def resolve_compute(
        self, config: RunConfig, teacher: Policy, student: Policy, observations: Observations
    ) -> tuple[RunConfig, tuple[str, ...]]:
        """Measure here."""
        return resolve_compute(config, teacher, student, observations)

    def distil(self, preparation: Preparation, teacher: Policy, checkpoints: Path) -> Session:
        """Build all parts here."""
        config = preparation.config
        student = new_student(config, preparation.environment, teacher.spec)
        # The learner takes its copy to the GPU where there is one.
        trained = policy_from_bytes(*policy_to_bytes(student))
        shards = [
            build_shard(config, preparation.limits, index)
            for index in range(config.replay.num_shards)
        ]
        store = WeightStore()
        labeller = None if config.actors.labels_chunks else build_labeller(config, teacher)
        trainer = build_trainer(
            config,
            student=trained,
            teacher_dist=teacher.spec.dist,
            feed=DirectFeed(build_readers(config, list(shards), labeller)),
            publish=store.publish,
            checkpoints=checkpoints,
        )
        acting_teacher = build_acting_teacher(config, teacher)
        collectors = [
            build_collector(
                config,
                teacher=acting_teacher,
                student=student,
                runner_id=index,
                incarnation=0,
                pull=store.pull_if_newer,
                insert=shards[index % len(shards)].insert,
            )
            for index in range(config.actors.num_env_runners)
        ]
        return LocalSession(trained, collectors, shards, trainer)

    def close(self) -> None:
        """Do nothing: nothing was started."""


@dataclass(slots=True, eq=False)
class LocalSession:
    """A distillation in this process."""

    student: Policy
    collectors: list[Collector]
    shards: list[ReplayShard]
    trainer: Trainer

    def poll(self) -> Snapshot:
        """Take turns for about a second."""
        until = time.monotonic() + POLL_S
        while time.monotonic() < until and not self.trainer.finished:
            for index, collector in enumerate(self.collectors):
                if self.shards[index % len(self.shards)].can_insert():
                    collector.run_once()
            while not self.trainer.finished and self.trainer.run_once(0.0):
                pass
        return Snapshot(
            trainer=self.trainer.stats(),
            collectors=tuple(collector.stats() for collector in self.collectors),
            shards=tuple(shard.stats() for shard in self.shards),
            restarts=0,
            finished=self.trainer.finished,
        )

    def finish(self) -> Policy:
        """Save a last checkpoint and return the student."""
        self.trainer.close()
        return policy_from_bytes(*policy_to_bytes(self.student))

    def abort(self) -> None:
        """Do nothing: nothing runs between two polls."""
