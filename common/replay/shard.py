"""One shard of the replay buffer: compressed chunks, first in first out.

On the main road: EnvRunner → `insert` → shard → `sample` → learner. Nothing here waits: a caller
that is refused (`False`, `None`) waits in its own way (a condition in a Ray actor, the next turn
of the loop in one process).

The learner decodes each chunk once, into its window, and samples it many times from there; so
`sample` grants a number of samples and hands out the chunks that this learner has not had, by a
cursor that the learner keeps. A learner that starts again with cursor 0 gets all that is stored.
"""

import itertools
import uuid
from collections import deque
from dataclasses import dataclass

from common.codec import EncodedChunk
from common.replay.rate_limiter import RateLimiter, RateLimits
from common.trajectory import ChunkId

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
    chunks: list[EncodedChunk]
    """Chunks that are new to this cursor, oldest first."""


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


class ReplayShard:
    """Keeps the newest chunks up to a number of transitions."""

    def __init__(self, *, capacity: int, limits: RateLimits) -> None:
        self.epoch = uuid.uuid4().hex
        self._capacity = capacity
        self._limiter = RateLimiter(limits)
        self._chunks: deque[EncodedChunk] = deque()
        self._first = 0  # cursor of the oldest stored chunk
        self._transitions = 0
        self._bytes = 0
        self._duplicates = 0
        self._seen: dict[tuple[int, int], set[int]] = {}

    def can_insert(self) -> bool:
        """Whether the rate limiter lets an insert pass now."""
        return self._limiter.can_insert()

    def insert(self, chunk: EncodedChunk) -> bool:
        """Store a chunk and let the oldest go when the shard is full.

        A chunk that came before is dropped and counted. Call `can_insert` first: a chunk is
        never refused here, so that none is lost.

        Returns:
            Whether the chunk was new.
        """
        if not self._remember(chunk.chunk_id):
            self._duplicates += 1
            return False
        self._chunks.append(chunk)
        self._transitions += chunk.num_transitions
        self._bytes += chunk.num_bytes
        self._limiter.did_insert(chunk.num_transitions)
        while self._transitions > self._capacity and len(self._chunks) > 1:
            oldest = self._chunks.popleft()
            self._first += 1
            self._transitions -= oldest.num_transitions
            self._bytes -= oldest.num_bytes
        return True

    def sample(self, *, cursor: int, num_samples: int) -> ReplaySample | None:
        """Grant `num_samples` samples and hand out chunks that `cursor` has not had.

        A cursor that lags by more than one answer gets chunks first and samples with the last
        of them.

        Returns:
            None where the rate limiter says to wait.
        """
        if cursor > self._first + len(self._chunks):  # of a former life of this shard
            cursor = 0
        start = max(cursor - self._first, 0)
        chunks = list(itertools.islice(self._chunks, start, start + MAX_CHUNKS_PER_SAMPLE))
        lagging = start + len(chunks) < len(self._chunks)
        granted = 0
        if not lagging:
            if not self._limiter.can_sample(num_samples):
                return None
            granted = num_samples
            self._limiter.did_sample(num_samples)
        cursor = self._first + start + len(chunks)
        return ReplaySample(granted=granted, epoch=self.epoch, cursor=cursor, chunks=chunks)

    def stats(self) -> ShardStats:
        """Return the counters."""
        return ShardStats(
            inserted=self._limiter.inserted,
            sampled=self._limiter.sampled,
            transitions=self._transitions,
            num_bytes=self._bytes,
            duplicates=self._duplicates,
        )

    def _remember(self, chunk_id: ChunkId) -> bool:
        seen = self._seen.setdefault((chunk_id.runner, chunk_id.incarnation), set())
        if chunk_id.sequence in seen:
            return False
        seen.add(chunk_id.sequence)
        if len(seen) > REMEMBERED_IDS:
            seen.remove(min(seen))
        return True
