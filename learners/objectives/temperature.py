"""`temperature = "auto"`: how far to sharpen a teacher, found on what it really says.

A policy that acts greedily may have learned nearly flat logits (published actor-critics do): at
τ = 1 its distribution tells a student almost nothing. `auto` takes the τ at which the median
entropy of p over real observations, as a share of log A, is `TARGET_ENTROPY`.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from common.policies.inference import InferencePolicy
from common.policies.policy import Policy
from learners.objectives import ObjectiveConfig

TARGET_ENTROPY = 0.15
_LOWEST, _HIGHEST = 1e-4, 1e3


def resolve_temperature(
    objective: ObjectiveConfig,
    teacher: Policy,
    observations: npt.NDArray[np.uint8 | np.float32],
    *,
    say: Callable[[str], None],
) -> ObjectiveConfig:
    """Return the objective with a number in the place of every `temperature = "auto"`.

    Args:
        objective: the recipe's.
        teacher: whose outputs are sharpened.
        observations: [M, *shape] of the teacher's own play.
        say: told what was found.
    """
    if not (names := objective.wanting_temperature()):
        return objective
    temperature = find_temperature(InferencePolicy(teacher)(observations).dist_inputs)
    keys = ", ".join(f"objective.{name}.temperature" for name in names)
    say(f"{keys} = auto: {temperature:.3g} for this teacher")
    return objective.with_temperature(temperature)


def find_temperature(
    dist_inputs: npt.NDArray[np.floating], *, target: float = TARGET_ENTROPY
) -> float:
    """Return the τ at which the median normalised entropy of softmax(x / τ) is `target`.

    Args:
        dist_inputs: [M, A] logits or Q-values.
        target: entropy as a share of log A.
    """
    shifted = dist_inputs.astype(np.float64)
    shifted -= shifted.max(-1, keepdims=True)
    low, high = np.log(_LOWEST), np.log(_HIGHEST)
    for _ in range(50):  # entropy grows with τ
        middle = (low + high) / 2
        if _median_entropy(shifted / np.exp(middle)) < target:
            low = middle
        else:
            high = middle
    return float(np.exp(high))


def _median_entropy(shifted: npt.NDArray[np.float64]) -> float:
    p = np.exp(shifted)
    p /= p.sum(-1, keepdims=True)
    entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(-1)
    return float(np.median(entropy) / np.log(shifted.shape[-1]))
