"""The replay shards of a run on Ray, which starts a dead one again, empty, while its callers wait.

What a shard had stored and the learner had not yet received is lost with it (`cluster.accounting`
counts it); inserts that were under way are sent again. A frozen shard is ended, and Ray starts it
again like one that died.
"""

import logging
from collections.abc import Callable

import ray

from cluster.on_ray.actors import Handle
from cluster.on_ray.pulse import Pulse
from common.errors import RunFailedError
from common.replay.shard import ShardStats

logger = logging.getLogger(__name__)


class RayShards:
    """The actors of all shards.

    Args:
        start: starts the actor of a shard.
        num_shards: how many.
        max_restarts: of all together, before the run gives up.
    """

    def __init__(
        self, start: Callable[[int], Handle], *, num_shards: int, max_restarts: int
    ) -> None:
        self.actors = [start(index) for index in range(num_shards)]
        self.pulses = [Pulse(actor.stats.remote) for actor in self.actors]
        self.restarts = 0
        self.stats: list[ShardStats] = []
        """Of all shards, as they answered in the same round."""
        self._epochs: dict[int, str] = {}
        self._max_restarts = max_restarts

    def look(self) -> None:
        """Take in what the pulses have brought, and count restarts.

        Raises:
            RunFailedError: too many died.
        """
        for index, pulse in enumerate(self.pulses):
            if pulse.fresh:
                epoch = pulse.last.epoch
                self.restarts += self._epochs.get(index, epoch) != epoch
                self._epochs[index] = epoch
        if self.restarts > self._max_restarts:
            raise RunFailedError(
                f"replay shards died {self.restarts} times, and supervision.max_shard_restarts = "
                f"{self._max_restarts}"
            )
        if all(pulse.fresh for pulse in self.pulses):
            self.stats = [pulse.last for pulse in self.pulses]

    def replace_frozen(self, silence_s: float) -> None:
        """End those that have not answered for so many seconds; Ray starts them again."""
        for index, (actor, pulse) in enumerate(zip(self.actors, self.pulses, strict=True)):
            if pulse.silent_s > silence_s:
                logger.warning(
                    "replay shard %d did not answer for %g s; starting it again", index, silence_s
                )
                ray.kill(actor, no_restart=False)
                pulse.start_anew()

    def kill(self) -> None:
        """End all."""
        for actor in self.actors:
            ray.kill(actor)
