"""What a running distillation shows to the controller, whoever runs it.

Two backends implement `Backend`: `cluster.ray_backend` (actors on a Ray cluster) and
`cluster.local_backend` (everything in this process, in turn).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from actors.collector import CollectorStats
from actors.evaluator import EvaluationResult
from actors.shared_inference import InferenceStats
from cluster.config import RunConfig
from cluster.prepare import Preparation
from common.policies.inference import Observations
from common.policies.policy import Policy
from common.replay.shard import ShardStats
from learners.trainer import TrainerStats


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state of a distillation at one moment."""

    trainer: TrainerStats
    collectors: tuple[CollectorStats, ...]
    shards: tuple[ShardStats, ...]
    restarts: int
    """Actors that were started again."""
    finished: bool
    inference: tuple[InferenceStats, ...] = ()
    """Of the shared inference actors, where the teacher computes there."""


class Session(Protocol):
    """A running distillation."""

    def poll(self) -> Snapshot:
        """Let about a second of work go on, mend what broke, and say where things are.

        Raises:
            RunFailedError: too much broke.
        """

    def finish(self) -> Policy:
        """Stop everything, with a last checkpoint, and return the student."""

    def abort(self) -> None:
        """Stop everything at once and leave nothing running."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EvaluationJob:
    """Episodes to play."""

    policy: Policy | None
    """None: uniformly random actions."""
    reference: Policy | None
    num_episodes: int
    seed: int
    num_observations: int = 0


class Backend(Protocol):
    """Where a run's work is done."""

    def evaluate(self, config: RunConfig, job: EvaluationJob) -> EvaluationResult:
        """Play episodes and return all of their results together."""

    def resolve_compute(
        self, config: RunConfig, teacher: Policy, student: Policy, observations: Observations
    ) -> tuple[RunConfig, tuple[str, ...]]:
        """Measure what the recipe leaves `auto`; return it resolved, and what was found."""

    def distil(self, preparation: Preparation, teacher: Policy, checkpoints: Path) -> Session:
        """Start a distillation, from the newest checkpoint where there is one."""

    def close(self) -> None:
        """Give back what the backend started."""
