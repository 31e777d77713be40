import gymnasium
import numpy as np
import pytest

from common.vector_observations import with_vectors
from tests.matrices import Matrices


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("shape", "size"), [((2, 3), 6), ((1, 4), 4), ((), 1)])
def test_rows_of_floats_follow_one_another(shape: tuple[int, ...], size: int, dtype: str) -> None:
    env = with_vectors(Matrices(shape, dtype))
    assert env.observation_space.shape == (size,)
    observation = env.reset()[0]
    assert observation.tolist() == list(range(size))
    assert env.observation_space.contains(observation)
    assert env.step(np.int64(1))[0].tolist() == list(range(10, 10 + size))


@pytest.mark.parametrize(
    "env",
    [
        Matrices((6,)),
        Matrices((2, 3, 1)),
        Matrices((2, 3), "int64"),
        gymnasium.make("FrozenLake-v1"),
    ],
)
def test_everything_else_stays_as_it_is(env: gymnasium.Env) -> None:
    assert with_vectors(env) is env
