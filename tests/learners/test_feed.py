import dataclasses
import threading
from collections import deque
from collections.abc import Collection
from typing import Any

import numpy as np
import pytest

from common.codec import CodecError, EncodedChunk, decode, encode
from common.policies.inference import InferencePolicy
from common.replay.rate_limiter import RateLimits
from common.replay.shard import MAX_CHUNKS_PER_SAMPLE, ReplaySample, ReplayShard
from learners.feed import QUEUE_SIZE, DirectFeed, FeedItem, PrefetchFeed, ShardReader
from learners.labeller import Labeller
from tests.builders import make_chunk, make_policy

LONG_S = 30.0
"""Never waited for, unless something is wrong."""

CHUNKS = [encode(make_chunk(sequence=sequence, num_steps=4)) for sequence in range(12)]
UNLIMITED = RateLimits(samples_per_insert=1.0, min_size_to_sample=1, error_buffer=1e9)


def shard_with(*sequences: int) -> ReplayShard:
    shard = ReplayShard(capacity=10**6, limits=UNLIMITED)
    for sequence in sequences:
        shard.insert(CHUNKS[sequence])
    return shard


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
        granted=number, epoch="a", cursor=number, chunks=[] if chunks is None else chunks
    )


def opened(*readers: ShardReader, **settings: Any) -> PrefetchFeed:
    feed = PrefetchFeed(list(readers), **settings)
    feed.open()
    return feed


def end_threads(feed: PrefetchFeed, *sources: Source) -> None:
    feed.close()
    for source in sources:
        source.end()
    for thread in feed._threads:
        thread.join(LONG_S)
        assert not thread.is_alive()


def test_a_reader_gets_every_chunk_once_decoded_and_numbered():
    shard = shard_with(0, 1)
    reader = ShardReader(shard, num_samples=8)
    first = reader.read()
    assert sequences(first) == [0, 1]
    assert (first.first_chunk, first.granted, first.epoch) == (0, 8, shard.epoch)
    shard.insert(CHUNKS[2])
    second = reader.read()
    assert (sequences(second), second.first_chunk) == ([2], 2)
    third = reader.read()
    assert (sequences(third), third.first_chunk, third.granted) == ([], 3, 8)


def test_a_reader_labels_what_came_without_labels():
    """Whoever takes the item sees the same chunk as from an env runner that labels."""
    teacher = InferencePolicy(make_policy(seed=3))
    bare = [
        make_chunk(
            sequence=sequence, teacher_version=-1, teacher_dist_inputs=None, teacher_value=None
        )
        for sequence in range(2)
    ]
    shard = ReplayShard(capacity=10**6, limits=UNLIMITED)
    shard.insert(encode(bare[0]))
    shard.insert(CHUNKS[1])
    labeller = Labeller(teacher, micro_batch_size=5)
    item = ShardReader(shard, num_samples=8, labeller=labeller).read()
    assert sequences(item) == [0, 1]
    np.testing.assert_array_equal(item.chunks[0].labels, labeller.label(bare[0]).labels)
    np.testing.assert_array_equal(item.chunks[1].labels, decode(CHUNKS[1]).labels)
    (unlabelled, _) = ShardReader(shard, num_samples=8).read().chunks
    assert unlabelled.teacher_dist_inputs is None


def test_a_reader_that_must_wait_gets_none():
    assert ShardReader(shard_with(), num_samples=8).read() is None


def test_a_refill_comes_in_pieces():
    shard = shard_with(*range(MAX_CHUNKS_PER_SAMPLE + 2))
    reader = ShardReader(shard, num_samples=8)
    pieces = [reader.read(), reader.read()]
    assert [(piece.first_chunk, piece.granted) for piece in pieces] == [
        (0, 0),
        (MAX_CHUNKS_PER_SAMPLE, 8),
    ]


@pytest.mark.parametrize("before", [1, 2, 5])
@pytest.mark.parametrize("after", [1, 2, 4])
def test_a_shard_that_starts_again_is_read_from_its_first_chunk(before: int, after: int):
    """However many chunks it has by the time it is asked, none is skipped."""

    class Restarting:
        shard = shard_with(*range(before))

        def sample(
            self, *, cursor: int, num_samples: int, held: Collection[int]
        ) -> ReplaySample | None:
            return self.shard.sample(cursor=cursor, num_samples=num_samples, held=held)

    source = Restarting()
    reader = ShardReader(source, num_samples=8)
    reader.read()
    source.shard = shard_with(*range(after))
    items = [reader.read(), reader.read()]
    read = [
        (item.first_chunk + place, sequence)
        for item in items
        for place, sequence in enumerate(sequences(item))
    ]
    assert read == [(sequence, sequence) for sequence in range(after)]
    assert {item.epoch for item in items} == {source.shard.epoch}
    assert sum(item.granted for item in items) == source.shard.stats().sampled == 16


def test_a_direct_feed_asks_the_shards_in_turn():
    shards = [shard_with(0), shard_with(1), shard_with(2)]
    feed = DirectFeed([ShardReader(shard, num_samples=1) for shard in shards])
    assert [sequences(feed.get(0.0)) for _ in range(3)] == [[0], [1], [2]]
    shards[1].insert(CHUNKS[3])
    assert [sequences(feed.get(0.0)) for _ in range(3)] == [[], [3], []]


def test_a_direct_feed_passes_over_shards_that_have_nothing():
    shards = [shard_with(), shard_with(1), shard_with()]
    feed = DirectFeed([ShardReader(shard, num_samples=1) for shard in shards])
    assert sequences(feed.get(0.0)) == [1]
    assert sequences(feed.get(0.0)) == []
    empty = DirectFeed([ShardReader(shard_with(), num_samples=1)])
    assert empty.get(0.0) is None
    empty.close()


def test_a_prefetch_feed_gives_what_its_readers_read():
    source = Source(answer(2, chunks=CHUNKS[:2]), answer(3, chunks=CHUNKS[2:3]))
    feed = opened(ShardReader(source, num_samples=1))
    assert [sequences(feed.get(LONG_S)) for _ in range(2)] == [[0, 1], [2]]
    assert feed.get(0.0) is None
    source.add(answer(4, chunks=CHUNKS[3:4]))
    assert sequences(feed.get(LONG_S)) == [3]
    end_threads(feed, source)


def test_a_prefetch_feed_reads_every_shard_in_a_thread_of_its_own():
    """A shard that lets its reader wait does not hold up the others."""
    waiting, ready = Source(), Source(answer(1, chunks=CHUNKS[:1]))
    feed = opened(ShardReader(waiting, num_samples=1), ShardReader(ready, num_samples=1))
    waiting.wait_for_calls(1)
    assert sequences(feed.get(LONG_S)) == [0]
    end_threads(feed, waiting, ready)


def test_a_prefetch_feed_reads_no_further_than_its_queue():
    source = Source(*(answer(number) for number in range(1, 20)))
    feed = opened(ShardReader(source, num_samples=1))
    for taken in range(10):
        source.wait_for_calls(taken + QUEUE_SIZE + 1)
        assert source.calls == taken + QUEUE_SIZE + 1
        item = feed.get(LONG_S)
        assert item is not None
        assert item.granted == taken + 1
    end_threads(feed, source)


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        (ConnectionError("the shard is gone"), ConnectionError),
        (answer(1, chunks=[dataclasses.replace(CHUNKS[0], payload=CHUNKS[1].payload)]), CodecError),
    ],
    ids=["source", "codec"],
)
def test_what_breaks_in_a_reader_is_raised_in_the_learners_thread(broken, error):
    source = Source(answer(1), broken)
    feed = opened(ShardReader(source, num_samples=1))
    assert feed.get(LONG_S) is not None
    with pytest.raises(error):
        feed.get(LONG_S)
    feed._threads[0].join(LONG_S)
    assert not feed._threads[0].is_alive()
    assert source.calls == 2


def test_closing_ends_a_thread_that_waits_for_room():
    source = Source(*(answer(number) for number in range(1, 20)))
    feed = opened(ShardReader(source, num_samples=1))
    source.wait_for_calls(QUEUE_SIZE + 1)
    feed.close()
    feed._threads[0].join(LONG_S)
    assert not feed._threads[0].is_alive()


def test_closing_ends_a_thread_after_the_answer_it_waits_for():
    source = Source()
    feed = opened(ShardReader(source, num_samples=1))
    source.wait_for_calls(1)
    feed.close()
    source.add(answer(1))
    feed._threads[0].join(LONG_S)
    assert not feed._threads[0].is_alive()
    assert source.calls == 1


class Remembering:
    """A shard that tells what its reader said it held."""

    def __init__(self, shard: ReplayShard) -> None:
        self.shard = shard
        self.held: list[tuple[int, ...]] = []

    def sample(
        self, *, cursor: int, num_samples: int, held: Collection[int]
    ) -> ReplaySample | None:
        self.held.append(tuple(held))
        return self.shard.sample(cursor=cursor, num_samples=num_samples, held=held)


def revisiting_shard() -> ReplayShard:
    return ReplayShard(capacity=10**6, limits=UNLIMITED, revisits=1)


def test_a_reader_gets_older_chunks_again_that_its_window_lost():
    room = 3 * max(chunk.num_transitions for chunk in CHUNKS)
    source = Remembering(revisiting_shard())
    reader = ShardReader(source, num_samples=8, window=room)
    again = 0
    for number, chunk in enumerate(CHUNKS):
        source.shard.insert(chunk)
        item = reader.read()
        assert item is not None
        assert (sequences(item), item.first_chunk) == ([number], number)
        for old in item.revisited:
            again += 1
            assert old.chunk_id.sequence < number
            assert old.chunk_id.sequence not in source.held[-1]
    assert again == len(CHUNKS) - 1 - max(map(len, source.held[:4]))
    for held in source.held:
        assert sum(CHUNKS[number].num_transitions for number in held) <= room
    reader.read()
    assert source.held[-1][-1] == len(CHUNKS) - 1


def test_a_reader_whose_window_holds_all_sees_nothing_twice():
    source = Remembering(revisiting_shard())
    reader = ShardReader(source, num_samples=8, window=10**6)
    for chunk in CHUNKS:
        source.shard.insert(chunk)
        item = reader.read()
        assert item is not None
        assert item.revisited == []


def test_a_reader_without_a_window_of_its_own_keeps_no_account():
    source = Remembering(shard_with(0, 1, 2))
    reader = ShardReader(source, num_samples=8)
    reader.read()
    reader.read()
    assert source.held == [(), ()]


def test_what_a_former_life_of_a_shard_gave_is_forgotten():
    source = Remembering(revisiting_shard())
    reader = ShardReader(source, num_samples=8, window=10**6)
    for chunk in CHUNKS[:4]:
        source.shard.insert(chunk)
    reader.read()
    source.shard = revisiting_shard()
    for chunk in CHUNKS[4:6]:
        source.shard.insert(chunk)
    first, second = reader.read(), reader.read()
    assert (sequences(first), sequences(second)) == ([], [4, 5])
    assert source.held[1:] == [(0, 1, 2, 3), ()]
    reader.read()
    assert source.held[-1] == (0, 1)


def test_a_prefetch_feed_holds_as_many_answers_as_it_is_told():
    source = Source(*(answer(number) for number in range(1, 20)))
    feed = opened(ShardReader(source, num_samples=1), queue_size=7)
    source.wait_for_calls(8)
    assert source.calls == 8
    end_threads(feed, source)


def test_items_bring_compressed_chunks_along_where_they_are_asked_for():
    shard = revisiting_shard()
    reader = ShardReader(shard, num_samples=8, window=15, keep_encoded=True)
    for chunk in CHUNKS[:6]:
        shard.insert(chunk)
        item = reader.read()
        assert item is not None
        assert [encoded.chunk_id for encoded in item.encoded] == [chunk.chunk_id]
        again = [encoded.chunk_id for encoded in item.encoded_revisited]
        assert again == [old.chunk_id for old in item.revisited]
    assert again
    assert ShardReader(shard_with(0), num_samples=1).read().encoded == []


def test_a_kept_chunk_has_its_memory_to_itself():
    whole = np.concatenate([CHUNKS[0].payload, CHUNKS[1].payload])
    view = dataclasses.replace(CHUNKS[0], payload=whole[: CHUNKS[0].num_bytes])
    source = Source(answer(1, chunks=[view]))
    (kept,) = ShardReader(source, num_samples=1, keep_encoded=True).read().encoded
    assert not np.shares_memory(kept.payload, whole)
    np.testing.assert_array_equal(kept.payload, CHUNKS[0].payload)


def test_a_feed_goes_on_from_the_states_of_another():
    shards = [revisiting_shard(), revisiting_shard()]
    for number, chunk in enumerate(CHUNKS[:8]):
        shards[number % 2].insert(chunk)

    def readers() -> list[ShardReader]:
        return [ShardReader(shard, num_samples=8, window=30) for shard in shards]

    feed = DirectFeed(readers())
    feed.open()
    for _ in range(3):
        feed.get(0.0)
    resumed = DirectFeed(readers())
    resumed.open(feed.states())
    assert resumed.states() == feed.states()
    assert [state["granted"] for state in resumed.states()] == [16, 8]
    shards[1].insert(CHUNKS[8])
    assert sequences(resumed.get(0.0)) == [8]


def test_the_state_of_a_prefetch_feed_is_of_what_was_taken_out():
    """What waits in the queue is read again by a learner that starts again."""
    source = Source(*(answer(number) for number in range(1, 6)))
    feed = opened(ShardReader(source, num_samples=1))
    source.wait_for_calls(QUEUE_SIZE + 1)
    assert feed.states()[0]["cursor"] == 0
    assert feed.get(LONG_S) is not None
    assert feed.states() == [{"epoch": "a", "cursor": 1, "granted": 1, "held": []}]
    end_threads(feed, source)
    other = PrefetchFeed([ShardReader(Source(), num_samples=1)])
    states = feed.states()
    other._readers[0].load_state(states[0])
    assert [reader.state() for reader in other._readers] == states


def test_grants_are_counted_anew_in_every_life_of_a_shard():
    first, second = shard_with(0), shard_with(1)
    reader = ShardReader(Remembering(first), num_samples=8)
    reader.read()
    reader.read()
    assert reader.state()["granted"] == 16
    reader._source = second
    reader.read()
    assert (reader.state()["epoch"], reader.state()["granted"]) == (second.epoch, 8)
