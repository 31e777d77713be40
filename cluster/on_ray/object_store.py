"""A full object store: what has to lie in it waits for room, and nobody dies of it.

Where a node's object store is full, Ray makes room itself: it writes objects to the node's disk, or
lays new ones there. That slows a run down and no more. Where the disk is full too (Ray takes 95 %
for that, `RAY_local_fs_capacity_threshold`), whoever puts something in gets one of the errors here:

| who          | with what        | then                                                       |
|--------------|------------------|------------------------------------------------------------|
| env runner   | a chunk, a       | keeps it and tries again until there is room               |
|              | question         |                                                            |
| shard        | an answer        | the learner asks again for the same chunks                 |
| learner      | new weights      | goes on; the next version takes this one's place           |
| weight store | new weights      | goes on handing out the version before                     |
| env runner   | newer weights    | goes on with its own where these take over 5 s to come     |
| controller   | a newer teacher  | waits until there is room                                  |
| controller   | teacher, student | the run does not start, or fails, in one line              |

How long env runners and the learner waited for room is in their reports; `cluster.store_watch`
tells of it.
"""

import time
from collections.abc import Callable
from typing import TypeVar

from ray.exceptions import ObjectStoreFullError, OutOfDiskError, RayTaskError

RETRY_S = 0.5

T = TypeVar("T")


def is_full(error: BaseException) -> bool:
    """Whether `error`, or what a task raised, is Ray's for no room in object store and disk."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    return isinstance(cause, ObjectStoreFullError | OutOfDiskError)


def when_room(call: Callable[[], T], give_up: Callable[[], bool] = lambda: False) -> T | None:
    """Call until there is room for what the call puts in; None where it gave up before."""
    while True:
        try:
            return call()
        except (ObjectStoreFullError, OutOfDiskError):
            if give_up():
                return None
            time.sleep(RETRY_S)


class RoomTimer:
    """Counts the seconds that one thread spends until there is room."""

    def __init__(self) -> None:
        self._waited_s = 0.0
        self._since: float | None = None

    @property
    def waited_s(self) -> float:
        """Seconds since the start, up to now; for any thread."""
        since, waited = self._since, self._waited_s
        return waited if since is None else waited + time.monotonic() - since

    def __enter__(self) -> None:
        self._since = time.monotonic()

    def __exit__(self, *exception: object) -> None:
        waited, self._since = self.waited_s, None
        self._waited_s = waited
