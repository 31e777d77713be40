"""The supervisor's side of the actors' logs: the keeper, and bringing its records to the run's log.

Nothing waits for this but the end of a session, for a moment.
"""

import logging
import uuid
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError

from cluster.on_ray.actor_logs import ActorRecord, LogKeeperActor
from cluster.on_ray.actors import Handle, Reference
from cluster.on_ray.remote import remote

LAST_WORDS_S = 2.0
"""How long the end of a session waits for what is still under way."""

logger = logging.getLogger(__name__)


class LogCollector:
    """The keeper of a session, and what it has kept; actors find it by its `name`."""

    def __init__(self) -> None:
        self.name = f"log-keeper-{uuid.uuid4().hex}"
        self._keeper: Handle = RAY_LOG_KEEPER.options(name=self.name).remote()
        self._asked: Reference = self._keeper.take.remote()

    def poll(self, timeout_s: float = 0.0) -> None:
        """Log here what actors have logged since, as far as it has come."""
        if not ray.wait([self._asked], num_returns=1, timeout=timeout_s)[0]:
            return
        with suppress(RayError):  # a keeper that died starts again, and its records are lost
            records, num_lost = ray.get(self._asked)
            for record in records:
                _log_again(record)
            if num_lost:
                logger.warning("%d log records of actors came too fast and are lost", num_lost)
        self._asked = self._keeper.take.remote()

    def close(self) -> None:
        """Log what actors said last, and end the keeper."""
        self.poll(LAST_WORDS_S)
        self.poll(LAST_WORDS_S)
        ray.kill(self._keeper)


def _log_again(record: ActorRecord) -> None:
    listened = logging.getLogger(record.logger)
    if not listened.isEnabledFor(record.level):
        return
    fields: dict[str, Any] = {
        "name": record.logger,
        "levelno": record.level,
        "levelname": logging.getLevelName(record.level),
        "msg": "%s",
        "args": (record.message,),
        "created": record.created,
        "exc_text": record.traceback,
        "actor": record.actor,
    }
    listened.handle(logging.makeLogRecord(fields))


RAY_LOG_KEEPER = remote(LogKeeperActor, num_cpus=0, max_restarts=-1)
