"""What a running distillation shows to the controller, whoever runs it.

Two backends implement `Backend`: `cluster.on_ray.backend` (actors on a Ray cluster) and
`cluster.local_backend` (everything in this process, in turn).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from actors.collector import CollectorStats
from actors.evaluator import EvaluationResult
from actors.shared_inference import InferenceStats
from cluster.prepare import Preparation
from cluster.recipe.config import RunConfig
from cluster.recording import Recording, RecordingJob
from common.policies.inference import Observations
from common.policies.policy import Policy
from common.replay.shard import ShardStats
from common.storage import Named
from learners.trainer import TrainerStats

Role = Literal["env_runner", "learner", "shard", "inference"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state of a distillation at one moment."""

    trainer: TrainerStats
    collectors: tuple[CollectorStats, ...]
    shards: tuple[ShardStats, ...]
    restarts: dict[Role, int]
    """Actors that were started again."""
    finished: bool
    inference: tuple[InferenceStats, ...] = ()
    """Of the shared inference actors, where the teacher computes there."""
    env_runners_wanted: int = 0
    """How many should run; `collectors` are those that do."""
    paused: bool = False
    waiting_for: str | None = None
    """Which resources are missing, in one line."""
    collected: int = 0
    """Transitions collected, as `cluster.accounting` defines it."""
    lost: int = 0
    """Transitions collected that will never reach the learner, as `cluster.accounting` has it."""


Export = Callable[[dict[str, float], Snapshot], None]
"""Takes the figures of a snapshot to where they are watched from; it never waits."""


class Session(Protocol):
    """A running distillation."""

    def poll(self) -> Snapshot:
        """Let about a second of work go on, mend what broke, and say where things are.

        Raises:
            RunFailedError: too much broke.
        """

    def scale(self, num_env_runners: int) -> None:
        """Want so many env runners; `poll` brings it about, and automatic scaling rests.

        Raises:
            ConfigError: the recipe's other parts do not work with so many.
        """

    def pause(self, paused: bool) -> None:
        """Want collecting to rest, or to go on; `poll` brings it about.

        Training goes on with the data that is there, as far as samples per insert allow.
        """

    def tell_share_of_teacher(self, share: float) -> None:
        """Tell the learner what its student reaches of the teacher's return; nobody waits for it.

        A learner that starts again is only told with the next call.
        """

    def take_teacher(self, teacher: Policy) -> None:
        """Go on with a newer version of the teacher: learner first, then all others.

        Whoever labels with it later than the learner has it labels nothing that is unknown there.
        """

    @property
    def unsaved(self) -> str | None:
        """After `finish`: why the last checkpoint could not be written, or None where it was."""

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
    beside_run: bool = False
    """Whether a run goes on meanwhile, which has reserved what there is: nothing is reserved for
    these episodes then, and one process plays them."""


class Backend(Protocol):
    """Where a run's work is done."""

    @property
    def is_local(self) -> bool:
        """Whether all of it is done in this process, without Ray."""

    def evaluate(self, config: RunConfig, job: EvaluationJob) -> EvaluationResult:
        """Play episodes and return all of their results together."""

    def resolve_compute(
        self, config: RunConfig, teacher: Policy, student: Policy, observations: Observations
    ) -> tuple[RunConfig, tuple[str, ...]]:
        """Measure what the recipe leaves `auto`; return it resolved, and what was found."""

    def distil(self, preparation: Preparation, teacher: Policy, checkpoints: Named) -> Session:
        """Start a distillation, from the newest checkpoint where there is one.

        Every machine that works on it must reach `checkpoints` by this name.
        """

    def record(self, job: RecordingJob) -> Recording:
        """Start a recording.

        Raises:
            StorageError: the dataset cannot be written.
        """

    def exporter(self, config: RunConfig) -> Export:
        """Return what exports the figures of a run."""

    def close(self) -> None:
        """Give back what the backend started."""
