"""What the packages log inside Ray actors, brought to the run's log.

    an actor's logger → handler → (a call that nobody waits for) → keeper actor
      → the supervisor asks once a poll → the same logger, in the controller's process

Ray itself would print an actor's lines on the driver's screen only, not in the controller of a
detached run, and as plain text. Handing records over with the counters would lose the last words
of an actor that dies. Every queue here is bounded, and what did not fit is counted and said.
"""

import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import ray

PACKAGES = ("cluster", "actors", "learners", "common")
"""Whose loggers are listened to."""

MAX_PER_MINUTE = 60
"""Records that an actor hands over; what it logs beyond is only counted."""

MAX_KEPT = 1_000
"""Records that wait for the supervisor."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorRecord:
    """What is kept of a log record."""

    created: float
    """Seconds since the epoch, on the actor's clock."""
    level: int
    logger: str
    message: str
    traceback: str | None
    actor: str


class LogKeeperActor:
    """Keeps records until the supervisor takes them; the oldest give way."""

    def __init__(self) -> None:
        self._records: deque[ActorRecord] = deque(maxlen=MAX_KEPT)
        self._num_lost = 0

    def push(self, record: ActorRecord) -> None:
        """Keep a record."""
        self._num_lost += len(self._records) == MAX_KEPT
        self._records.append(record)

    def take(self) -> tuple[list[ActorRecord], int]:
        """Return all records, and how many were lost; keep none."""
        taken = list(self._records), self._num_lost
        self._records.clear()
        self._num_lost = 0
        return taken


class HandOver(logging.Handler):
    """Hands an actor's records to the keeper.

    Args:
        keeper: its handle.
        actor: whose records these are, for example "learner 0".
    """

    def __init__(self, keeper: Any, actor: str) -> None:
        super().__init__(logging.INFO)
        self._keeper = keeper
        self._actor = actor
        self._minute = 0
        self._num_handed = 0
        self._num_left_out = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record without waiting, unless there were too many in this minute."""
        if (minute := int(time.monotonic() // 60)) != self._minute:
            self._minute, self._num_handed = minute, 0
        self._num_handed += 1
        if self._num_handed > MAX_PER_MINUTE:
            self._num_left_out += 1
            return
        message = record.getMessage()
        if self._num_left_out:
            message += f" ({self._num_left_out} records before this one were left out)"
            self._num_left_out = 0
        traceback = (
            logging.Formatter().formatException(record.exc_info) if record.exc_info else None
        )
        self._keeper.push.remote(
            ActorRecord(
                created=record.created,
                level=record.levelno,
                logger=record.name,
                message=message,
                traceback=traceback,
                actor=self._actor,
            )
        )


def hand_over_logs(keeper: str, actor: str) -> None:
    """Bring what the packages log in this process to the run's log; an actor calls it once.

    Args:
        keeper: the name of its actor. (Ray warns of restartable actors that are given a handle.)
        actor: whose records these are, for example "learner 0".
    """
    try:
        handler = HandOver(ray.get_actor(keeper), actor)
    except ValueError:  # an actor works without being heard
        logger.warning("there is no actor %s: nothing of %s reaches the log", keeper, actor)
        return
    for name in PACKAGES:
        listened = logging.getLogger(name)
        listened.setLevel(logging.INFO)
        listened.addHandler(handler)
