import numpy as np
import pytest

from common.frames import FramePacker
from tests.builders import pack, random_ends, random_stacks


def play(seed: int, num_steps: int, num_envs: int, stack: int, end_share: float):
    rng = np.random.default_rng(seed)
    _, _, fresh = random_ends(rng, num_steps, num_envs, end_share)
    return random_stacks(rng, fresh, stack=stack, size=5), fresh


@pytest.mark.parametrize("stack", [1, 2, 4])
@pytest.mark.parametrize("end_share", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_stacks_come_back_exactly(stack, end_share, seed):
    stacks, fresh = play(seed, num_steps=20, num_envs=3, stack=stack, end_share=end_share)
    packed = pack(stacks, fresh)
    np.testing.assert_array_equal(packed.stacks(), stacks)
    assert packed.steps == (20, 3)


@pytest.mark.parametrize("stack", [1, 2, 4])
@pytest.mark.parametrize("end_share", [0.0, 0.1, 0.5])
def test_every_plane_is_stored_once(stack, end_share):
    stacks, fresh = play(5, num_steps=20, num_envs=3, stack=stack, end_share=end_share)
    resets = int(fresh[1:].sum())
    head = stack - 1
    assert len(pack(stacks, fresh).planes) == 3 * (20 + head) + resets * head


def test_stacks_that_are_all_fresh_outgrow_the_first_reservation():
    rng = np.random.default_rng(0)
    fresh = np.ones((15, 2), np.bool_)
    stacks = random_stacks(rng, fresh, stack=4, size=5)
    packed = pack(stacks, fresh)
    np.testing.assert_array_equal(packed.stacks(), stacks)
    assert len(packed.planes) == stacks[:, :, 0, 0, 0].size * 4


def test_a_chunk_border_cuts_an_episode_without_loss():
    stacks, fresh = play(1, num_steps=21, num_envs=3, stack=4, end_share=0.2)
    packer = FramePacker(7, *stacks.shape[1:])
    chunks = []
    for start in range(0, 21, 7):
        for t in range(start, start + 7):
            packer.append(stacks[t], np.flatnonzero(fresh[t]))
        chunks.append(packer.finish())
    for start, chunk in zip(range(0, 21, 7), chunks, strict=True):
        np.testing.assert_array_equal(chunk.stacks(), stacks[start : start + 7])
        resets = int(fresh[start + 1 : start + 7].sum())
        assert len(chunk.planes) == 3 * (7 + 3) + 3 * resets


def test_what_was_appended_may_be_written_over():
    stacks, fresh = play(2, num_steps=6, num_envs=2, stack=3, end_share=0.3)
    packer = FramePacker(*stacks.shape)
    buffer = np.empty_like(stacks[0])
    for row, starts in zip(stacks, fresh, strict=True):
        buffer[:] = row
        packer.append(buffer, np.flatnonzero(starts))
    np.testing.assert_array_equal(packer.finish().stacks(), stacks)


def test_a_chunk_may_end_early():
    stacks, fresh = play(3, num_steps=8, num_envs=2, stack=4, end_share=0.2)
    packer = FramePacker(*stacks.shape)
    for t in range(5):
        packer.append(stacks[t], np.flatnonzero(fresh[t]))
    np.testing.assert_array_equal(packer.finish().stacks(), stacks[:5])


def test_rows_are_taken_by_number():
    stacks, fresh = play(4, num_steps=9, num_envs=3, stack=4, end_share=0.2)
    rows = np.array([26, 0, 13, 13, 5])
    taken = pack(stacks, fresh).take(rows)
    np.testing.assert_array_equal(taken, stacks[rows // 3, rows % 3])
    assert taken.flags.writeable
