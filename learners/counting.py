"""Which chunks the learner has received: each is counted once, however often it comes.

A chunk comes again when a learner refills its window, when a shard that started again gets an
insert a second time, or when another life of the shard hands it out. Its id tells: the chunks of
an env runner's life are numbered without gaps, so the highest number and the missing ones below it
are all there is to remember.

Chunks also tell how many transitions their life had collected before them. What lies below the
highest chunk and was not received is missing: in all likelihood for ever, because a life's chunks
travel in order but for the few that are under way together.
"""

from dataclasses import dataclass, field
from typing import Any

from common.trajectory import Life, TrajectoryChunk


@dataclass(frozen=True, slots=True)
class LifeCount:
    """What was received of one env runner's life."""

    received: int
    """Transitions, each counted once."""
    reached: int
    """Transitions that the life had collected at the end of the highest chunk received."""

    @property
    def missing(self) -> int:
        """Transitions of chunks that later ones have overtaken."""
        return self.reached - self.received


@dataclass(slots=True)
class _Received:
    transitions: int = 0
    reached: int = 0
    highest: int = -1
    gaps: set[int] = field(default_factory=set)


class ReceivedChunks:
    """Counts what was received of every env runner's life."""

    def __init__(self) -> None:
        self._lives: dict[Life, _Received] = {}

    def count(self, chunk: TrajectoryChunk) -> int:
        """Return the transitions of a chunk that came for the first time, else 0."""
        found = self._lives.setdefault(chunk.chunk_id.life, _Received())
        sequence = chunk.chunk_id.sequence
        if sequence > found.highest:
            found.gaps.update(range(found.highest + 1, sequence))
            found.highest = sequence
            found.reached = chunk.steps_before + chunk.num_transitions
        elif sequence in found.gaps:
            found.gaps.remove(sequence)
        else:
            return 0
        found.transitions += chunk.num_transitions
        return chunk.num_transitions

    def lives(self) -> dict[Life, LifeCount]:
        """Return the counts of every life."""
        return {
            life: LifeCount(found.transitions, found.reached)
            for life, found in list(self._lives.items())
        }

    def state(self) -> list[Any]:
        """Return what a checkpoint must hold, in plain lists."""
        return [
            [*life, found.transitions, found.reached, found.highest, sorted(found.gaps)]
            for life, found in self._lives.items()
        ]

    def load_state(self, state: list[Any]) -> None:
        """Go on from a checkpoint."""
        self._lives = {
            Life(runner, incarnation): _Received(transitions, reached, highest, set(gaps))
            for runner, incarnation, transitions, reached, highest, gaps in state
        }
