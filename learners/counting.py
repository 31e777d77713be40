"""Which chunks the learner has received: each is counted once, however often it comes.

A chunk comes again when a learner refills its window, when a shard that started again gets an
insert a second time, or when another life of the shard hands it out. Its id tells: the chunks of
an env runner's life are numbered without gaps, so the highest number and the gaps below it are all
there is to remember.

Chunks also tell how many transitions their life had collected before them, so the size of a gap is
known. A chunk can be overtaken on its way by those that are sent before it has arrived, which are
few (`MAX_UNDER_WAY`); what lies in a gap further down is missing, in all likelihood for ever.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from common.trajectory import Life, TrajectoryChunk

MAX_UNDER_WAY = 2
"""Chunks of an env runner's life that travel at the same time."""


@dataclass(frozen=True, slots=True)
class LifeCount:
    """What was received of one env runner's life, in transitions."""

    received: int
    """Each counted once."""
    missing: int
    """Of chunks that can no longer be under way."""


class _Gap(NamedTuple):
    """Chunks that were not received, though later ones were."""

    first: int
    last: int
    """Their numbers."""
    start: int
    stop: int
    """The transitions of their life that are theirs."""


@dataclass(slots=True)
class _Received:
    transitions: int = 0
    reached: int = 0
    """Transitions that the life had collected at the end of the highest chunk received."""
    highest: int = -1
    gaps: list[_Gap] = field(default_factory=list)


class ReceivedChunks:
    """Counts what was received of every env runner's life."""

    def __init__(self) -> None:
        self._lives: dict[Life, _Received] = {}

    def count(self, chunk: TrajectoryChunk) -> int:
        """Return the transitions of a chunk that came for the first time, else 0."""
        found = self._lives.setdefault(chunk.chunk_id.life, _Received())
        number, size = chunk.chunk_id.sequence, chunk.num_transitions
        start, stop = chunk.steps_before, chunk.steps_before + size
        if number > found.highest:
            before = _Gap(found.highest + 1, number - 1, found.reached, start)
            found.gaps = _without_empty(*found.gaps, before)
            found.highest, found.reached = number, stop
        else:
            hit = next((gap for gap in found.gaps if gap.first <= number <= gap.last), None)
            if hit is None:
                return 0
            rest = [gap for gap in found.gaps if gap is not hit]
            below = _Gap(hit.first, number - 1, hit.start, start)
            above = _Gap(number + 1, hit.last, stop, hit.stop)
            found.gaps = _without_empty(*rest, below, above)
        found.transitions += size
        return size

    def lives(self) -> dict[Life, LifeCount]:
        """Return the counts of every life; another thread may go on counting."""
        return {
            life: LifeCount(
                found.transitions,
                sum(
                    gap.stop - gap.start
                    for gap in found.gaps
                    if gap.last <= found.highest - MAX_UNDER_WAY
                ),
            )
            for life, found in list(self._lives.items())
        }

    def state(self) -> list[Any]:
        """Return what a checkpoint must hold, in plain lists."""
        return [
            [*life, found.transitions, found.reached, found.highest, [list(g) for g in found.gaps]]
            for life, found in self._lives.items()
        ]

    def load_state(self, state: list[Any]) -> None:
        """Go on from a checkpoint."""
        self._lives = {
            Life(runner, incarnation): _Received(
                transitions, reached, highest, [_Gap(*gap) for gap in gaps]
            )
            for runner, incarnation, transitions, reached, highest, gaps in state
        }


def _without_empty(*gaps: _Gap) -> list[_Gap]:
    return [gap for gap in gaps if gap.first <= gap.last]
