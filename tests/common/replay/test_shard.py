import dataclasses
import pickle

import numpy as np
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


def test_the_oldest_chunks_leave_where_the_bytes_are_too_many():
    for spare in (0, TEMPLATE.num_bytes - 1):
        shard = ReplayShard(
            capacity=10**6, limits=UNLIMITED, max_bytes=3 * TEMPLATE.num_bytes + spare
        )
        for sequence in range(5):
            shard.insert(chunk(sequence))
        assert sequences(answer(shard, 0)) == [2, 3, 4]
        assert shard.stats().num_bytes == 3 * TEMPLATE.num_bytes


@pytest.mark.parametrize(("capacity", "max_chunks"), [(2, 4), (4, 2)])
def test_whichever_limit_is_passed_first_counts(capacity: int, max_chunks: int):
    max_bytes = max_chunks * TEMPLATE.num_bytes
    shard = ReplayShard(capacity=capacity * SIZE, limits=UNLIMITED, max_bytes=max_bytes)
    for sequence in range(6):
        shard.insert(chunk(sequence))
    assert sequences(answer(shard, 0)) == [4, 5]


def test_one_chunk_is_kept_even_above_the_bytes():
    shard = ReplayShard(capacity=10**6, limits=UNLIMITED, max_bytes=1)
    for sequence in range(3):
        shard.insert(chunk(sequence))
    assert sequences(answer(shard, 0)) == [2]


def borrowed(sequence: int) -> tuple[EncodedChunk, bytearray]:
    """Return a chunk as Ray hands it over: a view into memory that belongs to someone else."""
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(chunk(sequence), protocol=5, buffer_callback=buffers.append)
    (memory,) = (bytearray(buffer.raw()) for buffer in buffers)
    found = pickle.loads(data, buffers=[memory])
    assert isinstance(found, EncodedChunk)
    return found, memory


def test_a_shard_owns_the_bytes_that_it_keeps():
    given, memory = borrowed(0)
    assert not given.payload.flags.owndata
    shard = ReplayShard(capacity=10**6, limits=UNLIMITED)
    shard.insert(given)
    (kept,) = answer(shard, 0).chunks
    assert kept.payload.base is None
    assert kept.payload.flags.owndata
    assert not np.shares_memory(kept.payload, given.payload)
    memory[:] = bytes(len(memory))
    np.testing.assert_array_equal(kept.payload, TEMPLATE.payload)


def test_bytes_that_a_chunk_owns_are_not_copied():
    given = dataclasses.replace(TEMPLATE, payload=TEMPLATE.payload.copy())
    shard = ReplayShard(capacity=10**6, limits=UNLIMITED)
    shard.insert(given)
    assert answer(shard, 0).chunks == [given]


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
    assert answer(shard, 2, SIZE - 1).granted == SIZE - 1
    assert answer(shard, 2, SIZE).granted == 1
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


def revisiting(num_chunks: int, *, revisits: int = 1, seed: int = 0, **settings) -> ReplayShard:
    values = {"capacity": 10**6, "limits": UNLIMITED} | settings
    shard = ReplayShard(**values, revisits=revisits, seed=(seed,))
    for sequence in range(num_chunks):
        shard.insert(chunk(sequence))
    return shard


def revisited(sample: ReplaySample) -> list[int]:
    """Return the numbers of the older chunks; here a chunk's number is its sequence."""
    for number, found in sample.revisited.items():
        assert found.chunk_id.sequence == number
    return list(sample.revisited)


def test_every_new_chunk_brings_older_ones_that_are_not_held():
    shard = revisiting(6, revisits=2)
    sample = answer(shard, 5)
    assert sequences(sample) == [5]
    assert len(set(revisited(sample))) == 2
    assert set(revisited(sample)) <= set(range(5))
    shard.insert(chunk(6))
    assert set(revisited(shard.sample(cursor=6, num_samples=1, held=[5, 4, 1]))) < {0, 2, 3}
    for number in (7, 8):
        shard.insert(chunk(number))
    many = shard.sample(cursor=7, num_samples=1, held=[5, 4, 1, 6])
    assert set(revisited(many)) == {0, 2, 3}  # four were wanted
    assert sequences(many) == [7, 8]


def test_without_a_new_chunk_nothing_is_revisited():
    shard = revisiting(6)
    assert revisited(answer(shard, 6)) == []


def test_where_all_is_held_or_new_nothing_is_revisited():
    shard = revisiting(6)
    assert revisited(shard.sample(cursor=4, num_samples=1, held=range(4))) == []
    assert revisited(answer(shard, 0)) == []


def test_a_refill_brings_old_chunks_once_and_revisits_with_its_last_piece():
    shard = revisiting(2 * MAX_CHUNKS_PER_SAMPLE)
    first = answer(shard, 0)
    assert revisited(first) == []
    last = answer(shard, first.cursor)
    assert set(revisited(last)) == set(range(MAX_CHUNKS_PER_SAMPLE))


def test_revisits_change_neither_cursor_nor_counts():
    plain, shard = filled(9), revisiting(9, revisits=3)
    for cursor in (0, 7, 8, 9, 30):
        wanted, found = answer(plain, cursor, 4), answer(shard, cursor, 4)
        assert (wanted.granted, wanted.cursor) == (found.granted, found.cursor)
        assert sequences(wanted) == sequences(found)
    assert dataclasses.replace(plain.stats(), epoch=shard.epoch) == shard.stats()


def test_only_what_is_stored_is_revisited():
    shard = revisiting(10, revisits=9, capacity=4 * SIZE)
    assert sorted(revisited(answer(shard, 9))) == [6, 7, 8]


def test_over_time_the_whole_store_is_revisited_evenly():
    """With a store of 40 chunks and one revisit a chunk, each comes again once in its life."""
    shard, counts = revisiting(0, capacity=40 * SIZE), np.zeros(4_000, int)
    for number in range(len(counts)):
        shard.insert(chunk(number))
        held = range(max(0, number - 4), number)
        drawn = revisited(shard.sample(cursor=number, num_samples=1, held=held))
        assert len(drawn) == (number > 4)
        assert all(number - 40 < old < number - 4 for old in drawn)
        counts[drawn] += 1
    settled = counts[50:-50]
    assert settled.mean() == pytest.approx(1.0, abs=0.05)
    assert settled.var() == pytest.approx(1.0, abs=0.15)  # as of independent draws
    assert (settled == 0).mean() == pytest.approx(np.exp(-1), abs=0.05)


def test_the_seed_decides_what_is_revisited():
    def drawn(seed: int) -> list[int]:
        shard = revisiting(200, seed=seed)
        return [n for cursor in range(192, 200) for n in revisited(answer(shard, cursor))]

    assert drawn(1) == drawn(1) != drawn(2)


def test_a_request_that_must_wait_draws_nothing():
    """However often a shard is asked in vain, the answer is the same."""
    limits = RateLimits(samples_per_insert=1.0, min_size_to_sample=SIZE, error_buffer=SIZE)
    answers = []
    for asked in (0, 5):
        shard = revisiting(20, limits=limits)
        assert answer(shard, 20, 30 * SIZE).granted == 20 * SIZE
        for _ in range(asked):
            assert shard.sample(cursor=19, num_samples=1) is None
        shard.insert(chunk(20))
        answers.append(revisited(answer(shard, 20)))
    assert answers[0] == answers[1] != []


def test_what_was_not_handed_out_is_told_by_life():
    shard = filled(3)
    shard.insert(chunk(0, runner=1))
    assert shard.stats().unseen == {(0, 0): 3 * SIZE, (1, 0): SIZE}
    first = answer(shard, 0)
    shard.insert(chunk(1, runner=1))
    assert shard.stats().unseen == {(1, 0): SIZE}
    answer(shard, first.cursor)
    assert shard.stats().unseen == {}


def test_a_learner_that_starts_again_has_not_seen_what_is_stored():
    count = MAX_CHUNKS_PER_SAMPLE + 3
    shard = filled(count)
    refill = answer(shard, answer(shard, 0).cursor)
    assert shard.stats().unseen == {}
    assert refill.cursor == count
    answer(shard, 0)
    assert shard.stats().unseen == {(0, 0): 3 * SIZE}
