"""Weights rounded to few bits so that what a layer adds up stays the same on real observations.

A row w of a layer's weights becomes t·v for whole numbers v. Its sum is wrong by e·x, e = t·v − w,
which over the inputs x of a calibration has the mean e·μ and the variance e·C·e. The mean goes into
the bias (Nagel et al. 2019, arXiv:1906.04721, section 4.2). The variance is made small: t is the
best of some near the smallest, and then every v in turn becomes the best that it can be while the
others stay as they are, so that errors of inputs that go together take each other away. The bundled
Pong teacher takes 99.7 % of its actions with such weights, and 98.9 % with each rounded for itself.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_STEPS = np.linspace(1.0, 1.5, 26)
"""Tried for t, times the least that will do."""
_DAMPING = 0.01
"""Share of the mean variance that every input has of its own, seen or not."""
_PASSES = 3
_BLOCK = 64
"""Inputs whose changes reach the others together."""


class Moments(NamedTuple):
    """Of a layer's inputs on real observations."""

    mean: Array
    """[I] μ."""
    variances: Array
    """[I], the diagonal of C."""
    covariance: Array | None
    """[I, I] C; None of more inputs than it would have room for."""

    def within(self, center: Array, reach: Array) -> "Moments":
        """Return those of (x − center) / reach, [I] or [1] each."""
        covariance = self.covariance
        if covariance is not None:
            covariance = covariance / reach / reach[:, None]
        return Moments((self.mean - center) / reach, self.variances / reach**2, covariance)


class Rounded(NamedTuple):
    """A layer's weights in whole numbers."""

    weights: npt.NDArray[np.int8 | np.int16]
    """[O, I]."""
    units: Array
    """[O] t."""
    mean_errors: Array
    """[O] e·μ."""


def rounded(weights: Array, bits: int, *, least: Array, inputs: Moments) -> Rounded:
    """Round a layer's weights.

    Args:
        weights: [O, I].
        bits: of a weight, up to 16.
        least: [O] that t may not be below.
        inputs: of the layer.
    """
    largest = 2 ** (bits - 1) - 1
    own = _DAMPING * inputs.variances.mean() or 1.0
    units = _units(weights, largest, least, inputs.variances + own)
    whole = np.rint(weights / units[:, None])
    if inputs.covariance is not None:
        damped = inputs.covariance + own * np.eye(len(inputs.covariance))
        for _ in range(_PASSES):
            _improve(whole, weights, units, damped, largest)
    errors = whole * units[:, None] - weights
    kind = np.int8 if bits <= 8 else np.int16
    return Rounded(whole.astype(kind), units, errors @ inputs.mean)


def _units(weights: Array, largest: int, least: Array, variances: Array) -> Array:
    """Return the best t of each row, with inputs taken for independent."""
    smallest = np.maximum(np.abs(weights).max(1) / largest, least)
    smallest = np.where(smallest > 0, smallest, 1.0)
    best, units = np.full(len(weights), np.inf), smallest
    for step in _STEPS:
        tried = (smallest * step)[:, None]
        wrong = (np.rint(weights / tried) * tried - weights) ** 2 @ variances
        units = np.where(wrong < best, tried[:, 0], units)
        best = np.minimum(wrong, best)
    return units


def _improve(whole: Array, weights: Array, units: Array, covariance: Array, largest: int) -> None:
    """Make every whole number the best beside the others, in place, one after the other."""
    slopes = (whole * units[:, None] - weights) @ covariance  # half the gradient, [O, I]
    for start in range(0, whole.shape[1], _BLOCK):
        block = slice(start, start + _BLOCK)
        before, inner = whole[:, block].copy(), covariance[block, block]
        local = slopes[:, block].copy()
        for column in range(local.shape[1]):
            wanted = whole[:, start + column] - local[:, column] / (inner[column, column] * units)
            found = np.clip(np.rint(wanted), -largest, largest)
            change = (found - whole[:, start + column]) * units
            whole[:, start + column] = found
            local += change[:, None] * inner[column]
        slopes += ((whole[:, block] - before) * units[:, None]) @ covariance[block]
