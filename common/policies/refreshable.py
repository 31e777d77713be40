"""A teacher that newer versions replace while others go on asking it.

Which version a teacher is stands in its specification, so it goes where the teacher goes: into the
run directory, through the weight store to env runners, to the learner and to shared inference.
Whoever computes it holds a `RefreshablePolicy`, whose answers say of which version they are, so
that every label can be traced to the teacher that gave it.
"""

from collections.abc import Callable

from common.policies.acting import ActingPolicy
from common.policies.inference import Observations, PolicyOutputs
from common.policies.policy import Policy
from common.policies.spec import PolicySpec


class RefreshablePolicy:
    """A policy like any other, until a newer version takes its place.

    One thread may ask it while another hands it a version: each answer is of one version, and
    says of which.

    Args:
        first: the version to start with.
        build: makes a version compute.
    """

    def __init__(self, first: Policy, build: Callable[[Policy], ActingPolicy]) -> None:
        self._build = build
        self._present = build(first)

    @property
    def version(self) -> int:
        """Of the teacher that answers now."""
        return self.spec.teacher_version

    @property
    def spec(self) -> PolicySpec:
        """What the present version is."""
        return self._present.spec

    def __call__(self, observations: Observations) -> PolicyOutputs:
        """Return the outputs for observations [B, *shape]."""
        present = self._present
        return present(observations)._replace(version=present.spec.teacher_version)

    def take(self, newer: Policy) -> bool:
        """Go on with a version if it is newer; return whether it was."""
        if newer.spec.teacher_version <= self.version:
            return False
        self._present = self._build(newer)
        return True
