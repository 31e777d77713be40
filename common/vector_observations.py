"""Matrices of floats as vectors: a driving environment shows a row of features for each vehicle.

Env runners, and the training and evaluation of teachers, all make environments through this, so a
trained teacher has seen what its student sees.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.wrappers import FlattenObservation


def with_vectors(env: gymnasium.Env[Any, Any]) -> Any:
    """Return `env` with its rows of floats one after another.

    Args:
        env: returned as it is, unless its observations are floats [R, F] or [], which become
            vectors [R·F] or [1]. Floats with more axes may be pictures, and stay.
    """
    # This returns an Env; `make_vec` takes one, but its annotation asks for a Wrapper, hence `Any`.
    space = env.observation_space
    if not isinstance(space, Box) or not np.issubdtype(np.dtype(space.dtype), np.floating):
        return env
    return FlattenObservation(env) if len(space.shape) in (0, 2) else env
