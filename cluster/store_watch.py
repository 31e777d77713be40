"""Tells when a run begins to wait for room in the object store, and when that is over."""

from cluster.session import Snapshot

WORTH_TELLING_S = 0.5
"""Seconds of waiting between two snapshots; putting a chunk in takes milliseconds."""

QUIET_SNAPSHOTS = 10
"""Without such a wait, until the store counts as having room again."""


class StoreWatch:
    """Compares a run's snapshots, about one a second."""

    def __init__(self) -> None:
        self._waits: dict[tuple[int, int] | None, float] = {}
        """Seconds by life of env runner; of the learner under None."""
        self._waited_s = 0.0
        self._quiet: int | None = None
        """Snapshots since the last wait; None where the store has room."""

    def news(self, snapshot: Snapshot) -> str | None:
        """Return a line where something changed since the last snapshot."""
        former = self._waits
        self._waits = {(c.runner_id, c.incarnation): c.store_wait_s for c in snapshot.collectors}
        self._waits[None] = snapshot.trainer.store_wait_s
        waited = sum(max(0.0, s - former.get(key, 0.0)) for key, s in self._waits.items())
        if waited > WORTH_TELLING_S:
            first, self._quiet = self._quiet is None, 0
            self._waited_s += waited
            return _FULL if first else None
        if self._quiet is None:
            return None
        self._quiet += 1
        if self._quiet < QUIET_SNAPSHOTS:
            return None
        line = f"the object store has room again; the run waited {self._waited_s:.0f} s"
        self._quiet, self._waited_s = None, 0.0
        return line


_FULL = (
    "the object store of a node is full: the run waits until Ray makes room; free memory and disk "
    "there, or give its raylet a larger --object-store-memory"
)
