"""What becomes of every snapshot: figures are written and exported, and what is amiss is said.

That is a standstill, and env runners that wait for room in the object store.
"""

import logging

from cluster.prepare import Preparation
from cluster.run_log import RunLog
from cluster.session import Export, Snapshot
from cluster.spool import Spool
from cluster.store_watch import StoreWatch
from cluster.telemetry import Metrics, TaskReturns, Telemetry
from cluster.watchdog import Watchdog

logger = logging.getLogger(__name__)


class Monitor:
    """Watches over one distillation.

    Args:
        preparation: the recipe and its rate limits.
        spool: where figures are written.
        log: where it is said.
        export: takes the figures to where they are watched from.
        teacher_return: mean return of the teacher, where it played.
        random_return: mean return of a random policy, where it played.
        tasks: both, of every task where there are several.
    """

    def __init__(
        self,
        preparation: Preparation,
        spool: Spool,
        log: RunLog,
        export: Export,
        *,
        teacher_return: float | None,
        random_return: float | None,
        tasks: tuple[TaskReturns, ...] = (),
    ) -> None:
        config = preparation.config
        self._log = log
        self._export = export
        self._telemetry = Telemetry(
            spool, teacher_return=teacher_return, random_return=random_return, tasks=tasks
        )
        self._watchdog = Watchdog(
            config.watchdog,
            preparation.limits,
            publish_interval_steps=config.learner.publish_interval_steps,
        )
        self._store_watch = StoreWatch()

    @property
    def standstill(self) -> str | None:
        """The stage that stands still and for how long, or None where all move."""
        return self._watchdog.standstill

    def take_teacher(self, mean_return: float) -> None:
        """Compare the student with a newer version of the teacher from now on."""
        self._telemetry.take_teacher(mean_return)

    def take(self, snapshot: Snapshot) -> Metrics:
        """Write down, export and judge a snapshot; return its figures."""
        self._log.policy_version = snapshot.trainer.policy_version
        if (line := self._watchdog.check(snapshot)) is not None:
            if self._watchdog.standstill is None:
                self._log.say(line)
            else:
                logger.warning("%s", line)
        if (news := self._store_watch.news(snapshot)) is not None:
            self._log.say(news)
        metrics = self._telemetry.record(snapshot, standstill_s=self._watchdog.standstill_s)
        self._export(metrics, snapshot)
        return metrics
