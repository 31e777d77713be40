"""One shard of the replay buffer: compressed chunks, first in first out.

On the main road: EnvRunner → `insert` → shard → `sample` → learner. Nothing here waits: a caller
that is refused (`False`, `None`) waits in its own way (a condition in a Ray actor, the next turn
of the loop in one process).

The learner decodes each chunk once, into its window, and samples it many times from there; so
`sample` grants a number of samples and hands out the chunks that this learner has not had, by a
cursor that the learner keeps. A learner that starts again with cursor 0 gets all that is stored.

Where the window is smaller than the store, every new chunk brings older ones along, drawn
uniformly from those that the window no longer holds: over time the learner sees the whole store.

A shard owns the bytes that it keeps. What Ray hands to an actor is a view into its object store,
which a kept view would fill.

A snapshot is the list of chunks with the counters, taken at once; writing it holds up neither
inserts nor samples.
"""

import itertools
import uuid
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field

import numpy as np

from common.codec import EncodedChunk, owned
from common.replay.rate_limiter import RateLimiter, RateLimits
from common.replay.snapshot import Snapshot, read_snapshot
from common.storage import Location, Written
from common.trajectory import ChunkId, Life

MAX_CHUNKS_PER_SAMPLE = 8
"""Chunks in one answer at most, so that a refill comes in pieces."""

REMEMBERED_IDS = 4096
"""Ids kept of each runner's start, to recognise a chunk that was sent twice."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReplaySample:
    """The answer to a sample request."""

    granted: int
    """Samples that the learner may now train on; 0 while a restarted learner refills."""
    epoch: str
    """Which life of the shard this is: a shard that starts again counts from 0 again."""
    cursor: int
    """To be given with the next request; the last chunk has number cursor − 1."""
    top: int
    """Number of the first chunk that had never been handed out before this answer."""
    chunks: list[EncodedChunk]
    """Chunks that are new to this cursor, oldest first."""
    revisited: dict[int, EncodedChunk] = field(default_factory=dict)
    """Older chunks by their numbers, which the window no longer held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardStats:
    """What a shard reports."""

    inserted: int
    """Transitions inserted since the start."""
    sampled: int
    """Samples granted since the start."""
    transitions: int
    """Transitions stored."""
    num_bytes: int
    """Compressed bytes stored."""
    duplicates: int
    """Chunks refused because they had come before."""
    epoch: str = ""
    """Which life of the shard this is."""
    unseen: dict[Life, int] = field(default_factory=dict)
    """Transitions stored that were not handed out yet, by the env runner's life."""


class ReplayShard:
    """Keeps the newest chunks up to a number of transitions and of bytes.

    Args:
        capacity: transitions kept.
        limits: of the rate limiter.
        max_bytes: compressed bytes kept, or None where only transitions count.
        revisits: older chunks handed out with every new one.
        seed: of their draws.
    """

    def __init__(
        self,
        *,
        capacity: int,
        limits: RateLimits,
        max_bytes: int | None = None,
        revisits: int = 0,
        seed: tuple[int, ...] = (0,),
    ) -> None:
        self.epoch = uuid.uuid4().hex
        self._limits = limits
        self._capacity = capacity
        self._max_bytes = max_bytes
        self._revisits = revisits
        self._rng = np.random.default_rng(seed)
        self._limiter = RateLimiter(limits)
        self._chunks: deque[EncodedChunk] = deque()
        self._first = 0  # cursor of the oldest stored chunk
        self._transitions = 0
        self._bytes = 0
        self._duplicates = 0
        self._next = 0  # number of the first chunk that the newest answer left
        self._top = 0  # the largest that `_next` ever was
        self._seen: dict[Life, set[int]] = {}

    def can_insert(self) -> bool:
        """Whether the rate limiter lets an insert pass now."""
        return self._limiter.can_insert()

    def insert(self, chunk: EncodedChunk) -> bool:
        """Store a chunk and let the oldest go while the shard is too full; one always stays.

        A chunk that came before is dropped and counted. Call `can_insert` first: a chunk is
        never refused here, so that none is lost.

        Returns:
            Whether the chunk was new.
        """
        if not self._remember(chunk.chunk_id):
            self._duplicates += 1
            return False
        self._chunks.append(owned(chunk))
        self._transitions += chunk.num_transitions
        self._bytes += chunk.num_bytes
        self._limiter.did_insert(chunk.num_transitions)
        self._drop_oldest()
        return True

    def sample(
        self, *, cursor: int, num_samples: int, held: Collection[int] = ()
    ) -> ReplaySample | None:
        """Grant up to `num_samples` samples and hand out chunks that `cursor` has not had.

        A cursor that lags by more than one answer gets chunks first and samples with the last
        of them, and only then older chunks again.

        Args:
            cursor: of the former answer, or 0.
            num_samples: samples asked for.
            held: numbers of the chunks that the caller's window holds; they are not revisited.

        Returns:
            None where the rate limiter allows no sample.
        """
        if cursor > self._first + len(self._chunks):  # of a former life of this shard
            cursor = 0
        start = max(cursor - self._first, 0)
        chunks = list(itertools.islice(self._chunks, start, start + MAX_CHUNKS_PER_SAMPLE))
        lagging = start + len(chunks) < len(self._chunks)
        granted = 0
        revisited: dict[int, EncodedChunk] = {}
        if not lagging:
            granted = self._limiter.allowed(num_samples)
            if not granted:
                return None
            self._limiter.did_sample(granted)
            revisited = self._draw_older(start, self._revisits * len(chunks), held)
        top, self._next = self._top, self._first + start + len(chunks)
        self._top = max(top, self._next)
        return ReplaySample(
            granted=granted,
            epoch=self.epoch,
            cursor=self._next,
            top=top,
            chunks=chunks,
            revisited=revisited,
        )

    def stats(self) -> ShardStats:
        """Return the counters."""
        return ShardStats(
            inserted=self._limiter.inserted,
            sampled=self._limiter.sampled,
            transitions=self._transitions,
            num_bytes=self._bytes,
            duplicates=self._duplicates,
            epoch=self.epoch,
            unseen=self._unseen(),
        )

    def save(self) -> Callable[[Location], Written]:
        """Take a snapshot now; what is returned writes it."""
        return self._snapshot().write

    def load(self, location: Location, *, epoch: str | None, granted: int, cursor: int) -> bool:
        """Go on from a snapshot, where nothing was inserted yet.

        Samples that were granted and never reached the learner are granted again.

        Args:
            location: what `save` wrote.
            epoch: the life of the shard that the learner knew when it was saved itself.
            granted: samples of that life that it had received.
            cursor: how far it had read that life's chunks.

        Returns:
            Whether the snapshot was taken over; False where this shard holds chunks of its own.

        Raises:
            StorageError: it cannot be read.
        """
        snapshot = read_snapshot(location)
        if self._limiter.inserted:
            return False
        header = snapshot.header
        self.epoch = header["epoch"]
        self._first = header["first"]
        self._next = self._top = cursor if epoch == self.epoch else 0
        self._duplicates = header["duplicates"]
        self._rng.bit_generator.state = header["rng"]
        self._limiter.go_on_from(
            inserted=header["inserted"],
            sampled=granted if epoch == self.epoch else header["sampled"],
            limits=RateLimits(**header["limits"]),
        )
        self._chunks.extend(snapshot.chunks)
        self._transitions = sum(chunk.num_transitions for chunk in self._chunks)
        self._bytes = sum(chunk.num_bytes for chunk in self._chunks)
        self._drop_oldest()
        return True

    def _snapshot(self) -> Snapshot:
        header = {
            "epoch": self.epoch,
            "first": self._first,
            "duplicates": self._duplicates,
            "rng": self._rng.bit_generator.state,
            "inserted": self._limiter.inserted,
            "sampled": self._limiter.sampled,
            "limits": asdict(self._limits),
        }
        return Snapshot(header, list(self._chunks))

    def _drop_oldest(self) -> None:
        while self._too_full() and len(self._chunks) > 1:
            oldest = self._chunks.popleft()
            self._first += 1
            self._transitions -= oldest.num_transitions
            self._bytes -= oldest.num_bytes

    def _unseen(self) -> dict[Life, int]:
        unseen: dict[Life, int] = {}
        for chunk in itertools.islice(self._chunks, max(self._next - self._first, 0), None):
            life = chunk.chunk_id.life
            unseen[life] = unseen.get(life, 0) + chunk.num_transitions
        return unseen

    def _too_full(self) -> bool:
        too_large = self._max_bytes is not None and self._bytes > self._max_bytes
        return too_large or self._transitions > self._capacity

    def _draw_older(self, stop: int, count: int, held: Collection[int]) -> dict[int, EncodedChunk]:
        """Draw up to `count` different chunks from the `stop` oldest that are not held."""
        if count == 0:
            return {}
        left = sorted(set(range(self._first, self._first + stop)).difference(held))
        drawn = self._rng.choice(left, size=min(count, len(left)), replace=False) if left else ()
        return {int(number): self._chunks[number - self._first] for number in drawn}

    def _remember(self, chunk_id: ChunkId) -> bool:
        seen = self._seen.setdefault(chunk_id.life, set())
        if chunk_id.sequence in seen:
            return False
        seen.add(chunk_id.sequence)
        if len(seen) > REMEMBERED_IDS:
            seen.remove(min(seen))
        return True
