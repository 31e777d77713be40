"""Choices that are made by measuring, and remembered.

What is fastest depends on the processor, so candidates are timed in turn for a moment, and the
answer is kept in the user's cache folder under the machine and the question. A cache that cannot be
read or written costs a second measurement, nothing else.
"""

import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import TypeVar

import platformdirs
import torch

logger = logging.getLogger(__name__)

Candidate = TypeVar("Candidate", bound=Hashable)

ROUNDS = 5
HOPELESS = 2.0
"""Candidates whose first two calls both take this many times as long as the best are left out."""

CLOSE = 1.15
FINAL_ROUNDS = 20
"""What candidates within `CLOSE` of the best get on top: a core that changes its speed may not
have been fast when it was the turn of the best."""


def time_in_turn(
    candidates: Mapping[Candidate, Callable[[], object]], *, seconds: float
) -> dict[Candidate, float]:
    """Return the shortest seconds a call of each candidate, timed in turn.

    The shortest, because whatever else runs on the machine only ever adds.

    Args:
        candidates: what to call.
        seconds: spent on each, about; on those that are close to the best, five times as long.
    """
    best = {name: _time_calls(call, 0.0) for name, call in candidates.items()}  # warms up, too
    best = {name: min(best[name], _time_calls(call, 0.0)) for name, call in candidates.items()}
    for rounds, within in ((ROUNDS, HOPELESS), (FINAL_ROUNDS, CLOSE)):
        limit = within * min(best.values())
        left = [name for name, shortest in best.items() if shortest <= limit]
        for _ in range(rounds if len(left) > 1 else 0):
            for name in left:
                best[name] = min(best[name], _time_calls(candidates[name], seconds / ROUNDS))
    return best


def remembered(question: object, answer: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Return the answer that this machine gave before, or ask for one and keep it.

    Args:
        question: everything that the answer depends on, apart from machine and torch; JSON types.
        answer: measures.
    """
    about = [processor(), torch.__version__, torch.get_num_threads(), question]
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    path = Path(platformdirs.user_cache_dir("stillhouse")) / f"measured-{key[:32]}.json"
    try:
        kept: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))["answer"]
        return kept
    except (OSError, ValueError, LookupError, TypeError):
        pass
    found = answer()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(json.dumps({"about": about, "answer": found}), encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        logger.info("what was measured is not kept: %s", error)
    return found


def _time_calls(call: Callable[[], object], seconds: float) -> float:
    """Return the shortest time of a call, of those begun within `seconds`, at least one."""
    shortest = float("inf")
    first = before = time.perf_counter()
    while shortest == float("inf") or before - first < seconds:
        call()
        after = time.perf_counter()
        shortest = min(shortest, after - before)
        before = after
    return shortest


def processor() -> str:
    """Return the processor's name and what torch can use of it."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        pass
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"
