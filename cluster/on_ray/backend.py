"""The same parts as Ray actors on a cluster; `cluster.on_ray.session` supervises a distillation."""

import numpy as np
import ray
from ray.exceptions import RayError

from actors.evaluator import EvaluationResult
from cluster.on_ray.actors import RAY_PLAY, RAY_RESOLVE
from cluster.on_ray.connection import connect, start_here
from cluster.on_ray.errors import own_error
from cluster.on_ray.metrics_export import MetricsExport
from cluster.on_ray.recording import RayRecording
from cluster.on_ray.resources import wait_for_room
from cluster.on_ray.session import RaySession
from cluster.prepare import Preparation, check_resources
from cluster.recipe.config import RunConfig
from cluster.recording import Recording, RecordingJob
from cluster.session import EvaluationJob, Export, Session
from common.policies.inference import Observations
from common.policies.policy import Policy, policy_to_bytes
from common.storage import Named
from common.threads import set_threads


class RayBackend:
    """Runs on a Ray cluster: the one that this process belongs to as an actor, the one at
    `address`, or without one, a cluster that it starts on this machine.

    Raises:
        ResourceError: there is no cluster at `address` that this process can use.
        RunFailedError: Ray does not start on this machine.
    """

    is_local = False

    def __init__(self, *, address: str | None, num_cpus: int) -> None:
        set_threads(1)
        self._is_guest = ray.is_initialized()
        if self._is_guest:
            return
        if address is None:
            start_here(num_cpus)
        else:
            connect(address)

    def evaluate(self, config: RunConfig, job: EvaluationJob) -> EvaluationResult:
        """Share the episodes among tasks."""
        recipe = config.model_dump_json()
        workers, play = min(config.evaluation.num_workers, job.num_episodes), RAY_PLAY
        wait_s = config.supervision.wait_for_resources_s
        if job.beside_run:
            workers, play = 1, RAY_PLAY.options(num_cpus=0)
        else:
            wait_for_room("an evaluation", 1.0, 0.0, timeout_s=wait_s)
        policy = None if job.policy is None else policy_to_bytes(job.policy)
        reference = None if job.reference is None else policy_to_bytes(job.reference)
        base, extra = divmod(job.num_episodes, workers)
        shares = [
            play.remote(
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
        wait_s, num_gpus = config.supervision.wait_for_resources_s, config.learner.num_gpus
        wait_for_room("measuring what is fastest", 1.0, num_gpus, timeout_s=wait_s)
        task = RAY_RESOLVE.options(num_gpus=num_gpus).remote(
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

    def distil(self, preparation: Preparation, teacher: Policy, checkpoints: Named) -> Session:
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

    def record(self, job: RecordingJob) -> Recording:
        """Start the env runners and a recorder."""
        return RayRecording(job)

    def exporter(self, config: RunConfig) -> Export:
        """Return what records the figures as Ray metrics."""
        return MetricsExport(config).export

    def close(self) -> None:
        """Leave the cluster, and end it where this process started it."""
        if not self._is_guest:
            ray.shutdown()


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
        action_error=mean([result.action_error for result in results]),
        value_error=mean([result.value_error for result in results]),
        value_scale=mean([result.value_scale for result in results]),
        observations=np.concatenate([result.observations for result in results]),
    )
