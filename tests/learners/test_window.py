from itertools import accumulate

import numpy as np
import pytest
import torch

from common.codec import decode, encode
from common.networks.inputs import cut_stacks
from common.replay.sampler_config import UNIFORM
from common.trajectory import TrajectoryChunk
from learners.batch import DistillBatch
from learners.samplers import make_sampler
from learners.samplers.uniform import UniformSampler
from learners.window import TransitionWindow
from tests.builders import SIZE, STACK, make_chunk, observations_of

CPU = torch.device("cpu")
KINDS = ["frames", "vectors"]


def window_of(
    capacity: int, *chunks: TrajectoryChunk, block: int | None = None
) -> TransitionWindow:
    sampler = make_sampler(UNIFORM, capacity=capacity, device=CPU)
    window = TransitionWindow(
        capacity, teacher_dist="logits", device=CPU, sampler=sampler, block=block
    )
    for chunk in chunks:
        window.insert(chunk)
    return window


def sample(window: TransitionWindow, num_rows: int, *, seed: int = 0) -> DistillBatch:
    return window.gather(window._sampler.draw(np.random.default_rng(seed), num_rows).rows)


def valid_rows(chunk: TrajectoryChunk) -> set[float]:
    """Return the rewards, which are the names of the rows, that may be learnt from."""
    return set(chunk.rewards[chunk.valid].tolist())


def stored_rows(window: TransitionWindow) -> set[float]:
    """Return the rows that a great many samples show."""
    draws = 40 * len(window)
    return set(sample(window, draws, seed=0).rewards.tolist())


def random_chunks(kind, count: int, *, end_share: float = 0.2) -> list[TrajectoryChunk]:
    """Return chunks of many shapes."""
    rng = np.random.default_rng(count)
    return [
        make_chunk(
            kind,
            sequence=sequence,
            num_steps=int(rng.integers(4, 9)),
            num_envs=int(rng.integers(1, 4)),
            end_share=end_share,
        )
        for sequence in range(count)
    ]


def assert_rows_are_those_of(batch: DistillBatch, chunks: list[TrajectoryChunk]) -> None:
    """Find every sampled row in its chunk by its reward, and compare all that it holds."""
    places = {
        float(chunk.rewards[t, n]): (chunk, t, n)
        for chunk in chunks
        for t, n in np.argwhere(chunk.valid)
    }
    stacks = {id(chunk): observations_of(chunk) for chunk in chunks}
    for row, reward in enumerate(batch.rewards.tolist()):
        chunk, t, n = places[reward]
        np.testing.assert_array_equal(batch.observations[row].numpy(), stacks[id(chunk)][t, n])
        assert batch.actions[row] == chunk.actions[t, n]
        np.testing.assert_array_equal(
            batch.teacher_dist_inputs[row].numpy(),
            chunk.teacher_dist_inputs[t, n].astype(np.float32),
        )
        assert chunk.teacher_value is not None
        assert batch.teacher_value is not None
        assert batch.teacher_value[row] == chunk.teacher_value[t, n]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end_share", [0.0, 0.15, 0.5])
def test_samples_are_exactly_the_rows_of_their_chunks_over_many_laps_of_the_rings(kind, end_share):
    chunks = random_chunks(kind, 40, end_share=end_share)
    window = window_of(60)
    for chunk in chunks:
        window.insert(chunk)
        assert_rows_are_those_of(sample(window, 32, seed=1), chunks)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end_share", [0.0, 0.15, 0.5])
def test_the_newest_chunks_stay_and_the_oldest_leave(kind, end_share):
    chunks = random_chunks(kind, 40, end_share=end_share)
    window = window_of(60)
    for newest, chunk in enumerate(chunks, start=1):
        window.insert(chunk)
        suffixes = list(accumulate(map(valid_rows, reversed(chunks[:newest])), set.union))
        assert stored_rows(window) in suffixes
        assert len(window) == len(stored_rows(window)) <= 60


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_that_fit_exactly_fill_the_window(kind):
    chunks = [
        make_chunk(kind, sequence=sequence, num_steps=20, num_envs=1, end_share=0.0)
        for sequence in range(11)
    ]
    window = window_of(80)
    for newest, chunk in enumerate(chunks, start=1):
        window.insert(chunk)
        kept = chunks[max(0, newest - 4) : newest]
        assert stored_rows(window) == set.union(*map(valid_rows, kept))


def test_a_wrap_that_leaves_a_gap_loses_no_order():
    """Rows that no longer fit at the ring's end begin anew, over the oldest."""
    sizes = [4, 4, 5, 3, 6, 2, 5, 5, 1, 6]
    chunks = [
        make_chunk(sequence=sequence, num_steps=size, num_envs=1, end_share=0.0)
        for sequence, size in enumerate(sizes)
    ]
    window = window_of(12)
    lengths = []
    for chunk in chunks:
        window.insert(chunk)
        assert valid_rows(chunk) <= stored_rows(window)
        lengths.append(len(window))
    assert lengths == [4, 8, 5, 8, 6, 8, 7, 10, 11, 7]  # by hand


@pytest.mark.parametrize("kind", KINDS)
def test_invalid_rows_are_never_sampled(kind):
    chunk = make_chunk(kind, num_steps=30, end_share=0.5)
    window = window_of(200, chunk)
    assert 0 < chunk.num_transitions < chunk.valid.size
    assert len(window) == chunk.num_transitions
    assert stored_rows(window) == valid_rows(chunk)


@pytest.mark.parametrize("kind", KINDS)
def test_a_chunk_without_a_valid_row_changes_nothing(kind):
    chunk = make_chunk(kind, sequence=0)
    empty = make_chunk(kind, sequence=1, valid=np.zeros_like(chunk.valid))
    window = window_of(100, chunk, empty)
    assert stored_rows(window) == valid_rows(chunk)
    assert len(window_of(100, empty)) == 0


def test_the_sampler_hears_of_every_chunk_that_comes_and_goes():
    heard: list[tuple[str, int, int, bool]] = []

    class Listener(UniformSampler):
        def insert(self, start: int, stop: int, *, revisited: bool) -> None:
            heard.append(("in", start, stop, revisited))

        def remove(self, start: int, stop: int) -> None:
            heard.append(("out", start, stop, False))

    sampler = Listener(UNIFORM, capacity=10, device=CPU)
    window = TransitionWindow(10, teacher_dist="logits", device=CPU, sampler=sampler)
    for sequence, size in enumerate((4, 5, 3)):
        chunk = make_chunk(sequence=sequence, num_steps=size, num_envs=1, end_share=0.0)
        window.insert(chunk, revisited=sequence == 1)
    assert heard == [
        ("in", 0, 4, False),
        ("in", 4, 9, True),
        ("out", 0, 4, False),
        ("in", 0, 3, False),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_has_the_types_that_objectives_expect(kind):
    chunk = make_chunk(kind)
    batch = sample(window_of(100, chunk), 7, seed=0)
    assert batch.size == 7
    assert batch.observations.dtype == (torch.uint8 if kind == "frames" else torch.float32)
    assert (batch.actions.dtype, batch.rewards.dtype) == (torch.int64, torch.float32)
    assert batch.teacher_dist_inputs.dtype == torch.float32
    assert batch.teacher_dist == "logits"


@pytest.mark.parametrize("kind", KINDS)
def test_decoded_chunks_are_copied_in(kind):
    chunk = make_chunk(kind)
    window = window_of(100, decode(encode(chunk)))
    batch = sample(window, 16, seed=0)
    batch.rewards.zero_()
    batch.observations.zero_()
    assert_rows_are_those_of(sample(window, 16, seed=1), [chunk])


def test_without_a_value_head_there_are_no_values():
    window = window_of(100, make_chunk(has_value=False))
    assert sample(window, 4, seed=0).teacher_value is None


def test_q_values_keep_their_precision():
    chunk = make_chunk(dist="q_values")
    batch = sample(window_of(100, chunk), 32, seed=0)
    labels = {tuple(row) for row in chunk.teacher_dist_inputs.reshape(-1, 3).tolist()}
    assert {tuple(row) for row in batch.teacher_dist_inputs.tolist()} <= labels


@pytest.mark.parametrize("end_share", [0.0, 0.3])
def test_squares_hold_the_stacks_that_whole_planes_hold(end_share):
    chunks = [make_chunk("frames", sequence=s, end_share=end_share) for s in range(3)]
    whole, squares = window_of(200, *chunks), window_of(200, *chunks, block=2)
    wanted = sample(whole, 40).observations.numpy()
    found = sample(squares, 40).observations.numpy()
    assert found.shape == (40, STACK, SIZE // 2, SIZE // 2, 4)
    np.testing.assert_array_equal(found, cut_stacks(wanted, 2))


def test_vectors_as_actions_are_gathered_with_their_rows():
    shape = (8, 3)
    values = np.random.default_rng(0).normal(size=(*shape, 2)).astype(np.float32)
    chunk = make_chunk(actions=values)
    batch = sample(window_of(60, chunk), 50)
    assert batch.actions.dtype == torch.float32
    places = {float(chunk.rewards[t, n]): (t, n) for t, n in np.ndindex(shape)}
    wanted = [values[places[reward]] for reward in batch.rewards.tolist()]
    np.testing.assert_array_equal(batch.actions.numpy(), wanted)
