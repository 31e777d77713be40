"""Names the stage of a run that stands still.

It looks at nothing but snapshots and the clock. A stage is only blamed for what is its own: env
runners that the rate limiter holds back are well where the learner does its steps, a learner is
well where the rate limiter grants it nothing, and a paused run stands still as it should.

| stage       | stands still where                                                           |
|-------------|------------------------------------------------------------------------------|
| resources   | the session waits for room on the cluster                                    |
| env runners | no chunk is collected, and no rate limiter is the reason                     |
| shared      | no chunk is collected, and the shared teacher answers nothing                |
| teacher     |                                                                              |
| replay      | chunks are collected, and no shard takes one in                              |
| learner     | samples are to be had, and it receives nothing, or steps on none of it; where |
|             | that fills the shards, env runners wait for it                               |
| weights     | the learner steps and publishes nothing, or env runners get none of it       |
| everything  | not even the time that the learner has waited is counted on                  |
"""

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Literal

from cluster.recipe.config import WatchdogConfig
from cluster.session import Snapshot
from common.replay.rate_limiter import RateLimiter, RateLimits
from common.replay.shard import ShardStats

Stage = Literal[
    "resources", "env runners", "shared teacher", "replay", "learner", "weights", "everything"
]


@dataclass(frozen=True, slots=True)
class Standstill:
    """A stage that does not move."""

    stage: Stage
    text: str
    """What is seen of it."""
    since: float
    """On the watchdog's clock."""


class Watchdog:
    """Compares each snapshot with those before.

    Args:
        config: after how long it speaks.
        limits: of every shard's rate limiter.
        publish_interval_steps: learner steps between two versions of the weights.
        clock: returns seconds that never go back.
    """

    def __init__(
        self,
        config: WatchdogConfig,
        limits: RateLimits,
        *,
        publish_interval_steps: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._after_s = config.after_s
        self._limits = limits
        self._publish_interval_steps = publish_interval_steps
        self._clock = clock
        self._placed = _Movement()
        self._collected = _Movement()
        self._answered = _Movement()
        self._inserted = _Movement()
        self._received = _Movement()
        self._stepped = _Movement()
        self._lived = _Movement()
        self._published = _Movement()
        self._pulled = _Movement()
        self._all = (
            *(self._placed, self._collected, self._answered, self._inserted, self._received),
            *(self._stepped, self._lived, self._published, self._pulled),
        )
        self._began = False
        self._on_the_way = False
        self._published_at_step = 0
        self._found: Standstill | None = None
        self._again_s = 0.0
        self.standstill_s = 0.0
        """Seconds for which a stage has stood still; 0 where all move."""

    @property
    def standstill(self) -> str | None:
        """The stage that stands still and for how long, or None where all move."""
        if self._found is None:
            return None
        return f"standing still for {self.standstill_s:.0f} s: {self._found.text}"

    def check(self, snapshot: Snapshot) -> str | None:
        """Take the newest snapshot in; return what is to be said now, if anything.

        A standstill is said once it has lasted `after_s`, again whenever it has lasted twice as
        long as when it was last said, and once when it is over.
        """
        now = self._clock()
        self._move(snapshot, now)
        former, self._found = self._found, self._find(snapshot, now)
        if self._found is None:
            lasted, self.standstill_s = self.standstill_s, 0.0
            if former is None:
                return None
            return f"moving again after a standstill of {lasted:.0f} s ({former.stage})"
        self.standstill_s = now - self._found.since
        known = former is not None and former.stage == self._found.stage
        if known and self.standstill_s < self._again_s:
            return None
        self._again_s = 2 * self.standstill_s
        return self.standstill

    def _move(self, snapshot: Snapshot, now: float) -> None:
        """Note what has moved since the snapshot before."""
        trainer, collectors = snapshot.trainer, snapshot.collectors
        lives = [(collector.runner_id, collector.incarnation) for collector in collectors]
        versions = [collector.policy_version for collector in collectors]
        collected = _by(lives, [collector.env_steps for collector in collectors])
        inserted = dict[Hashable, float](enumerate(shard.inserted for shard in snapshot.shards))
        came = self._collected.update(collected, now)
        went = self._inserted.update(inserted, now)
        self._on_the_way = not went and (came or self._on_the_way)
        if not self._on_the_way:
            self._inserted.touch(now)
        self._answered.update({stats.life: stats.num_rows for stats in snapshot.inference}, now)
        self._received.update({0: trainer.env_steps}, now)
        self._stepped.update({0: trainer.learner_steps}, now)
        self._lived.update({0: trainer.wait_s + trainer.step_s}, now)
        self._pulled.update(_by(lives, versions), now)
        if self._published.update({0: trainer.policy_version}, now):
            self._published_at_step = trainer.learner_steps
        if snapshot.waiting_for is None:
            self._placed.touch(now)
        if not any(self._limiter(shard).allowed(1) for shard in snapshot.shards):
            self._received.touch(now)
            self._stepped.touch(now)
        steps = trainer.learner_steps - self._published_at_step
        if steps < 2 * self._publish_interval_steps:
            self._published.touch(now)
        if not versions or max(versions) >= trainer.policy_version:
            self._pulled.touch(now)
        if snapshot.paused or not self._began:
            self._began = True
            for movement in self._all:
                movement.touch(now)

    def _find(self, snapshot: Snapshot, now: float) -> Standstill | None:
        def still(movement: _Movement) -> bool:
            return now - movement.since >= self._after_s

        if still(self._placed):
            text = f"waiting for resources: {snapshot.waiting_for}"
            return Standstill("resources", text, self._placed.since)
        held = any(not self._limiter(shard).can_insert() for shard in snapshot.shards)
        if still(self._collected) and not held:
            return self._nothing_is_collected(snapshot, still)
        if still(self._inserted) and not held:
            text = "the replay takes in nothing of what the env runners collect"
            return Standstill("replay", text, self._inserted.since)
        if still(self._stepped):
            text = (
                "the learner has no data: it receives nothing of what the replay holds"
                if still(self._received)
                else "the learner receives data and takes no step"
            )
            if still(self._collected):
                text += "; the replay's rate limiter holds the env runners back until it does"
            return Standstill("learner", text, self._stepped.since)
        if still(self._published):
            version = snapshot.trainer.policy_version
            text = f"the learner steps and publishes no weights after version {version}"
            return Standstill("weights", text, self._published.since)
        if still(self._pulled):
            newest = max(collector.policy_version for collector in snapshot.collectors)
            text = (
                f"the env runners get no new weights: the learner is at version "
                f"{snapshot.trainer.policy_version}, the best of them at {newest}"
            )
            return Standstill("weights", text, self._pulled.since)
        return None

    def _nothing_is_collected(
        self, snapshot: Snapshot, still: Callable[["_Movement"], bool]
    ) -> Standstill:
        since = self._collected.since
        if still(self._lived):
            text = "no counter of env runners, replay or learner moves"
            return Standstill("everything", text, since)
        if not snapshot.collectors:
            return Standstill("env runners", "no env runner reports", since)
        if snapshot.inference and still(self._answered):
            text = "the env runners collect nothing: the shared teacher answers nothing"
            return Standstill("shared teacher", text, since)
        return Standstill("env runners", "the env runners collect nothing", since)

    def _limiter(self, shard: ShardStats) -> RateLimiter:
        limiter = RateLimiter(self._limits)
        limiter.did_insert(shard.inserted)
        limiter.did_sample(shard.sampled)
        return limiter


class _Movement:
    """When one of some counters last rose. One that falls (a restart) has not moved yet."""

    def __init__(self) -> None:
        self._former: Mapping[Hashable, float] = {}
        self.since = 0.0

    def update(self, counters: Mapping[Hashable, float], now: float) -> bool:
        """Compare with the last ones; return whether one rose. A new counter starts at 0."""
        former, self._former = self._former, counters
        rose = any(value > former.get(key, 0) for key, value in counters.items())
        if rose:
            self.since = now
        return rose

    def touch(self, now: float) -> None:
        """Take it as moved: it has no reason to move."""
        self.since = now


def _by(keys: list[tuple[int, int]], values: list[int]) -> dict[Hashable, float]:
    return dict(zip(keys, values, strict=True))
