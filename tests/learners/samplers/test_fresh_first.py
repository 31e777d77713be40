import numpy as np
import pytest

from common.replay.sampler_config import FreshFirst
from learners.samplers.fresh_first import FreshFirstSampler
from tests.learners.samplers.ring import CPU, Ring, drawn


def ring_of(*sizes: int, capacity: int = 100) -> tuple[Ring, list[range]]:
    ring = Ring(FreshFirstSampler(FreshFirst(), capacity=capacity, device=CPU), capacity)
    return ring, [ring.insert(size) for size in sizes]


@pytest.mark.parametrize("seed", range(5))
def test_at_one_sample_per_insert_each_row_is_drawn_exactly_once(seed: int):
    rng = np.random.default_rng(seed)
    ring, _ = ring_of(capacity=200)
    for size in rng.integers(1, 40, size=200).tolist():
        new = ring.insert(size)
        assert sorted(drawn(ring.sampler, size, seed=rng)) == list(new)


@pytest.mark.parametrize("batch", [1, 7, 16])
def test_no_row_is_drawn_twice_while_another_was_never_drawn(batch: int):
    ring, chunks = ring_of(30, 20, 40)
    rng = np.random.default_rng(0)
    found: list[int] = []
    while len(found) < 90:
        found += drawn(ring.sampler, batch, seed=rng)
    assert set(found[:90]) == ring.rows
    assert [set(found[:40]), set(found[40:60]), set(found[60:90])] == [
        set(chunk) for chunk in reversed(chunks)
    ]
    assert found[:40] != sorted(found[:40])


def test_a_newer_chunk_goes_before_what_is_left_of_an_older_one():
    ring, (old,) = ring_of(10)
    first = drawn(ring.sampler, 4)
    new = ring.insert(3)
    second = drawn(ring.sampler, 9)
    assert set(second[:3]) == set(new)
    assert set(first + second[3:]) == set(old)


def test_what_a_batch_lacks_is_drawn_uniformly():
    ring, chunks = ring_of(10, 10)
    found = drawn(ring.sampler, 20 + 20_000)
    assert set(found[:20]) == ring.rows
    counts = np.bincount(found[20:])
    assert len(counts) == sum(map(len, chunks))
    assert abs(counts - 1_000).max() < 5 * 1_000**0.5


def test_rows_that_come_again_are_not_fresh():
    ring, (new,) = ring_of(5)
    ring.insert(50, revisited=True)
    assert set(drawn(ring.sampler, 5)) == set(new)


def test_fresh_rows_that_left_are_gone():
    ring, _ = ring_of(10, 10, capacity=20)
    third = ring.insert(10)  # where the first lay
    found = drawn(ring.sampler, 20)
    assert set(found[:10]) == set(third)
    assert set(found[10:]) == set(range(10, 20))
    ring.insert(10, revisited=True)
    ring.insert(10, revisited=True)
    assert ring.rows == set(range(20))
    assert len(set(drawn(ring.sampler, 20))) < 20  # uniform, with replacement
