"""The learner's loop: feed → learner → weights and checkpoints.

Produces versions of the weights and checkpoints; waits for the feed and, where there are several
ranks, for the other ranks; publishing never waits. Rank 0 alone publishes, reads and writes.

A checkpoint is copied at a step's boundary and written by a thread, one at a time; only the last
one is waited for. One that cannot be written is told and tried again at the next interval.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from common.background import BackgroundWriter
from common.errors import RunFailedError
from common.policies.policy import Policy
from common.storage import Named
from common.trajectory import Life
from common.weights import PolicyWeights
from learners.checkpoint import Checkpoint, Part, load_newest_checkpoint, save_checkpoint
from learners.config import LearnerConfig
from learners.counting import LifeCount
from learners.feed import Feed
from learners.learner import Learner
from learners.saved_replay import SavedReplay

logger = logging.getLogger(__name__)

VERSIONS_SKIPPED = 1_000
"""More versions than a checkpoint interval can publish."""

MAX_RESTORES = 3
"""Times the newest checkpoint is restored after repeated NaN before the run gives up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerStats:
    """What the trainer reports."""

    learner_steps: int
    env_steps: int
    samples: int
    window_size: int
    """Transitions in the windows of all ranks."""
    policy_version: int
    skipped_steps: int
    restores: int
    learning_rate: float
    wait_s: float
    """Seconds spent waiting for data, here or on another rank, since the start."""
    step_s: float
    """Seconds spent in gradient steps since the start."""
    metrics: dict[str, float]
    lives: dict[Life, LifeCount] = field(default_factory=dict)
    """What this rank has received of each env runner's life."""
    teacher_version: int = 0
    """Of the teacher that is learnt from; 0 where it never changes."""
    relabelled: int = 0
    """Rows labelled anew since the start, because an older teacher had labelled them."""
    unknown_labels: int = 0
    """Rows drawn since the start with labels of a version that the learner did not have yet;
    labelled anew before anything learnt from them."""
    store_wait_s: float = 0.0
    """Seconds in which a replay shard had no room for its answer, over the shards; on Ray only."""


class Trainer:
    """Drives a learner.

    Args:
        learner: the learner; where `checkpoints` holds one, it goes on from there.
        feed: where this rank's data comes from.
        publish: takes new weights and must not wait; called on rank 0.
        config: intervals and limits.
        checkpoints: folder of checkpoints, a path or a URI.
        replay: what saves the replay with every checkpoint, or None where it is not saved.
    """

    def __init__(
        self,
        learner: Learner,
        feed: Feed,
        *,
        publish: Callable[[PolicyWeights], object],
        config: LearnerConfig,
        checkpoints: Named,
        replay: SavedReplay | None = None,
    ) -> None:
        self._learner = learner
        self._feed = feed
        self._publish = publish
        self._config = config
        self._checkpoints = checkpoints
        self._replay = replay
        self._writer = BackgroundWriter("a checkpoint")
        self.unsaved: str | None = None
        """After `close`: why the last checkpoint could not be written, or None where it was."""
        self._version = 0
        self._restores = 0
        self._wait_s = 0.0
        self._step_s = 0.0
        self._window_size = 0
        self._newer_teacher: Policy | None = None
        self.stopped = False
        """Whether all ranks agreed to stop."""
        checkpoint = self._newest_checkpoint()
        if checkpoint is not None:
            learner.load_state(checkpoint.state)
            # Runners may have seen versions after the checkpoint; start well above them.
            self._version = checkpoint.state["policy_version"] + VERSIONS_SKIPPED
        if checkpoint is not None and replay is not None:
            replay.restore(checkpoint, learner, feed)
        else:
            feed.open()
        self._saved_at = time.monotonic()
        self._publish_weights(self._version)
        self.share_of_teacher = learner.share_of_teacher
        """What the student reaches of its teacher's return. Whoever estimates it writes it here, at
        any time; rank 0's counts."""

    @property
    def finished(self) -> bool:
        """Whether the run's transitions are received and trained on."""
        return self._learner.finished

    def run_once(self, timeout_s: float, *, stop: bool = False) -> bool:
        """Take one item of the feed where this rank lacks data, and step with the other ranks.

        Args:
            timeout_s: to wait for the item at most.
            stop: whether to stop instead; then all ranks do, before they step.

        Returns:
            Whether an item came, to any rank.

        Raises:
            RunFailedError: NaN came back after every restored checkpoint.
        """
        learner = self._learner
        started = time.monotonic()
        # With data in hand a rank waits for those without, and reads no further.
        item = None if stop or learner.can_step else self._feed.get(timeout_s)
        got = time.monotonic()
        if item is not None:
            learner.receive(item)
        received = time.monotonic()
        due = received - self._saved_at >= self._config.checkpoint_interval_s
        due = due and not self._writer.busy
        together = learner.agree(
            received=item is not None,
            stop=stop,
            save=due,
            share_of_teacher=self.share_of_teacher,
        )
        agreed = time.monotonic()
        self._window_size = together.window_size
        self.stopped = together.stop
        if self._newer_teacher is not None:
            learner.take_teacher(self._newer_teacher)
        for _ in range(0 if together.stop else together.steps):
            self._step()
        self._wait_s += got - started + agreed - received
        self._step_s += received - got + time.monotonic() - agreed
        if together.save and (together.received or together.steps):
            self.save()
        return together.received

    def take_teacher(self, newer: Policy) -> None:
        """Learn from a newer version of the teacher from the next steps on; for any thread."""
        self._newer_teacher = newer

    def save(self) -> None:
        """Start writing a checkpoint of this moment; all ranks call it together.

        One that is still under way is waited for first: shards keep one snapshot at a time.
        """
        self.wait_until_saved()
        learner = self._learner
        state = learner.state() | {"policy_version": self._version}
        parts: dict[str, Part] = {}
        if self._replay is not None:
            state["replay"], parts = self._replay.take(learner, self._feed)
        if learner.ranks.rank == 0:
            job = partial(
                save_checkpoint,
                self._checkpoints,
                _copied(state),
                step=learner.learner_steps,
                keep=self._config.checkpoints_kept,
                parts=parts,
            )
            self._writer.start(job)
        self._saved_at = time.monotonic()

    def wait_until_saved(self) -> str | None:
        """Wait for the checkpoint under way; return why it failed, or None where it did not."""
        return self._writer.wait()

    def close(self) -> None:
        """Publish and save what is there, and stop the feed.

        Where the last checkpoint cannot be written, `unsaved` says why.
        """
        self._feed.close()
        self._publish_weights(self._version + 1)
        self.save()
        self.unsaved = self.wait_until_saved()

    def stats(self) -> TrainerStats:
        """Return the counters."""
        learner = self._learner
        return TrainerStats(
            learner_steps=learner.learner_steps,
            env_steps=learner.env_steps,
            samples=learner.samples,
            window_size=self._window_size,
            policy_version=self._version,
            skipped_steps=learner.skipped_steps,
            restores=self._restores,
            learning_rate=learner.learning_rate,
            wait_s=self._wait_s,
            step_s=self._step_s,
            metrics=dict(learner.metrics),
            lives=learner.lives(),
            teacher_version=max(0, learner.teacher_version),
            relabelled=learner.relabelled,
            unknown_labels=learner.unknown_labels,
        )

    def _step(self) -> None:
        learner = self._learner
        learner.step()
        if learner.bad_steps_in_a_row >= self._config.max_bad_steps:
            self._restore()
        if learner.learner_steps % self._config.publish_interval_steps == 0:
            self._publish_weights(self._version + 1)

    def _publish_weights(self, version: int) -> None:
        self._version = version
        if self._learner.ranks.rank == 0:
            self._publish(self._learner.weights(version))

    def _newest_checkpoint(self) -> Checkpoint | None:
        """Let rank 0 read, so that all ranks go on from the same."""
        self.wait_until_saved()
        ranks = self._learner.ranks
        first = ranks.rank == 0
        return ranks.share(load_newest_checkpoint(self._checkpoints) if first else None)

    def _restore(self) -> None:
        checkpoint = self._newest_checkpoint()
        self._restores += 1
        bad = self._learner.bad_steps_in_a_row
        if checkpoint is None or self._restores > MAX_RESTORES:
            raise RunFailedError(
                f"{bad} steps in a row gave NaN or infinite gradients at learner step "
                f"{self._learner.learner_steps}; lower learner.learning_rate"
            )
        logger.warning("%d bad steps in a row: restoring the newest checkpoint", bad)
        self._learner.load_weights(checkpoint.state)


def _copied(value: Any) -> Any:
    """Return a copy that training leaves alone, in this process's memory."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copied(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(part) for part in value)
    return value
