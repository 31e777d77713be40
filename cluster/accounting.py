"""Every env step is accounted for: it reached the learner, is on its way, or is counted as lost.

For each life of an env runner, in transitions (valid rows of finished chunks):

    collected = received + missing + unseen + tail

| term      | is                                                     | known by                    |
|-----------|--------------------------------------------------------|-----------------------------|
| collected | what the env runner last reported; or more, where the  | the env runner; the learner |
|           | learner has had more of it                             | and the shards              |
| received  | counted by the learner, each chunk once                | the learner                 |
| missing   | not received, and too far below the highest chunk      | the learner                 |
|           | received to be still under way                         |                             |
| unseen    | stored in a shard, and not handed out yet              | the shards                  |
| tail      | all the rest, which only the life's end makes certain  | nobody: it is what is left  |

While the life goes on, its tail is on its way: in the env runner's hands, under way to the shard,
or handed out and waiting for the learner's turn. Once the life has ended, its tail is lost. So

    lost = missing of all lives + tail of the lives that have ended

and in a run that rests, collected = received + unseen + lost. A chunk that is handed out just when
its env runner ends counts as lost until the learner takes it, a moment later. A chunk that was cut
short by a kill is in none of the terms: it was never finished. Refused duplicates are neither: the
first copy is in one of the terms.

A learner that starts again from a checkpoint forgets what it received since; what the shards still
hold of that comes again and is counted again, and the rest becomes missing.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from common.replay.shard import ShardStats
from common.trajectory import Life
from learners.counting import LifeCount

NOTHING = LifeCount(0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Where the transitions of all lives are."""

    collected: int
    received: int
    unseen: int
    under_way: int
    """Tails of the lives that go on."""
    lost: int


def first_incarnation(received: Iterable[Life], shards: Sequence[ShardStats]) -> int:
    """Return the incarnation that env runners begin with, so that no chunk id comes twice.

    Args:
        received: lives of which the learner has had chunks.
        shards: what the shards report, which may have gone on with chunks of a former session.
    """
    unseen = (life for shard in shards for life in shard.unseen)
    return 1 + max((life.incarnation for life in (*received, *unseen)), default=-1)


def account(
    *,
    collected: Mapping[Life, int],
    running: Collection[Life],
    received: Mapping[Life, LifeCount],
    shards: Sequence[ShardStats],
) -> Account:
    """Add up all lives.

    Args:
        collected: transitions that each life last reported.
        running: lives that have not ended.
        received: by the learner, of each life.
        shards: what the shards report.
    """
    unseen: dict[Life, int] = {}
    for shard in shards:
        for life, transitions in shard.unseen.items():
            unseen[life] = unseen.get(life, 0) + transitions
    total = under_way = lost = 0
    for life in {*collected, *received, *unseen}:
        counted = received.get(life, NOTHING)
        placed = counted.received + counted.missing + unseen.get(life, 0)
        tail = max(0, collected.get(life, 0) - placed)
        total += placed + tail
        lost += counted.missing
        if life in running:
            under_way += tail
        else:
            lost += tail
    return Account(
        collected=total,
        received=sum(count.received for count in received.values()),
        unseen=sum(unseen.values()),
        under_way=under_way,
        lost=lost,
    )
