"""Everything in this process, in turn: for tests, debugging and `--local`.

One turn collects a chunk in every env runner and then trains on all that the shards grant, so the
same recipe and seed give the same student.
"""

import time
from collections import defaultdict
from collections.abc import Callable

from actors.collector import Collector, CollectorStats
from actors.evaluator import EvaluationResult
from cluster.accounting import account, first_incarnation
from cluster.assembly import (
    build_collector,
    build_readers,
    build_saved_replay,
    build_shard,
    build_trainer,
    play_episodes,
)
from cluster.compute import resolve_compute
from cluster.local_recording import LocalRecording
from cluster.placement import build_acting_teacher, build_labeller, build_relabeller
from cluster.prepare import Preparation
from cluster.recipe.config import RunConfig
from cluster.recording import Recording, RecordingJob
from cluster.scaling import check_num_env_runners
from cluster.session import EvaluationJob, Export, Session, Snapshot
from common.policies.inference import Observations
from common.policies.policy import Policy, policy_from_bytes, policy_to_bytes
from common.replay.shard import ReplayShard
from common.storage import Named
from common.threads import set_threads
from common.trajectory import Life
from common.weights import WeightStore
from learners.feed import DirectFeed
from learners.trainer import Trainer

POLL_S = 1.0
PAUSE_POLL_S = 0.1


class LocalBackend:
    """Runs in this process, on one computing thread."""

    is_local = True

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

    def distil(self, preparation: Preparation, teacher: Policy, checkpoints: Named) -> Session:
        """Build all parts here."""
        config = preparation.config
        student = preparation.new_student(teacher)
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
            teacher_dists=preparation.teacher_dists(teacher),
            feed=DirectFeed(build_readers(config, list(shards), labeller)),
            publish=store.publish,
            checkpoints=checkpoints,
            replay=build_saved_replay(config, list(shards), labeller),
            teacher=teacher,
            relabeller=build_relabeller(config, teacher, labeller),
        )
        tasks = [
            (part.config, build_acting_teacher(part.config, own))
            for part, own in zip(preparation.tasks, preparation.teachers(teacher), strict=True)
        ]

        def start(life: Life) -> Collector:
            own_config, own_teacher = tasks[life.runner % len(tasks)]
            return build_collector(
                own_config,
                teacher=own_teacher,
                student=student,
                runner_id=life.runner,
                incarnation=life.incarnation,
                pull=store.pull_if_newer,
                insert=shards[life.runner % len(shards)].insert,
                start_env_steps=trainer.stats().env_steps,
                pull_teacher=store.teacher_if_newer,
            )

        return LocalSession(config, start, shards, trainer, trained, store)

    def record(self, job: RecordingJob) -> Recording:
        """Build the env runners here."""
        return LocalRecording(job)

    def exporter(self, config: RunConfig) -> Export:
        """Return what does nothing: one process has its run directory, and no Ray."""
        return lambda metrics, snapshot: None

    def close(self) -> None:
        """Do nothing: nothing was started."""


class LocalSession:
    """A distillation in this process.

    Args:
        config: the recipe.
        start: builds the collector of a life.
        shards: the replay shards.
        trainer: the learner and its loop.
        student: what it trains.
        store: where the env runners have newer teachers from.
    """

    def __init__(
        self,
        config: RunConfig,
        start: Callable[[Life], Collector],
        shards: list[ReplayShard],
        trainer: Trainer,
        student: Policy,
        store: WeightStore,
    ) -> None:
        self.student = student
        self._store = store
        self._config = config
        self._start = start
        self._shards = shards
        self._trainer = trainer
        self._collectors: list[Collector] = []
        self._wanted = config.actors.num_env_runners
        self._paused = False
        self._collected: dict[Life, int] = {}
        first = first_incarnation(trainer.stats().lives, [shard.stats() for shard in shards])
        self._incarnations = defaultdict[int, int](lambda: first)

    def scale(self, num_env_runners: int) -> None:
        """Want so many env runners; the next `poll` has them.

        Raises:
            ConfigError: the recipe's other parts do not work with so many.
        """
        check_num_env_runners(self._config, num_env_runners)
        self._wanted = num_env_runners

    def pause(self, paused: bool) -> None:
        """Let collecting rest, or go on; training follows the data."""
        self._paused = paused

    def tell_share_of_teacher(self, share: float) -> None:
        """Tell the learner."""
        self._trainer.share_of_teacher = share

    def take_teacher(self, teacher: Policy) -> None:
        """Tell the learner, and the env runners by the weight store."""
        self._trainer.take_teacher(teacher)
        self._store.publish_teacher(teacher)

    @property
    def unsaved(self) -> str | None:
        """Why the last checkpoint could not be written."""
        return self._trainer.unsaved

    def poll(self) -> Snapshot:
        """Take turns for about a second."""
        farewells = self._adjust()
        until = time.monotonic() + POLL_S
        while time.monotonic() < until and not self._trainer.finished:
            for index, collector in enumerate(self._collectors):
                if not self._paused and self._shards[index % len(self._shards)].can_insert():
                    collector.run_once()
            came = False
            while not self._trainer.finished and self._trainer.run_once(0.0):
                came = True
            if self._paused and not came:
                time.sleep(PAUSE_POLL_S)
        collectors = [*(collector.stats() for collector in self._collectors), *farewells]
        for report in collectors:
            self._collected[Life(report.runner_id, report.incarnation)] = report.env_steps
        trainer = self._trainer.stats()
        shards = [shard.stats() for shard in self._shards]
        totals = account(
            collected=self._collected, running=(), received=trainer.lives, shards=shards
        )
        return Snapshot(
            trainer=trainer,
            collectors=tuple(collectors),
            shards=tuple(shards),
            restarts={},
            finished=self._trainer.finished,
            env_runners_wanted=self._wanted,
            paused=self._paused,
            collected=totals.collected,
            lost=totals.lost,
        )

    def finish(self) -> Policy:
        """Save a last checkpoint and return the student."""
        self._trainer.close()
        self.abort()
        return policy_from_bytes(*policy_to_bytes(self.student))

    def abort(self) -> None:
        """Wait for a checkpoint that is being written, and close the environments.

        Nothing else runs between two polls.
        """
        self._trainer.wait_until_saved()
        while self._collectors:
            self._collectors.pop().close()

    def _adjust(self) -> list[CollectorStats]:
        """Start and end env runners; return the last reports of those that ended."""
        while len(self._collectors) < self._wanted:
            index = len(self._collectors)
            self._collectors.append(self._start(Life(index, self._incarnations[index])))
            self._incarnations[index] += 1
        farewells = []
        while len(self._collectors) > self._wanted:
            collector = self._collectors.pop()
            farewells.append(collector.stats())
            collector.close()
        return farewells
