"""A policy that plays several env copies at once, with what it remembers of each.

A feed-forward policy remembers nothing, and is asked as if this were not here.
"""

import numpy as np
import numpy.typing as npt

from common.policies.inference import InferencePolicy, Observations, PolicyOutputs
from common.policies.spec import PolicySpec


class RememberingPolicy:
    """A policy and the memory of each of N env copies.

    Args:
        policy: the policy.
        num_copies: N.
    """

    def __init__(self, policy: InferencePolicy, num_copies: int) -> None:
        self._policy = policy
        shape = policy.memory_shape
        self._memory: npt.NDArray[np.float32] | None = None
        if shape is not None:
            self._memory = np.zeros((num_copies, *shape), np.float32)

    @property
    def spec(self) -> PolicySpec:
        """What the policy is."""
        return self._policy.spec

    def __call__(
        self, observations: Observations, copies: npt.NDArray[np.intp] | slice = slice(None)
    ) -> PolicyOutputs:
        """Return the outputs for the next observations [B, *shape] of some copies, by default all.

        Args:
            observations: of these copies.
            copies: their numbers [B].
        """
        if self._memory is None:
            return self._policy(observations)
        outputs, self._memory[copies] = self._policy.remember(observations, self._memory[copies])
        return outputs

    def forget(self, copies: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> None:
        """Start the memory of copies over whose episode starts: their numbers, or a mask [N]."""
        if self._memory is not None:
            self._memory[copies] = 0.0
