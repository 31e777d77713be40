"""How sure a mean return is: bootstrap intervals for evaluations, reports and stop rules.

Returns of Atari episodes are skewed and few, so intervals come from resampling the episodes
(the percentile bootstrap, Efron 1979) and not from a normal approximation. Every interval is
deterministic for its seed: a saved evaluation can be recomputed to the last digit.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_BLOCK_DRAWS = 1 << 20
"""Resampled episodes drawn at once: bounds memory to some 16 MB whatever the episodes."""
_RELATIVE_ZERO = 1e-9
"""Two mean returns closer than this share of their size differ by rounding alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanInterval:
    """A mean return and its bootstrap interval, in units of return."""

    mean: float
    ci_low: float
    ci_high: float
    episodes: int
    """Number of episodes that the mean is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareInterval:
    """The student's share of the teacher's gain over random play, and its bootstrap interval."""

    share: float
    """1 is as good as the teacher, 0 as good as random play; above 1 and below 0 are possible."""
    ci_low: float
    ci_high: float


def bootstrap_mean(
    returns: ArrayLike, *, seed: int = 0, resamples: int = 10_000, level: float = 0.95
) -> MeanInterval:
    """Return the mean of episode returns with its percentile bootstrap interval.

    A single episode resamples to itself only, so its interval is the point; below some ten
    episodes the interval is narrower than its level promises.

    Args:
        returns: [E] returns of E ≥ 1 finished episodes.
        seed: of the resampling.
        resamples: number of bootstrap resamples.
        level: probability that the interval aims to cover, in (0, 1).

    Raises:
        ValueError: `returns` is empty, not one-dimensional or not finite, or `resamples` or
            `level` is out of range.
    """
    values = _checked(returns, "returns")
    means = _resampled_means(values, np.random.default_rng(seed), resamples)
    low, high = _percentile_interval(means, level)
    return MeanInterval(
        mean=float(values.mean()), ci_low=low, ci_high=high, episodes=int(values.size)
    )


def share_of_teacher(
    student_returns: ArrayLike,
    teacher_returns: ArrayLike,
    random_returns: ArrayLike,
    *,
    seed: int = 0,
    resamples: int = 10_000,
    level: float = 0.95,
) -> ShareInterval | None:
    """Return (S - R) / (T - R) of mean returns with an interval that resamples all three.

    S, T and R are the means of student, teacher and random play. The share has no meaning where
    the teacher is no better than random play, and near T = R it runs off to ±infinity. So the
    answer is None unless the teacher is measurably better: the lower end of the bootstrap
    interval of T - R, at the same `level`, must lie above zero (by more than rounding). The few
    resamples that still have T ≤ R, at most (1 - level) / 2 of all, are left out of the share's
    interval. What is returned is always finite.

    Args:
        student_returns: [E_s] returns of the student's episodes.
        teacher_returns: [E_t] returns of the teacher's episodes.
        random_returns: [E_r] returns of episodes of uniformly random actions.
        seed: of the resampling.
        resamples: number of bootstrap resamples.
        level: probability that the interval aims to cover, in (0, 1).

    Raises:
        ValueError: as `bootstrap_mean`.
    """
    student = _checked(student_returns, "student_returns")
    teacher = _checked(teacher_returns, "teacher_returns")
    random = _checked(random_returns, "random_returns")
    rng = np.random.default_rng(seed)
    student_means = _resampled_means(student, rng, resamples)
    teacher_means = _resampled_means(teacher, rng, resamples)
    random_means = _resampled_means(random, rng, resamples)

    gaps = teacher_means - random_means
    zero = _RELATIVE_ZERO * max(abs(teacher.mean()), abs(random.mean()))
    gap = float(teacher.mean() - random.mean())
    if gap <= zero or _percentile_interval(gaps, level)[0] <= zero:
        return None
    kept = gaps > zero
    shares = (student_means[kept] - random_means[kept]) / gaps[kept]
    low, high = _percentile_interval(shares, level)
    share = float(student.mean() - random.mean()) / gap
    return ShareInterval(share=share, ci_low=low, ci_high=high)


def _checked(returns: ArrayLike, name: str) -> Floats:
    values = np.asarray(returns, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"{name} has shape {values.shape}; give one return an episode, at least 1")
    if not np.isfinite(values).all():
        index = int(np.argmin(np.isfinite(values)))
        raise ValueError(f"{name}[{index}] is {values[index]}; leave unfinished episodes out")
    return values


def _resampled_means(values: Floats, rng: np.random.Generator, resamples: int) -> Floats:
    """Return [resamples] means of draws with replacement from `values` [E]."""
    if resamples < 1:
        raise ValueError(f"resamples = {resamples}; must be at least 1")
    means = np.empty(resamples)
    block = max(1, _BLOCK_DRAWS // values.size)
    for start in range(0, resamples, block):
        stop = min(start + block, resamples)
        draws = rng.integers(values.size, size=(stop - start, values.size))
        means[start:stop] = values[draws].mean(axis=1)
    return means


def _percentile_interval(samples: Floats, level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise ValueError(f"level = {level}; must be between 0 and 1, for example 0.95")
    tail = (1 - level) / 2
    low, high = np.quantile(samples, [tail, 1 - tail])
    return float(low), float(high)
