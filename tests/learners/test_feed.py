import dataclasses
from typing import Any

import pytest

from common.codec import CodecError
from learners.feed import QUEUE_SIZE, DirectFeed, PrefetchFeed, ShardReader
from tests.learners.shards import (
    CHUNKS,
    LONG_S,
    Source,
    answer,
    revisiting_shard,
    sequences,
    shard_with,
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


def test_a_prefetch_feed_holds_as_many_answers_as_it_is_told():
    source = Source(*(answer(number) for number in range(1, 20)))
    feed = opened(ShardReader(source, num_samples=1), queue_size=7)
    source.wait_for_calls(8)
    assert source.calls == 8
    end_threads(feed, source)


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
