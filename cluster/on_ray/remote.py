"""How this package makes Ray actors and tasks of its classes and functions."""

from typing import Any

import ray


def remote(what: Any, **options: Any) -> Any:
    """Make a Ray actor class or task; Ray's own types don't know the methods.

    Calls leave no task events: the cluster's head keeps 3 kB of each of the last 100,000, and a run
    makes tens of calls a second for days.
    """
    quiet: dict[str, Any] = {"enable_task_events": False, **options}
    return ray.remote(**quiet)(what)
