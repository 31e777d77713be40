"""What may stand in the place of a policy for those who ask it: here, or elsewhere.

`InferencePolicy` computes in the caller's process. A policy in another process has the same
interface, and one method more: what it is asked now may be read later, while it computes.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from common.policies.inference import Observations, PolicyOutputs
from common.policies.spec import PolicySpec

Answer = Callable[[], PolicyOutputs]
"""Waits for the outputs of a question and returns them."""


class ActingPolicy(Protocol):
    """A policy that answers at once."""

    @property
    def spec(self) -> PolicySpec:
        """What the policy is."""

    def __call__(self, observations: Observations) -> PolicyOutputs:
        """Return the outputs for observations [B, *shape]."""


@runtime_checkable
class DistantPolicy(ActingPolicy, Protocol):
    """A policy elsewhere, whose answers come after a round trip."""

    def ask(self, observations: Observations) -> Answer:
        """Ask about observations [B, *shape] without waiting."""
