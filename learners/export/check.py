"""How like its policy an exported file acts, found by running it, and how fast it answers."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

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
`learners.export.exported_policy` has them."""

Precision = Literal["float32", "float16", "int8"]
"""What an exported file computes in."""

MIN_AGREEMENT: dict[Precision, float] = {"float32": 0.999, "float16": 0.999, "int8": 0.98}
"""Share of real observations on which a file must take the policy's greedy action."""

MAX_ACTION_ERROR: dict[Precision, float] = {"float32": 1e-3, "float16": 2e-3, "int8": 2e-2}
"""Mean difference of a file's Box actions from the policy's, in halves of their range."""

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
    max_abs_difference: float
    """Largest difference of any distribution input or value, in their own units; NaN where the
    file gives NaN."""

    def suffices(self, precision: Precision = "float32") -> bool:
        """Return whether the file acts as like the policy as it must."""
        if self.greedy_agreement is not None:
            return self.greedy_agreement >= MIN_AGREEMENT[precision]
        assert self.action_error is not None
        return self.action_error <= MAX_ACTION_ERROR[precision]

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
    likeness, largest = 0.0, 0.0
    for given, wanted in answers(policy, observations):
        got = run(given)
        for name in names:
            ours, theirs = wanted[name], got[name]
            if name != "action":
                # np.maximum and not max: a NaN in the file's output must show.
                largest = float(np.maximum(largest, np.abs(ours - theirs).max()))
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
