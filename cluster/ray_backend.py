"""The same parts as Ray actors, supervised: what dies is started again, within bounds."""

import logging
import socket
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError

from actors.collector import CollectorStats
from actors.evaluator import EvaluationResult
from cluster.config import RunConfig
from cluster.prepare import Preparation, check_resources, new_student
from cluster.ray_actors import (
    RAY_ENV_RUNNER,
    RAY_PLAY,
    RAY_REPLAY_SHARD,
    RAY_RESOLVE,
    RAY_WEIGHT_STORE,
    Handle,
    Reference,
)
from cluster.ray_errors import one_line, own_error
from cluster.ray_learner import START_TIMEOUT_S, RayLearner
from cluster.ray_rank import RAY_LEARNER
from cluster.session import EvaluationJob, Session, Snapshot
from cluster.teacher_supervisor import SharedTeachers
from common.errors import ResourceError, RunFailedError, StillhouseError
from common.policies.inference import Observations
from common.policies.policy import Policy, policy_from_bytes, policy_to_bytes
from common.replay.shard import ShardStats
from common.threads import set_threads

logger = logging.getLogger(__name__)

OBJECT_STORE_BYTES = 512 * 2**20
POLL_S = 1.0
CONNECT_TIMEOUT_S = 10.0
STATS_TIMEOUT_S = 10.0


class RayBackend:
    """Runs on a Ray cluster; without an address, on one that it starts on this machine.

    Raises:
        ResourceError: there is no cluster at `address` that this process can use.
        RunFailedError: Ray does not start on this machine.
    """

    def __init__(self, *, address: str | None, num_cpus: int) -> None:
        set_threads(1)
        common: dict[str, Any] = {
            "log_to_driver": False,
            "logging_level": logging.ERROR,
            "namespace": "stillhouse",
            "runtime_env": {"env_vars": {"OMP_NUM_THREADS": "1"}},
        }
        if address is None:
            common |= {
                "num_cpus": num_cpus,
                "object_store_memory": OBJECT_STORE_BYTES,
                "include_dashboard": False,
            }
        try:
            _check_reachable(address or "local")
            ray.init(address=address or "local", **common)
        except (OSError, RuntimeError, ValueError, RayError) as error:
            raise _start_error(address, error) from error

    def evaluate(self, config: RunConfig, job: EvaluationJob) -> EvaluationResult:
        """Share the episodes among tasks."""
        recipe = config.model_dump_json()
        workers = min(config.evaluation.num_workers, job.num_episodes)
        policy = None if job.policy is None else policy_to_bytes(job.policy)
        reference = None if job.reference is None else policy_to_bytes(job.reference)
        base, extra = divmod(job.num_episodes, workers)
        shares = [
            RAY_PLAY.remote(
                recipe,
                policy,
                reference,
                base + (index < extra),
                job.seed + 1_000 * index,
                -(-job.num_observations // workers),
            )
            for index in range(workers)
        ]
        try:
            results: list[EvaluationResult] = ray.get(shares)
        except RayError as error:
            raise own_error("an evaluation failed", error) from error
        return _together(results)

    def resolve_compute(
        self, config: RunConfig, teacher: Policy, student: Policy, observations: Observations
    ) -> tuple[RunConfig, tuple[str, ...]]:
        """Measure in a task that has what the learner will have."""
        task = RAY_RESOLVE.options(num_gpus=config.learner.num_gpus).remote(
            config.model_dump_json(),
            policy_to_bytes(teacher),
            policy_to_bytes(student),
            observations,
        )
        try:
            recipe, found = ray.get(task)
        except RayError as error:
            raise own_error("measuring what is fastest failed", error) from error
        return RunConfig.model_validate_json(recipe), found

    def distil(self, preparation: Preparation, teacher: Policy, checkpoints: Path) -> Session:
        """Start all actors.

        Raises:
            ResourceError: the cluster is too small for the recipe, or too busy.
            RunFailedError: the learner does not start.
        """
        there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        check_resources(
            preparation.config, num_cpus=there.get("CPU", 0.0), num_gpus=there.get("GPU", 0.0)
        )
        return RaySession(preparation, teacher, checkpoints)

    def close(self) -> None:
        """Leave the cluster, and end it where this process started it."""
        ray.shutdown()


@dataclass(slots=True, eq=False)
class _Runner:
    """An env runner's actor, its running loop, and its last report."""

    actor: Handle
    loop: Reference
    incarnation: int
    stats: CollectorStats | None = None


class RaySession:
    """A distillation on Ray. This object is the supervisor; it is never on the data's way."""

    def __init__(self, preparation: Preparation, teacher: Policy, checkpoints: Path) -> None:
        config = preparation.config
        self._config = config
        self._recipe = config.model_dump_json()
        self._checkpoints = checkpoints
        self._teacher_dist = teacher.spec.dist
        self._student_bytes = policy_to_bytes(
            new_student(config, preparation.environment, teacher.spec)
        )
        self._teacher_ref = ray.put(policy_to_bytes(teacher))
        self._shared_teachers = SharedTeachers(config, teacher.spec, self._teacher_ref)
        self._store = RAY_WEIGHT_STORE.remote()
        self._shards = [
            RAY_REPLAY_SHARD.remote(self._recipe, preparation.limits, index)
            for index in range(config.replay.num_shards)
        ]
        self._runner_restarts = 0
        self._learner = RayLearner(self._start_rank, config.learner)
        self._trainer_stats = self._learner.first_stats()
        self._shared_teachers.wait_until_ready(START_TIMEOUT_S)
        self._runners = [
            self._start_runner(index, incarnation=0)
            for index in range(config.actors.num_env_runners)
        ]
        self._shard_stats: list[ShardStats] = []

    def poll(self) -> Snapshot:
        """Wait a second, start again what died, and collect reports."""
        loops = [*self._learner.running, *(runner.loop for runner in self._runners)]
        ended, _ = ray.wait(loops, num_returns=1, timeout=POLL_S)
        finished = self._learner.mend(ended)
        inference = self._shared_teachers.poll()
        for index, runner in enumerate(self._runners):
            if runner.loop in ended:
                self._mend_runner(index)
        self._collect_stats()
        return Snapshot(
            trainer=self._trainer_stats,
            collectors=tuple(runner.stats for runner in self._runners if runner.stats is not None),
            shards=tuple(self._shard_stats),
            restarts=(
                self._learner.restarts + self._runner_restarts + self._shared_teachers.restarts
            ),
            finished=finished,
            inference=inference,
        )

    def finish(self) -> Policy:
        """Stop the loops, fetch the student, end the actors.

        A learner that is dead starts again from its newest checkpoint to hand the student over.
        """
        student = None
        while student is None:
            stopping = self._learner.stop()
            stopping += [runner.actor.stop.remote() for runner in self._runners]
            ray.wait(stopping, num_returns=len(stopping), timeout=STATS_TIMEOUT_S)
            student = self._learner.student()
        self.abort()
        return policy_from_bytes(*student)

    def abort(self) -> None:
        """Kill all actors: those that call first, so that none calls one that is dead."""
        callers = [*(runner.actor for runner in self._runners), *self._learner.actors]
        for actor in callers:
            ray.kill(actor)
        # A call to a dead actor fails at once: this waits until all of them are.
        calls = [actor.pid.remote() for actor in callers]
        ray.wait(calls, num_returns=len(calls), timeout=STATS_TIMEOUT_S)
        self._shared_teachers.kill()
        for actor in [*self._shards, self._store]:
            ray.kill(actor)

    def runner_pid(self, index: int) -> int:
        """Return the process id of an env runner, for whoever must find or kill it."""
        pid: int = ray.get(self._runners[index].actor.pid.remote())
        return pid

    def learner_pid(self, rank: int = 0) -> int:
        """Return the process id of a rank of the learner."""
        pid: int = ray.get(self._learner.actors[rank].pid.remote())
        return pid

    def _start_rank(self, rank: int) -> Handle:
        learner = self._config.learner
        return RAY_LEARNER.options(num_cpus=learner.num_cpus, num_gpus=learner.num_gpus).remote(
            self._recipe,
            self._student_bytes,
            self._teacher_dist,
            teacher=None if self._config.actors.labels_chunks else self._teacher_ref,
            rank=rank,
            store=self._store,
            shards=self._shards[rank :: learner.num_ranks],
            checkpoints=self._checkpoints,
        )

    def _start_runner(self, index: int, *, incarnation: int) -> _Runner:
        actor = RAY_ENV_RUNNER.options(num_cpus=self._config.actors.num_cpus_per_runner).remote(
            self._recipe,
            self._shared_teachers.of_runner(index) or self._teacher_ref,
            self._student_bytes,
            runner_id=index,
            incarnation=incarnation,
            store=self._store,
            shard=self._shards[index % len(self._shards)],
        )
        return _Runner(actor, actor.run.remote(), incarnation)

    def _mend_runner(self, index: int) -> None:
        """Start an env runner again whose loop ended; it never ends by itself."""
        runner = self._runners[index]
        try:
            ray.get(runner.loop)
        except RayError as error:
            self._runner_restarts += 1
            if self._runner_restarts > self._config.actors.max_restarts:
                raise RunFailedError(
                    f"env runners died {self._runner_restarts} times; the last time: "
                    f"{one_line(error)}"
                ) from error
            logger.warning("env runner %d died; starting it again", index)
            ray.kill(runner.actor)
        self._runners[index] = self._start_runner(index, incarnation=runner.incarnation + 1)

    def _collect_stats(self) -> None:
        """Ask every actor for its counters; one that does not answer keeps its last report."""
        pending = {self._learner.stats(): -1}
        pending |= {runner.actor.stats.remote(): i for i, runner in enumerate(self._runners)}
        shards = [shard.stats.remote() for shard in self._shards]
        answered, _ = ray.wait(
            [*pending, *shards], num_returns=len(pending) + len(shards), timeout=STATS_TIMEOUT_S
        )
        for runner in self._runners:
            if runner.stats is not None:  # episodes are reported once
                runner.stats = replace(runner.stats, episodes=())
        values: dict[Reference, Any] = {}
        for reference in answered:
            with suppress(RayError):  # the next poll sees that its loop ended
                values[reference] = ray.get(reference)
        for reference, index in pending.items():
            if reference not in values:
                continue
            if index < 0:
                self._trainer_stats = values[reference]
            else:
                self._runners[index].stats = values[reference]
        if all(reference in values for reference in shards):
            self._shard_stats = [values[reference] for reference in shards]


def _check_reachable(address: str) -> None:
    """Raise OSError where nobody listens at HOST:PORT; Ray itself takes minutes to find out."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "://" not in address:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S):
            pass


def _start_error(address: str | None, error: Exception) -> StillhouseError:
    """Return why there is no cluster to work on."""
    if address is None:
        return RunFailedError(f"Ray does not start on this machine ({one_line(error)})")
    return ResourceError(
        f"--address {address}: cannot use a Ray cluster there ({one_line(error)}); give the "
        f"address of a running one"
    )


def _together(results: list[EvaluationResult]) -> EvaluationResult:
    """Merge the shares of an evaluation; means are weighted by the states compared."""
    states = [result.num_compared for result in results]

    def mean(values: list[float | None]) -> float | None:
        pairs = [(v, n) for v, n in zip(values, states, strict=True) if v is not None and n]
        total = sum(n for _, n in pairs)
        return sum(v * n for v, n in pairs) / total if total else None

    return EvaluationResult(
        returns=tuple(value for result in results for value in result.returns),
        lengths=tuple(value for result in results for value in result.lengths),
        num_compared=sum(states),
        greedy_agreement=mean([result.greedy_agreement for result in results]),
        value_error=mean([result.value_error for result in results]),
        value_scale=mean([result.value_scale for result in results]),
        observations=np.concatenate([result.observations for result in results]),
    )
