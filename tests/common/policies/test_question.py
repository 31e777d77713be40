import pickle

import numpy as np
import pytest

from common.policies.question import pack, unpack
from tests.builders import make_chunk

INLINE_BYTES = 100_000
"""What Ray sends inside a call; larger arguments go through its object store."""


def noise(dtype: str, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    if dtype == "uint8":
        return rng.integers(256, size=shape, dtype=np.uint8)
    return rng.normal(size=shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("shape", [(5, 4, 6, 6), (1, 7), (0, 3)])
def test_observations_come_back_as_they_were(dtype, shape):
    observations = noise(dtype, *shape)
    packed = pickle.loads(pickle.dumps(pack(observations)))
    assert packed.num_rows == shape[0]
    back = unpack(packed)
    assert (back.dtype, back.shape) == (observations.dtype, observations.shape)
    np.testing.assert_array_equal(back, observations)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_views_are_packed_as_what_they_show(dtype):
    observations = noise(dtype, 6, 4, 5).swapaxes(0, 1)[::2]
    np.testing.assert_array_equal(unpack(pack(observations)), observations)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_what_comes_back_may_be_written_to(dtype):
    """Torch warns of arrays that may not."""
    back = unpack(pack(noise(dtype, 2, 3)))
    back[0] = 1
    assert (back[0] == 1).all()


def test_stacks_that_share_planes_travel_inside_a_call():
    """Even planes of noise are sent about once, though they lie in four stacks each."""
    chunk = make_chunk("frames", num_steps=120, num_envs=1, end_share=0.0)
    stacks = chunk.observations.take(np.arange(120))
    assert len(pack(stacks).payload) < 1.3 * stacks.nbytes / stacks.shape[1]
    frames = np.zeros((32, 4, 84, 84), np.uint8)
    frames[:, :, 40:44, 30:32] = np.arange(32, dtype=np.uint8)[:, None, None, None]
    assert len(pack(frames).payload) < INLINE_BYTES / 10
