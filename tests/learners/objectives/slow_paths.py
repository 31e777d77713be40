"""The terms that look along time again, slowly: one sequence, one row, one sum at a time.

What a term takes for given (targets, advantages, greedy actions) is made of `fixed`, what it has a
gradient for of `moving`; both are the same outputs until a test shakes `moving`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Rows = list[list[float]]


@dataclass
class Sequence:
    """One sequence of L rows, as lists."""

    p: Rows  # teacher's probabilities, [L][A]
    actions: list[int]
    rewards: list[float]
    terminated: list[bool]
    truncated: list[bool]
    valid: list[bool]
    log_mu: list[float]
    target_q: Rows

    @property
    def length(self) -> int:
        return len(self.actions)

    def is_cut(self, t: int) -> bool:
        return t == self.length - 1


@dataclass
class Outputs:
    """What a student says of it."""

    heads: Rows  # logits or Q-values, [L][A]
    values: list[float]

    def pi(self, t: int, temperature: float = 1.0) -> list[float]:
        powers = [math.exp(x / temperature) for x in self.heads[t]]
        return [power / sum(powers) for power in powers]


def cross(a: list[float], b: list[float]) -> float:
    return -sum(x * math.log(y) for x, y in zip(a, b, strict=True))


def divergence(a: list[float], b: list[float]) -> float:
    return cross(a, b) - cross(a, a)


def to_go(
    s: Sequence, fixed: Outputs, t: int, reward: Callable[[int], float], gamma: float
) -> float:
    """Sum up what the rows after t give, until the episode or the sequence ends."""
    total, factor, k = 0.0, 1.0, t
    while s.is_cut(k) or not s.terminated[k]:
        if s.truncated[k] or s.is_cut(k):
            return total + factor * fixed.values[k]
        total += factor * reward(k + 1)
        factor *= gamma
        k += 1
    return total


def surprise(s: Sequence, fixed: Outputs, t: int, gamma: float) -> float:
    """Return r + γ V' − V."""
    if s.is_cut(t):
        return 0.0
    after = 0.0 if s.terminated[t] else fixed.values[t + 1]
    return s.rewards[t] + gamma * after - fixed.values[t]


def episode_from(s: Sequence, t: int) -> list[int]:
    """Return the rows from t to the end of its episode or of the sequence."""
    rows = [t]
    while not (s.terminated[rows[-1]] or s.truncated[rows[-1]]) and rows[-1] < s.length - 1:
        rows.append(rows[-1] + 1)
    return rows


def slow_expected_entropy(
    s: Sequence,
    t: int,
    moving: Outputs,
    fixed: Outputs,
    *,
    discount: float = 0.99,
    value_weight: float = 0.5,
    entropy_weight: float = 1.0,
    return_weight: float = 1.0,
    path_entropy: bool = False,
    lowest_log_p: float = -10.0,
    **_: Any,
) -> float:
    def log_p(k: int, action: int) -> float:
        return max(lowest_log_p, math.log(s.p[k][action]))

    def reward(k: int) -> float:
        own = math.log(fixed.pi(k)[s.actions[k]]) if path_entropy else 0.0
        return log_p(k, s.actions[k]) - entropy_weight * own

    target = to_go(s, fixed, t, reward, discount)
    pi = moving.pi(t)
    own = -sum(pi[a] * log_p(t, a) for a in range(len(pi)))
    actor = -math.log(pi[s.actions[t]]) * (target - fixed.values[t])
    critic = 0.5 * (moving.values[t] - target) ** 2
    return own - entropy_weight * cross(pi, pi) + return_weight * actor + value_weight * critic


def slow_n_distill(
    s: Sequence,
    t: int,
    moving: Outputs,
    fixed: Outputs,
    *,
    discount: float = 0.99,
    value_weight: float = 0.5,
    return_weight: float = 0.1,
    **_: Any,
) -> float:
    target = to_go(s, fixed, t, lambda k: -cross(s.p[k], fixed.pi(k)), discount)
    pi = moving.pi(t)
    actor = -math.log(pi[s.actions[t]]) * (target - fixed.values[t])
    critic = 0.5 * (moving.values[t] - target) ** 2
    return cross(s.p[t], pi) + return_weight * actor + value_weight * critic


def slow_ppd(
    s: Sequence,
    t: int,
    moving: Outputs,
    fixed: Outputs,
    *,
    scale: tuple[float, float] = (0.0, 1.0),
    discount: float = 0.99,
    gae_decay: float = 0.95,
    clip: float = 0.2,
    value_weight: float = 0.5,
    entropy_weight: float = 0.01,
    teacher_weight: float = 1.0,
    **_: Any,
) -> float:
    advantage = slow_advantage(s, t, fixed, discount, gae_decay)
    target = advantage + fixed.values[t]
    mean, deviation = scale
    advantage = 0.0 if s.is_cut(t) else (advantage - mean) / deviation
    pi = moving.pi(t)
    ratio = pi[s.actions[t]] / math.exp(s.log_mu[t])
    near = min(max(ratio, 1 - clip), 1 + clip)
    loss = -min(ratio * advantage, near * advantage)
    loss += 0.5 * value_weight * (moving.values[t] - target) ** 2
    loss -= entropy_weight * cross(pi, pi)
    return loss + teacher_weight * max(ratio, 1 - clip) * divergence(s.p[t], pi)


def slow_advantage(s: Sequence, t: int, fixed: Outputs, discount: float, decay: float) -> float:
    return sum(
        (discount * decay) ** (k - t) * surprise(s, fixed, k, discount) for k in episode_from(s, t)
    )


def slow_kickstart(
    s: Sequence,
    t: int,
    moving: Outputs,
    fixed: Outputs,
    *,
    discount: float = 0.99,
    ratio_clip: float = 1.0,
    value_weight: float = 0.5,
    entropy_weight: float = 0.01,
    teacher_weight: float = 1.0,
    **_: Any,
) -> float:
    def ratio(k: int) -> float:
        return min(ratio_clip, fixed.pi(k)[s.actions[k]] / math.exp(s.log_mu[k]))

    def target(k: int) -> float:
        found = fixed.values[k]
        for j in episode_from(s, k):
            product = math.prod(ratio(i) for i in range(k, j + 1))
            found += discount ** (j - k) * product * surprise(s, fixed, j, discount)
        return found

    pi, advantage = moving.pi(t), 0.0
    if not s.is_cut(t):
        after = 0.0
        if s.truncated[t]:
            after = fixed.values[t + 1]
        elif not s.terminated[t]:
            after = target(t + 1)
        advantage = ratio(t) * (s.rewards[t] + discount * after - fixed.values[t])
    loss = -math.log(pi[s.actions[t]]) * advantage
    loss += 0.5 * value_weight * (moving.values[t] - target(t)) ** 2
    return loss - entropy_weight * cross(pi, pi) + teacher_weight * cross(s.p[t], pi)


def slow_qdagger(
    s: Sequence,
    t: int,
    moving: Outputs,
    fixed: Outputs,
    *,
    discount: float = 0.99,
    num_steps: int = 3,
    teacher_weight: float = 3.0,
    student_temperature: float = 0.1,
    huber_delta: float = 1.0,
    **_: Any,
) -> float:
    def value(k: int) -> float:
        best = max(range(len(fixed.heads[k])), key=lambda a: fixed.heads[k][a])
        return s.target_q[k][best]

    loss = teacher_weight * divergence(s.p[t], moving.pi(t, student_temperature))
    if s.is_cut(t):
        return loss
    target, factor, k = 0.0, 1.0, t
    for _step in range(num_steps):
        if s.is_cut(k):
            break
        target += factor * s.rewards[k]
        factor *= discount
        if s.terminated[k]:
            factor = 0.0
            break
        k += 1
        if s.truncated[k - 1]:
            break
    target += factor * value(k) if factor else 0.0
    error = abs(moving.heads[t][s.actions[t]] - target)
    if error <= huber_delta:
        return loss + 0.5 * error**2
    return loss + huber_delta * (error - 0.5 * huber_delta)


SLOW: dict[str, Callable[..., float]] = {
    "expected_entropy": slow_expected_entropy,
    "n_distill": slow_n_distill,
    "ppd": slow_ppd,
    "kickstart": slow_kickstart,
    "qdagger": slow_qdagger,
}
