"""What a recording is to the loop in `cluster.record`, whoever runs it.

Two rooms implement `Recording`: `cluster.on_ray.recording` and `cluster.local_recording`.
"""

from dataclasses import dataclass
from typing import Protocol

from actors.collector import CollectorStats
from cluster.offline import spaces_of
from cluster.prepare import Preparation
from common.dataset import DatasetWriter, Manifest, Recorded
from common.policies.policy import Policy
from common.storage import Location


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RecordingJob:
    """What to record."""

    preparation: Preparation
    """Of a recipe from `recording_config`."""
    teacher: Policy
    out: Location
    num_transitions: int

    def manifest(self) -> Manifest:
        """Return what the dataset will say of itself, without its parts."""
        config = self.preparation.config
        return Manifest(
            task=config.task_name,
            environment=config.env.model_dump(mode="json", exclude={"trust"}),
            spaces=spaces_of(self.preparation.environment),
            behavior=config.behavior.model_dump(mode="json"),
            seed=config.seed,
            teacher=self.teacher.spec.model_dump(mode="json"),
            teacher_sha256="",
            unroll_length=config.actors.unroll_length,
            num_envs=config.actors.num_envs_per_runner,
        )

    def writer(self) -> DatasetWriter:
        """Start the dataset.

        Raises:
            StorageError: it cannot be written.
        """
        return DatasetWriter(
            self.out, self.manifest(), self.teacher, num_transitions=self.num_transitions
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingSnapshot:
    """The state of a recording at one moment."""

    recorded: Recorded
    collectors: tuple[CollectorStats, ...]
    restarts: int = 0
    """Of env runners."""
    waiting_for: str | None = None
    """Which resources are missing, in one line."""


class Recording(Protocol):
    """A recording that goes on; each backend has one."""

    def poll(self) -> RecordingSnapshot:
        """Let about a second of work go on, mend what broke, and say where things are.

        Raises:
            RunFailedError: too much broke.
            StorageError: the dataset cannot be written.
        """

    def finish(self) -> Manifest:
        """Stop everything and complete the dataset with what is there."""

    def abort(self) -> None:
        """Stop everything at once; the parts that were written stay."""
