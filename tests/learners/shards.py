"""Small replay shards for the tests of those who read them, and one that answers as it is told."""

import threading
from collections import deque
from collections.abc import Collection

from common.codec import EncodedChunk, encode
from common.replay.rate_limiter import RateLimits
from common.replay.shard import ReplaySample, ReplayShard
from learners.feed import FeedItem
from tests.builders import make_chunk

LONG_S = 30.0
"""Never waited for, unless something is wrong."""

CHUNKS = [encode(make_chunk(sequence=sequence, num_steps=4)) for sequence in range(12)]
UNLIMITED = RateLimits(samples_per_insert=1.0, min_size_to_sample=1, error_buffer=1e9)


def shard_with(*sequences: int) -> ReplayShard:
    shard = ReplayShard(capacity=10**6, limits=UNLIMITED)
    for sequence in sequences:
        shard.insert(CHUNKS[sequence])
    return shard


def revisiting_shard() -> ReplayShard:
    return ReplayShard(capacity=10**6, limits=UNLIMITED, revisits=1)


def sequences(item: FeedItem | None) -> list[int]:
    assert item is not None
    return [chunk.chunk_id.sequence for chunk in item.chunks]


class Source:
    """Gives prepared answers, and waits in a thread of the feed's once there are no more."""

    def __init__(self, *answers: ReplaySample | Exception) -> None:
        self._answers = deque(answers)
        self._changed = threading.Condition()
        self._ended = False
        self.calls = 0

    def sample(
        self, *, cursor: int, num_samples: int, held: Collection[int]
    ) -> ReplaySample | None:
        with self._changed:
            self.calls += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._answers or self._ended)
            answer = self._answers.popleft() if self._answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def add(self, answer: ReplaySample) -> None:
        with self._changed:
            self._answers.append(answer)
            self._changed.notify_all()

    def wait_for_calls(self, number: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.calls >= number, LONG_S)

    def end(self) -> None:
        """Answer None from now on."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()


def answer(number: int, *, chunks: list[EncodedChunk] | None = None) -> ReplaySample:
    return ReplaySample(
        granted=number, epoch="a", cursor=number, top=0, chunks=[] if chunks is None else chunks
    )
