"""How each actor of a run is: what it does with its time, and for how long nothing was heard of it.

The controller takes it from the snapshots that it has anyway; the run board shows it to whoever
watches (`stillhouse watch --web`, `stillhouse status --json`).
"""

import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass

from cluster.board import ActorHealth
from cluster.session import Snapshot

WINDOW_S = 10.0
"""Rates and shares are means over at least so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counters:
    """What an actor has counted by some moment."""

    unit: str
    amount: float
    wait_s: float | None
    version: int | None = None
    life: Hashable = None
    """Another one each time that the actor is started, where that can be told."""


@dataclass(frozen=True, slots=True)
class _Seen:
    at: float
    counters: _Counters


class HealthWatch:
    """Compares each snapshot with those before.

    Args:
        clock: returns seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[str, _Seen] = {}
        """The oldest look that a rate is taken over."""
        self._newer: dict[str, _Seen] = {}
        """The look that takes its place."""
        self._moved: dict[str, _Seen] = {}
        """When each actor last counted anything."""
        self._starts: dict[str, int] = {}

    def take(self, snapshot: Snapshot) -> tuple[ActorHealth, ...]:
        """Return how the actors of a snapshot are; those that are gone are forgotten."""
        now = self._clock()
        present = dict(_counters(snapshot))
        for seen in (self._since, self._newer, self._moved):
            for name in seen.keys() - present.keys():
                del seen[name]
        return tuple(self._look(name, counters, now) for name, counters in present.items())

    def _look(self, name: str, counters: _Counters, now: float) -> ActorHealth:
        look = _Seen(now, counters)
        moved = self._moved.get(name)
        if moved is None or moved.counters.life != counters.life:
            self._since[name] = self._newer[name] = self._moved[name] = look
            self._starts[name] = self._starts.get(name, 0) + 1
        elif moved.counters != counters:
            self._moved[name] = look
        if now - self._newer[name].at >= WINDOW_S:
            self._since[name], self._newer[name] = self._newer[name], look
        since = self._since[name]
        elapsed = now - since.at
        rate = wait = None
        if elapsed > 0:
            rate = max(0.0, counters.amount - since.counters.amount) / elapsed
            if counters.wait_s is not None and since.counters.wait_s is not None:
                wait = min(1.0, max(0.0, counters.wait_s - since.counters.wait_s) / elapsed)
        return ActorHealth(
            name=name,
            starts=self._starts[name],
            unit=counters.unit,
            per_s=rate,
            wait_share=wait,
            policy_version=counters.version,
            still_s=now - self._moved[name].at,
        )


def _counters(snapshot: Snapshot) -> Iterator[tuple[str, _Counters]]:
    """Yield every actor's name and counters, in the order of the data."""
    for collector in sorted(snapshot.collectors, key=lambda stats: stats.runner_id):
        counters = _Counters(
            unit="env steps",
            amount=collector.env_steps,
            wait_s=collector.wait_s,
            version=collector.policy_version,
            life=collector.incarnation,
        )
        yield f"env_runner {collector.runner_id}", counters
    for number, shared in enumerate(snapshot.inference):
        counters = _Counters(
            unit="observations", amount=shared.num_rows, wait_s=None, life=shared.life
        )
        yield f"inference {number}", counters
    for number, shard in enumerate(snapshot.shards):
        counters = _Counters(unit="samples", amount=shard.sampled, wait_s=None, life=shard.epoch)
        yield f"shard {number}", counters
    trainer = snapshot.trainer
    counters = _Counters(
        unit="samples",
        amount=trainer.samples,
        wait_s=trainer.wait_s,
        version=trainer.policy_version,
    )
    yield "learner", counters
