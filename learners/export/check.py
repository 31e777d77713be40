"""How like its policy an exported file acts, found by running it, and how fast it answers."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from common.errors import MismatchError
from common.policies.inference import Observations
from common.policies.policy import Policy
from common.policies.spec import PolicySpec
from learners.export.exported_policy import ExportedPolicy, example_inputs, output_names
from learners.footprint import median_latency_ms

Arrays = Mapping[str, NDArray[Any]]
Run = Callable[[Arrays], Arrays]
"""An exported file in its runtime: from inputs by name to outputs by name, as
`learners.export.exported_policy` has them, or to those of them that the file gives: "action" at
least."""

Precision = Literal["float32", "float16", "int8"]
"""What an exported file computes in."""


class Limits(NamedTuple):
    """How like its policy a file must act."""

    min_agreement: float
    """Share of real observations on which it must take the policy's greedy action."""
    max_action_error: float
    """Mean difference of its Box actions from the policy's, in halves of their range."""

    def told(self, check: "ExportCheck") -> str:
        """Return the limit that a check is held against."""
        if check.greedy_agreement is not None:
            return f"{100 * self.min_agreement:g} %"
        return f"{100 * self.max_action_error:g} % of half the range"


LIMITS: dict[Precision, Limits] = {
    "float32": Limits(0.999, 1e-3),
    "float16": Limits(0.999, 2e-3),
    "int8": Limits(0.98, 2e-2),
}
"""Of formats that have none of their own."""

BATCH = 256
"""Observations in one call: 7 MB of stacked Atari frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportCheck:
    """How well an exported file agrees with the float32 policy that it was made from."""

    observations: int
    """Number of observations compared."""
    greedy_agreement: float | None
    """Share of them on which both take the same greedy action, where it is discrete."""
    action_error: float | None
    """Mean absolute difference of actions of a Box, in halves of its range."""
    max_abs_difference: float | None
    """Largest difference of any distribution input or value, in their own units; NaN where the
    file gives NaN, and None where it gives actions only."""

    def suffices(self, limits: Limits) -> bool:
        """Return whether the file acts as like the policy as it must."""
        if self.greedy_agreement is not None:
            return self.greedy_agreement >= limits.min_agreement
        assert self.action_error is not None
        return self.action_error <= limits.max_action_error

    def __str__(self) -> str:
        if self.greedy_agreement is not None:
            likeness = f"takes its greedy action in {100 * self.greedy_agreement:.2f} %"
        else:
            assert self.action_error is not None
            difference = f"{100 * self.action_error:.2g} %"
            likeness = f"differs from its action by {difference} of half the range"
        return f"{likeness} on {self.observations:,} real observations"


def compare(run: Run, policy: Policy, observations: Observations) -> ExportCheck:
    """Compare a file with `policy` in float32.

    Args:
        run: the file.
        policy: what it should compute.
        observations: [M, *shape] raw observations in the spec's dtype, M ≥ 1.

    Raises:
        MismatchError: `observations` do not fit the policy's spec.
    """
    check_observations(observations, policy.spec)
    names, box = output_names(policy), policy.spec.action_box
    likeness = 0.0
    largest: float | None = None
    for given, wanted in answers(policy, observations):
        got = run(given)
        for name in (name for name in names if name in got):
            ours, theirs = wanted[name], got[name]
            if name != "action":
                # np.maximum and not max: a NaN in the file's output must show.
                largest = float(np.maximum(largest or 0.0, np.abs(ours - theirs).max()))
            elif box is None:
                likeness += float(np.count_nonzero(ours == theirs))
            else:
                likeness += float((np.abs(ours - theirs) / box.half_range).mean(-1).sum())
    return ExportCheck(
        observations=len(observations),
        greedy_agreement=likeness / len(observations) if box is None else None,
        action_error=None if box is None else likeness / len(observations),
        max_abs_difference=largest,
    )


def answers(policy: Policy, observations: Observations) -> Iterator[tuple[Arrays, Arrays]]:
    """Yield what goes into the policy's program, batch by batch, and what it should answer.

    A memory goes on from one batch to the next, so that others than zeros are seen.
    """
    reference, shape = run_policy(policy), policy.network.memory_shape
    memory = None if shape is None else np.zeros((BATCH, *shape), np.float32)
    for start in range(0, len(observations), BATCH):
        batch = np.ascontiguousarray(observations[start : start + BATCH])
        given: dict[str, NDArray[Any]] = {"observation": batch}
        if memory is not None:
            given["memory"] = memory[: len(batch)]
        wanted = reference(given)
        memory = wanted.get("next_memory")
        yield given, wanted


def run_policy(policy: Policy) -> Run:
    """Return the policy itself, in float32 in torch."""
    return run_module(ExportedPolicy(policy))


def run_module(module: Callable[..., Mapping[str, torch.Tensor]]) -> Run:
    """Return a program of torch with inputs in their order and outputs by name."""

    def run(given: Arrays) -> Arrays:
        with torch.inference_mode():
            # torch.tensor copies: batches may be read-only, which torch.from_numpy warns about.
            said = module(*(torch.tensor(array) for array in given.values()))
        return {name: tensor.numpy() for name, tensor in said.items()}

    return run


def latency_ms(run: Run, policy: Policy) -> float:
    """Return the median milliseconds of an answer to one observation, on one thread."""
    given = {name: tensor[:1].numpy() for name, tensor in example_inputs(policy).items()}
    return median_latency_ms(lambda: run(given))


def check_observations(observations: Observations, spec: PolicySpec) -> None:
    """Refuse observations [M, *shape] that a policy does not take.

    Raises:
        MismatchError: they are of another type or shape, or there are none.
    """
    wanted = spec.observation
    given = (str(observations.dtype), observations.shape[1:])
    if given != (wanted.dtype, wanted.shape) or len(observations) == 0:
        raise MismatchError(
            f"observations are {observations.dtype} {observations.shape}; policy {spec.name} "
            f"takes {wanted.dtype} {('M', *wanted.shape)} with M at least 1"
        )
