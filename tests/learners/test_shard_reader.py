import dataclasses
from collections.abc import Collection

import numpy as np
import pytest

from common.codec import decode, encode
from common.policies.inference import InferencePolicy
from common.replay.shard import MAX_CHUNKS_PER_SAMPLE, ReplaySample, ReplayShard
from learners.feed import ShardReader
from learners.labeller import Labeller
from tests.builders import make_chunk, make_policy
from tests.learners.shards import CHUNKS, Source, answer, revisiting_shard, sequences, shard_with


def test_a_reader_gets_every_chunk_once_and_decoded():
    shard = shard_with(0, 1)
    reader = ShardReader(shard, num_samples=8)
    first = reader.read()
    assert sequences(first) == [0, 1]
    assert (first.granted, reader.state()["epoch"]) == (8, shard.epoch)
    shard.insert(CHUNKS[2])
    second = reader.read()
    assert sequences(second) == [2]
    third = reader.read()
    assert (sequences(third), third.granted) == ([], 8)


def test_a_reader_labels_what_came_without_labels():
    """Whoever takes the item sees the same chunk as from an env runner that labels."""
    teacher = InferencePolicy(make_policy(seed=3))
    bare = [
        make_chunk(
            sequence=sequence, teacher_version=-1, teacher_dist_inputs=None, teacher_value=None
        )
        for sequence in range(2)
    ]
    shard = shard_with()
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
    assert [(sequences(piece)[0], piece.granted) for piece in pieces] == [
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
    assert [sequence for item in items for sequence in sequences(item)] == [*range(after)]
    assert reader.state()["epoch"] == source.shard.epoch
    assert sum(item.granted for item in items) == source.shard.stats().sampled == 16
    assert [item.again for item in items] == [0, 0]


def test_what_a_dead_reader_had_is_known_to_come_again():
    shard = shard_with(0, 1)
    former = ShardReader(shard, num_samples=8)
    assert former.read().again == 0
    shard.insert(CHUNKS[2])
    reader = ShardReader(shard, num_samples=8)
    first = reader.read()
    assert (sequences(first), first.again) == ([0, 1, 2], 2)
    shard.insert(CHUNKS[3])
    second = reader.read()
    assert (sequences(second), second.again) == ([3], 0)


def test_what_came_after_a_saved_state_and_died_is_known_to_come_again():
    shard = shard_with(0, 1)
    former = ShardReader(shard, num_samples=8)
    former.read()
    state = former.state()
    shard.insert(CHUNKS[2])
    former.read()
    shard.insert(CHUNKS[3])
    reader = ShardReader(shard, num_samples=8)
    reader.load_state(state)
    item = reader.read()
    assert (sequences(item), item.again) == ([2, 3], 1)


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


def test_a_reader_gets_older_chunks_again_that_its_window_lost():
    room = 3 * max(chunk.num_transitions for chunk in CHUNKS)
    source = Remembering(revisiting_shard())
    reader = ShardReader(source, num_samples=8, window=room)
    again = 0
    for number, chunk in enumerate(CHUNKS):
        source.shard.insert(chunk)
        item = reader.read()
        assert item is not None
        assert sequences(item) == [number]
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


def test_grants_are_counted_anew_in_every_life_of_a_shard():
    first, second = shard_with(0), shard_with(1)
    reader = ShardReader(Remembering(first), num_samples=8)
    reader.read()
    reader.read()
    assert reader.state()["granted"] == 16
    reader._source = second
    reader.read()
    assert (reader.state()["epoch"], reader.state()["granted"]) == (second.epoch, 8)
