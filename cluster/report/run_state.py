"""How a run ended, as its log has it: by itself, by the user, by a mistake, or nobody knows."""

import json
from dataclasses import dataclass
from typing import Literal

from cluster.run_log import BROKEN_OFF, ENDS, FAILED, STARTS, STOPS

State = Literal["evaluated", "stopped", "failed", "open"]
"""`open`: it goes on, or was killed."""

SHOWN_WARNINGS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """How a run ended."""

    state: State
    reason: str = ""
    """Of a failure."""
    first: str | None = None
    """Time of the log's first line, UTC."""
    last: str | None = None
    """Time of its last line."""
    warnings: tuple[str, ...] = ()
    """The last warnings and errors."""


def read_state(log: str, *, evaluated: bool) -> RunState:
    """Return how a run ended.

    Args:
        log: the content of `log.jsonl`; "" where there is none.
        evaluated: whether the run has scores.
    """
    state: State = "open"
    reason, times, warnings = "", list[str](), list[str]()
    for line in log.splitlines():
        try:
            entry = json.loads(line)
            message, level = str(entry["message"]), entry["level"]
        except (ValueError, LookupError, TypeError):
            continue  # the last line of a run that was killed may be cut short
        times.append(str(entry.get("time", "")))
        if level in ("warning", "error"):
            warnings.append(message)
        if message == STARTS:
            state, reason = "open", ""
        elif message.startswith(FAILED):
            told = message.removeprefix(FAILED).removeprefix(": ")
            traceback = str(entry.get("traceback", "")).splitlines()
            state, reason = "failed", told or (traceback[-1] if traceback else "")
        elif message == BROKEN_OFF:
            state, reason = "failed", "it was broken off by Ctrl-C"
        elif message == ENDS or message.startswith(STOPS):
            state = "stopped"
    return RunState(
        state="evaluated" if evaluated else state,
        reason=reason,
        first=times[0] if times else None,
        last=times[-1] if times else None,
        warnings=tuple(warnings[-SHOWN_WARNINGS:]),
    )
