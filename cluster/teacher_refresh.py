"""An online teacher: newer versions are looked for, judged by play, and taken where better.

| part         | produces            | waits for                          | unblocked by           |
|--------------|---------------------|------------------------------------|------------------------|
| judge        | a verdict on one    | files; the version's episodes      | the end of its thread  |
| (one thread) | version             |                                    |                        |
| `poll`       | a version to take   | nothing                            |                        |

The controller polls. What it takes is in the run directory before anybody learns from it, so that a
run that is resumed, at whatever moment it ended, goes on with the teacher that it had.
"""

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from cluster.recipe.config import RunConfig
from cluster.session import Backend, EvaluationJob
from cluster.teacher_versions import Incoming, IncomingVersions, save_taken
from common.errors import StillhouseError, StorageError
from common.policies.policy import Policy
from common.storage import Location

logger = logging.getLogger(__name__)

SEED = 500_000
"""Beside the recipe's, so that versions are judged in other episodes than the baseline's."""


class Verdict(NamedTuple):
    """What became of a version's episodes."""

    found: Incoming
    mean_return: float


class TeacherRefresh:
    """Keeps a run's teacher the best of its versions.

    Args:
        config: the recipe, with `[teacher.refresh]`.
        teacher: the run's teacher.
        mean_return: what it plays.
        backend: where versions play.
        folder: where those that are taken are kept.
        say: tells one line.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        config: RunConfig,
        teacher: Policy,
        mean_return: float,
        *,
        backend: Backend,
        folder: Location,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        assert config.teacher is not None
        assert config.refresh is not None
        self._config, self._refresh = config, config.refresh
        self._backend = backend
        self._folder = folder
        self._say = say
        self._clock = clock
        self._incoming = IncomingVersions(config.teacher, teacher.spec)
        self._judged = 0
        self._thread: threading.Thread | None = None
        self._outcome: Verdict | Exception | None = None
        self._due = -math.inf
        self._problem: str | None = None
        self.teacher = teacher
        """The present version."""
        self.mean_return = mean_return
        """Of the present version."""

    def poll(self) -> Policy | None:
        """Go on looking and judging without waiting; return a version that takes over.

        Raises:
            Exception: a bug in the thread that judges.
        """
        if self._thread is None:
            if self._clock() >= self._due:
                self._thread = threading.Thread(target=self._run, name="judge", daemon=True)
                self._thread.start()
            return None
        if self._thread.is_alive():
            return None
        self._thread, outcome = None, self._outcome
        self._due = self._clock() + (0.0 if isinstance(outcome, Verdict) else self._interval_s)
        return self._settle(outcome)

    def judge(self) -> Verdict | None:
        """Let the newest version play that was not judged; None where there is none.

        Raises:
            StillhouseError: the folder cannot be read, or the episodes could not be played.
        """
        found = self._incoming.newest()
        if found is None:
            return None
        self._judged += 1
        job = EvaluationJob(
            policy=found.policy,
            reference=None,
            num_episodes=self._refresh.num_episodes,
            seed=self._config.seed + SEED + self._judged,
            beside_run=True,
        )
        returns = self._backend.evaluate(self._config, job).returns
        return Verdict(found, sum(returns) / len(returns))

    @property
    def description(self) -> str:
        """Which version is learnt from, in one line."""
        spec = self.teacher.spec
        file = spec.provenance.get("version_file")
        named = "" if file is None else f" ({file})"
        return f"teacher: version {spec.teacher_version}{named}, mean return {self.mean_return:.2f}"

    @property
    def _interval_s(self) -> float:
        return self._refresh.interval_s

    def _run(self) -> None:
        try:
            self._outcome = self.judge()
        except Exception as error:  # judged in `poll`, in the controller's thread
            self._outcome = error

    def _settle(self, outcome: Verdict | Exception | None) -> Policy | None:
        """Take a version, or refuse it."""
        if isinstance(outcome, StillhouseError):
            if str(outcome) != self._problem:
                logger.warning("no version of the teacher can be judged: %s", outcome)
            self._problem = str(outcome)
            return None
        if isinstance(outcome, Exception):
            raise outcome
        self._problem = None
        if outcome is None:
            return None
        (name, policy), mean_return = outcome
        played = f"{name} plays {mean_return:.2f} over {self._refresh.num_episodes} episodes"
        if not mean_return > self.mean_return:
            self._incoming.refuse(name)
            self._say(f"{played}, no better than the present teacher's {self.mean_return:.2f}")
            return None
        version = self.teacher.spec.teacher_version + 1
        measured = {"mean_return": mean_return, "episodes": self._refresh.num_episodes}
        changes = {"teacher_version": version, "measured": measured}
        teacher = Policy(policy.spec.model_copy(update=changes), policy.network)
        try:
            save_taken(self._folder, teacher)
        except StorageError as error:
            logger.warning("version %d of the teacher is not taken: %s", version, error)
            self._due = self._clock() + self._interval_s
            return None
        self._incoming.take(name)
        self._say(f"{played}, better than {self.mean_return:.2f}: version {version} of the teacher")
        self.teacher, self.mean_return = teacher, mean_return
        return teacher
