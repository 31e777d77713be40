"""A C program of a policy, compiled here, to be compared with the policy and to play."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from common.policies.inference import InferencePolicy, Observations, PolicyOutputs
from common.policies.policy import Policy
from common.storage import Location
from learners.export.check import Arrays, Run
from learners.export.integer.c_compiler import CLibrary, find_compiler
from learners.export.integer.integer_network import IntegerOutputs

Program = Callable[[Observations], IntegerOutputs]
"""A compiled program, or its reference in NumPy."""


def lacks_compiler() -> str | None:
    """Say that there is no compiler, where there is none."""
    return "no C compiler here" if find_compiler() is None else None


def run_c(location: Location, policy: Policy) -> Run:
    """Return a file that `export_c` wrote, compiled.

    Raises:
        StorageError: it cannot be read.
        RunFailedError: there is no compiler, or it refuses the program.
    """
    return run_program(_library(location, policy), policy)


def run_program(program: Program, policy: Policy) -> Run:
    """Return a program of a policy that gives actions only: its scores are not the policy's."""
    is_discrete = policy.spec.action_box is None

    def run(given: Arrays) -> Arrays:
        said = program(given["observation"])
        return {"action": said.actions if is_discrete else said.scores}

    return run


def open_c(location: Location, policy: Policy) -> InferencePolicy:
    """Return a file that `export_c` wrote, compiled, as a player; for errors see `run_c`."""
    return _CPolicy(_library(location, policy), policy)


class _CPolicy(InferencePolicy):
    """A policy that asks the C program of another.

    Scores of discrete actions are the other's outputs less their mean, which is as good to draw
    from. Of a Box the program gives the action only, so it is taken without chance.

    Args:
        program: the program.
        policy: the other.
    """

    def __init__(self, program: Program, policy: Policy) -> None:
        super().__init__(policy)
        self._program = program
        self._box = policy.spec.action_box
        if self._box is not None:
            self.spec = policy.spec.model_copy(update={"dist": "deterministic"})

    def __call__(self, observations: Observations) -> PolicyOutputs:
        """Return what the program says to observations [B, *shape]."""
        scores = self._program(observations).scores
        if self._box is None:
            return PolicyOutputs(scores, None)
        units = np.clip((scores - self._box.center) / self._box.half_range, -1.0, 1.0)
        with np.errstate(divide="ignore"):  # the tanh of infinity is 1
            return PolicyOutputs(np.arctanh(units), None)


def _library(location: Location, policy: Policy) -> CLibrary:
    spec = policy.spec
    num_scores = spec.num_actions if spec.action_box is None else spec.action_box.size
    assert num_scores is not None  # as of every policy without a Box
    return _compiled(location.read_text(), num_scores)


@lru_cache(maxsize=1)
def _compiled(text: str, num_scores: int) -> CLibrary:
    """Compile a file once, to be compared and to play: the largest take seconds."""
    return CLibrary(text, num_scores)
