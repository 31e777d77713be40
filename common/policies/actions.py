"""Drawing actions from a policy's outputs, and how likely they were.

Discrete actions are ε-greedy or ε-sampled; Q-values are only ever acted on greedily. For a Box (in
units, `common.policies.box`) a share ε of the actions is uniform within the bounds; the others are

- sampled from the policy's Gaussian, where it has one and the mode is "sample";
- else the policy's mean action, with Gaussian noise of a given σ where that is above 0.

Log-probabilities of a Box's actions are log-densities in units of the mixture that was drawn from.
A mean action without noise is a point mass: it has log(1 − ε), and a uniform one its density.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from common.policies.box import BoxActions
from common.policies.spec import GAUSSIAN, DistKind, PolicySpec

Actions = npt.NDArray[np.int64] | npt.NDArray[np.float32]
"""[B] int64, or [B, D] float32 in units."""
FloatArray = npt.NDArray[np.float32]

LOG_STD_RANGE: dict[DistKind, tuple[float, float]] = {
    "gaussian": (-20.0, 20.0),
    "squashed_gaussian": (-20.0, 2.0),
}
"""Where log σ is clamped; for squashed Gaussians as SAC does (Haarnoja et al. 2018)."""


class Drawn(NamedTuple):
    """Actions and how likely each was."""

    actions: Actions
    log_probs: FloatArray
    """[B]."""


def empty_actions(box: BoxActions | None, *shape: int) -> Actions:
    """Return room for actions: int64 of `shape`, or float32 of `shape` and D."""
    if box is None:
        return np.empty(shape, np.int64)
    return np.empty((*shape, box.size), np.float32)


def random_actions(
    *, num_actions: int | None, box: BoxActions | None, count: int, rng: np.random.Generator
) -> Actions:
    """Return uniformly random actions."""
    if box is None:
        assert num_actions is not None
        return rng.integers(num_actions, size=count)
    return rng.uniform(-1.0, 1.0, size=(count, box.size)).astype(np.float32)


def draw_actions(
    spec: PolicySpec,
    dist_inputs: FloatArray,
    *,
    mode: str,
    epsilon: float,
    rng: np.random.Generator,
    noise: float = 0.0,
) -> Drawn:
    """Draw an action for every row.

    Args:
        spec: of the policy.
        dist_inputs: [B, width] of the policy.
        mode: "greedy" or "sample".
        epsilon: share of uniformly random actions.
        rng: where the draws come from.
        noise: σ of the noise on mean actions of a Box, in units.
    """
    if spec.action_box is not None:
        return _draw_from_box(
            spec.dist, dist_inputs, mode=mode, epsilon=epsilon, rng=rng, noise=noise
        )
    if mode == "greedy" or spec.dist == "q_values":
        return _draw_greedily(dist_inputs, epsilon=epsilon, rng=rng)
    return _draw_by_softmax(dist_inputs, epsilon=epsilon, rng=rng)


def mean_actions(dist: DistKind, dist_inputs: FloatArray) -> FloatArray:
    """Return the actions [B, D] within a Box, in units, that a policy takes without chance."""
    mean, _ = mean_and_log_std(dist, dist_inputs)
    actions: FloatArray = np.clip(mean, -1.0, 1.0) if dist == "gaussian" else np.tanh(mean)
    return actions


def mean_and_log_std(
    dist: DistKind, dist_inputs: FloatArray
) -> tuple[FloatArray, FloatArray | None]:
    """Return mean and log σ, [B, D] each, of u; a deterministic policy has no σ."""
    if dist not in GAUSSIAN:
        return dist_inputs, None
    mean, log_std = np.split(dist_inputs, 2, axis=-1)
    return mean, np.clip(log_std, *LOG_STD_RANGE[dist])


def _draw_greedily(outputs: FloatArray, *, epsilon: float, rng: np.random.Generator) -> Drawn:
    """Draw by the largest outputs: few calls, which are what a step of small batches costs."""
    count, num_actions = outputs.shape
    greedy = outputs.argmax(-1)
    if epsilon == 0.0:
        return Drawn(greedy, np.zeros(count, np.float32))
    chances, others = rng.random((2, count))
    uniform = epsilon / num_actions
    log_probs = np.full(count, math.log(1.0 - epsilon + uniform), np.float32)
    explores = chances < epsilon
    if explores.any():
        actions = np.where(explores, (others * num_actions).astype(np.int64), greedy)
        log_probs[actions != greedy] = math.log(uniform)
        return Drawn(actions, log_probs)
    return Drawn(greedy, log_probs)


def _draw_by_softmax(logits: FloatArray, *, epsilon: float, rng: np.random.Generator) -> Drawn:
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    mixed = (1.0 - epsilon) * shifted / shifted.sum(-1, keepdims=True) + epsilon / logits.shape[-1]
    with np.errstate(divide="ignore"):
        logs: FloatArray = np.log(mixed).astype(np.float32)
    # The largest of log p + Gumbel noise is a draw from p.
    actions = (logs + rng.gumbel(size=logs.shape)).argmax(-1)
    return Drawn(actions, np.take_along_axis(logs, actions[:, None], axis=-1)[:, 0])


def _draw_from_box(
    dist: DistKind,
    dist_inputs: FloatArray,
    *,
    mode: str,
    epsilon: float,
    rng: np.random.Generator,
    noise: float,
) -> Drawn:
    mean, log_std = mean_and_log_std(dist, dist_inputs)
    squashed = False
    std: FloatArray
    if mode == "sample" and log_std is not None:
        std, squashed = np.exp(log_std), dist == "squashed_gaussian"
    else:
        mean, std = mean_actions(dist, dist_inputs), np.full_like(mean, noise)
    uniform = rng.random(len(mean)) < epsilon
    inside = rng.uniform(-1.0, 1.0, size=mean.shape).astype(np.float32)
    u: FloatArray = mean + std * rng.standard_normal(mean.shape, np.float32)
    u[uniform] = np.arctanh(inside[uniform]) if squashed else inside[uniform]
    actions: FloatArray = np.tanh(u) if squashed else u
    with np.errstate(divide="ignore"):
        log_own, log_uniform = np.log1p(-epsilon), np.log(epsilon) - mean.shape[-1] * np.log(2.0)
    if not std.any():
        return Drawn(actions, np.where(uniform, log_uniform, log_own).astype(np.float32))
    density = -0.5 * ((u - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)
    if squashed:
        density -= _log_slope_of_tanh(u)
    within = (np.abs(actions) <= 1.0).all(-1)
    log_probs = np.logaddexp(log_own + density.sum(-1), np.where(within, log_uniform, -np.inf))
    return Drawn(actions, log_probs.astype(np.float32))


def _log_slope_of_tanh(u: FloatArray) -> FloatArray:
    """Return log(1 − tanh² u), exact where tanh u rounds to 1."""
    slope: FloatArray = 2.0 * (np.log(2.0) - u - np.logaddexp(0.0, -2.0 * u))
    return slope
