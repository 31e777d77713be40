"""Chunks are counted once, and what was overtaken is known by size."""

import json

from common.trajectory import ChunkId, Life, TrajectoryChunk
from learners.counting import LifeCount, ReceivedChunks
from tests.builders import make_chunk


def made(number: int, runner: int = 0, incarnation: int = 0) -> list[TrajectoryChunk]:
    """Return the first chunks of a life."""
    chunks: list[TrajectoryChunk] = []
    for sequence in range(number):
        before = chunks[-1].steps_before + chunks[-1].num_transitions if chunks else 0
        chunks.append(
            make_chunk(
                sequence=sequence,
                chunk_id=ChunkId(runner, incarnation, sequence),
                steps_before=before,
            )
        )
    return chunks


def sizes(*chunks: TrajectoryChunk) -> list[int]:
    return [chunk.num_transitions for chunk in chunks]


def test_chunks_are_counted_once_in_any_order():
    chunks, received = made(5), ReceivedChunks()
    order = [chunks[place] for place in (0, 2, 1, 2, 0, 4, 3, 4, 3)]
    counted = [received.count(chunk) for chunk in order]
    assert [count > 0 for count in counted] == [True] * 3 + [False] * 2 + [True] * 2 + [False] * 2
    total = sum(sizes(*chunks))
    assert sum(counted) == total
    assert received.lives() == {Life(0, 0): LifeCount(total, total)}


def test_chunks_that_were_overtaken_are_missing_until_they_come():
    chunks, received = made(5), ReceivedChunks()
    for place in (0, 4):
        received.count(chunks[place])
    (found,) = received.lives().values()
    assert found.missing == sum(sizes(*chunks[1:4]))
    received.count(chunks[2])
    (found,) = received.lives().values()
    assert found.missing == sum(sizes(chunks[1], chunks[3]))


def test_lives_are_counted_apart():
    received = ReceivedChunks()
    lives = [Life(0, 0), Life(0, 1), Life(1, 0)]
    for life in lives:
        for chunk in made(2, *life):
            assert received.count(chunk) == chunk.num_transitions
    assert set(received.lives()) == set(lives)


def test_what_was_received_travels_through_a_checkpoint():
    chunks, received = made(4), ReceivedChunks()
    for place in (0, 3):
        received.count(chunks[place])
    state = json.loads(json.dumps(received.state()))
    restored = ReceivedChunks()
    restored.load_state(state)
    assert restored.lives() == received.lives()
    counted = [restored.count(chunk) for chunk in chunks]
    assert counted == [0, *sizes(*chunks[1:3]), 0]
