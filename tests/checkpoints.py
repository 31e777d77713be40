"""How tests look at checkpoints, and save without a thread."""

from typing import Any

from common.storage import Named
from learners.checkpoint import load_newest_checkpoint


def newest_state(directory: Named) -> dict[str, Any] | None:
    """Return the state of the newest checkpoint that is whole."""
    checkpoint = load_newest_checkpoint(directory)
    return None if checkpoint is None else checkpoint.state


def saved_env_steps(directory: Named) -> int:
    """Return the env steps that the newest whole checkpoint counts: a resume goes on from there."""
    state = newest_state(directory)
    assert state is not None, "there is no whole checkpoint"
    return int(state["counters"]["env_steps"])
