import dataclasses

import pytest

from common.codec import EncodedChunk, encode
from common.replay.rate_limiter import RateLimits
from common.replay.shard import MAX_CHUNKS_PER_SAMPLE, REMEMBERED_IDS, ReplaySample, ReplayShard
from common.trajectory import ChunkId
from tests.builders import make_chunk

UNLIMITED = RateLimits(samples_per_insert=1.0, min_size_to_sample=1, error_buffer=1e9)
TEMPLATE = encode(make_chunk(num_steps=5, num_envs=2, end_share=0.0))
SIZE = TEMPLATE.num_transitions


def chunk(sequence: int, *, runner: int = 0, incarnation: int = 0) -> EncodedChunk:
    return dataclasses.replace(TEMPLATE, chunk_id=ChunkId(runner, incarnation, sequence))


def filled(num_chunks: int, *, capacity: int = 10**6, limits: RateLimits = UNLIMITED):
    shard = ReplayShard(capacity=capacity, limits=limits)
    for sequence in range(num_chunks):
        shard.insert(chunk(sequence))
    return shard


def answer(shard: ReplayShard, cursor: int, num_samples: int = 1) -> ReplaySample:
    sample = shard.sample(cursor=cursor, num_samples=num_samples)
    assert sample is not None
    return sample


def sequences(sample: ReplaySample) -> list[int]:
    return [chunk.chunk_id.sequence for chunk in sample.chunks]


def test_a_chunk_that_comes_twice_is_stored_and_counted_once():
    shard = filled(2)
    assert not shard.insert(chunk(1))
    assert not shard.insert(chunk(0))
    assert sequences(answer(shard, 0)) == [0, 1]
    stats = shard.stats()
    assert (stats.inserted, stats.transitions, stats.duplicates) == (2 * SIZE, 2 * SIZE, 2)


def test_a_chunk_that_was_evicted_is_still_recognised():
    shard = filled(3, capacity=SIZE)
    assert not shard.insert(chunk(0))
    assert sequences(answer(shard, 0)) == [2]


def test_other_runners_and_later_starts_number_their_chunks_on_their_own():
    shard = ReplayShard(capacity=10**6, limits=UNLIMITED)
    assert shard.insert(chunk(0))
    assert shard.insert(chunk(0, runner=1))
    assert shard.insert(chunk(0, incarnation=1))
    assert shard.stats().duplicates == 0


def test_ids_are_remembered_for_a_bounded_number_of_chunks():
    shard = ReplayShard(capacity=SIZE, limits=UNLIMITED)
    for sequence in range(REMEMBERED_IDS + 1):
        shard.insert(chunk(sequence))
    assert not shard.insert(chunk(1))
    assert shard.insert(chunk(0))


def test_the_oldest_chunks_leave_where_the_capacity_is_reached():
    shard = filled(5, capacity=3 * SIZE)
    assert sequences(answer(shard, 0)) == [2, 3, 4]
    stats = shard.stats()
    assert stats.transitions == 3 * SIZE
    assert stats.num_bytes == 3 * TEMPLATE.num_bytes
    assert stats.inserted == 5 * SIZE


def test_one_chunk_is_kept_even_above_the_capacity():
    assert sequences(answer(filled(3, capacity=1), 0)) == [2]


def test_a_cursor_gets_every_chunk_once():
    shard = filled(2)
    first = answer(shard, 0)
    assert (sequences(first), first.cursor) == ([0, 1], 2)
    assert sequences(answer(shard, first.cursor)) == []
    shard.insert(chunk(2))
    second = answer(shard, first.cursor)
    assert (sequences(second), second.cursor) == ([2], 3)


def test_a_reader_that_starts_again_gets_all_that_is_stored():
    shard = filled(6, capacity=4 * SIZE)
    assert answer(shard, 0).cursor == 6
    assert sequences(answer(shard, 0)) == [2, 3, 4, 5]


def test_a_cursor_behind_the_oldest_chunk_goes_on_at_it():
    shard = filled(2)
    cursor = answer(shard, 0).cursor
    for sequence in range(2, 8):
        shard.insert(chunk(sequence))
    small = filled(8, capacity=3 * SIZE)
    assert sequences(answer(shard, cursor)) == [2, 3, 4, 5, 6, 7]
    sample = answer(small, cursor)
    assert (sequences(sample), sample.cursor) == ([5, 6, 7], 8)


def test_a_cursor_of_a_former_life_starts_at_the_beginning():
    sample = answer(filled(2), 7)
    assert (sequences(sample), sample.cursor) == ([0, 1], 2)


def test_every_life_has_an_epoch_of_its_own():
    first, second = filled(1), filled(1)
    assert answer(first, 0).epoch == answer(first, 1).epoch == first.epoch
    assert first.epoch != second.epoch


def test_a_lagging_cursor_is_refilled_first_and_granted_with_the_last_piece():
    num_chunks = 2 * MAX_CHUNKS_PER_SAMPLE + 3
    shard = filled(num_chunks)
    pieces, cursor = [], 0
    for _ in range(3):
        pieces.append(answer(shard, cursor, num_samples=16))
        cursor = pieces[-1].cursor
    assert [piece.granted for piece in pieces] == [0, 0, 16]
    assert [n for piece in pieces for n in sequences(piece)] == list(range(num_chunks))
    assert shard.stats().sampled == 16


def test_a_refill_is_given_even_where_samples_must_wait():
    limits = RateLimits(samples_per_insert=1.0, min_size_to_sample=10**6, error_buffer=1e9)
    shard = filled(MAX_CHUNKS_PER_SAMPLE + 1, limits=limits)
    piece = answer(shard, 0)
    assert (piece.granted, len(piece.chunks)) == (0, MAX_CHUNKS_PER_SAMPLE)
    assert shard.sample(cursor=piece.cursor, num_samples=1) is None


def test_samples_wait_for_the_rate_limiter_and_are_counted():
    limits = RateLimits(samples_per_insert=1.0, min_size_to_sample=2 * SIZE, error_buffer=2 * SIZE)
    shard = filled(1, limits=limits)
    assert shard.sample(cursor=0, num_samples=SIZE) is None
    shard.insert(chunk(1))
    assert answer(shard, 0, SIZE).granted == SIZE
    assert answer(shard, 2, SIZE).granted == SIZE
    assert shard.sample(cursor=2, num_samples=SIZE) is None
    assert shard.stats().sampled == 2 * SIZE


def test_inserts_wait_for_the_rate_limiter():
    limits = RateLimits(samples_per_insert=1.0, min_size_to_sample=SIZE, error_buffer=SIZE)
    shard = filled(2, limits=limits)
    assert shard.can_insert()
    shard.insert(chunk(2))
    assert not shard.can_insert()
    answer(shard, 0, SIZE)
    assert shard.can_insert()


@pytest.mark.parametrize("cursor", [0, 5])
def test_an_empty_shard_has_nothing(cursor: int):
    shard = ReplayShard(capacity=10, limits=UNLIMITED)
    assert shard.sample(cursor=cursor, num_samples=1) is None
