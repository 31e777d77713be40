"""The environment in which RLlib trains a teacher."""

from typing import Any

import gymnasium

from common.vector_observations import with_vectors


class TaughtEnvironment(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A recipe's environment with the vectors that env runners see, in the way RLlib makes one.

    Args:
        environment: `environment` of the teacher's specification: `id` and `kwargs`.
    """

    def __init__(self, environment: dict[str, Any]) -> None:
        super().__init__(with_vectors(gymnasium.make(environment["id"], **environment["kwargs"])))
