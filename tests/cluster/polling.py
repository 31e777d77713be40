"""Waiting for what a session is to show."""

import time
from collections.abc import Callable

from cluster.session import Session, Snapshot


def poll_until(session: Session, condition: Callable[[Snapshot], bool]) -> Snapshot:
    """Poll until a snapshot is as wanted, for two minutes at most."""
    deadline = time.monotonic() + 120
    while not condition(found := session.poll()):
        assert time.monotonic() < deadline, f"nothing happened in two minutes: {found}"
    return found
