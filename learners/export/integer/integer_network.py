"""A network in whole numbers, computed in NumPy bit for bit as the C program does.

Jacob et al. 2018 (arXiv:1712.05877), with symmetric scales. A layer adds up products of weights of
8 or 12 bits and activations of 8 or 16 in 32 bits, where by its limits nothing can overflow, and
takes the sum times multiplier / 2^shift to the next layer's scale (section 2.2).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

CURVE_BITS = 7
CURVE_POINTS = (1 << (16 - CURVE_BITS)) + 1
"""A curve over all numbers of 16 bits has a point every 128, and lines between them."""
FRACTION_BITS = 8
"""An entry of an observation is rounded from 256ths of a step, which are whole numbers too."""
UNIT = 32_767
"""What stands for 1 in actions of a Box."""

_BATCH = 64
"""Observations at a time: 100 MB for the first convolution of the largest Atari network."""

Wide = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntegerLayer:
    """A linear layer, or a convolution without padding, and what follows on it."""

    weights: npt.NDArray[np.int8 | np.int16]
    """[O, I] or [O, I, K, K]."""
    biases: npt.NDArray[np.int32]
    """[O]."""
    multipliers: npt.NDArray[np.int32]
    """[O]."""
    shifts: npt.NDArray[np.uint8]
    """[O], 1 to 62."""
    limit: int
    """Sums end here after they are scaled, and at its negative."""
    stride: int = 1
    curve: npt.NDArray[np.int16] | None = None
    """[`CURVE_POINTS`] of an activation, which never falls; None: ReLU, or nothing in the head."""

    def sums(self, x: Wide) -> Wide:
        """Return what the layer adds up, [B, O] or [B, O, H', W'], of [B, I] or [B, I, H, W]."""
        rows = self.weights.reshape(len(self.weights), -1).astype(np.float64)
        if self.weights.ndim == 2:
            # Products in float64 are exact: no sum leaves 32 bits.
            sums = x.reshape(len(x), -1).astype(np.float64) @ rows.T
            return sums.astype(np.int64) + self.biases
        kernel, step = self.weights.shape[-1], self.stride
        windows = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), axis=(2, 3))
        windows = windows[:, :, ::step, ::step].transpose(0, 2, 3, 1, 4, 5)
        patches = windows.reshape(*windows.shape[:3], -1).astype(np.float64)
        return ((patches @ rows.T).astype(np.int64) + self.biases).transpose(0, 3, 1, 2)

    def scaled(self, sums: Wide) -> Wide:
        """Return sums · multiplier / 2^shift, rounded to the nearest (halves away from 0)."""
        shape = (-1, *(1,) * (sums.ndim - 2))
        multipliers = self.multipliers.astype(np.uint64).reshape(shape)
        shifts = self.shifts.astype(np.uint64).reshape(shape)
        sizes = np.abs(sums).astype(np.uint64) * multipliers
        sizes = (sizes + (np.uint64(1) << (shifts - np.uint64(1)))) >> shifts
        bounded = np.minimum(sizes, np.uint64(self.limit)).astype(np.int64)
        scaled: Wide = np.where(sums < 0, -bounded, bounded)
        return scaled

    def curved(self, x: Wide) -> Wide:
        """Return the curve's values at numbers of 16 bits."""
        assert self.curve is not None
        place = x + 2**15
        index, part = place >> CURVE_BITS, place & ((1 << CURVE_BITS) - 1)
        low = self.curve.astype(np.int64)[index]
        rise = self.curve.astype(np.int64)[index + 1] - low
        curved: Wide = low + ((rise * part + (1 << (CURVE_BITS - 1))) >> CURVE_BITS)
        return curved

    def activated(self, sums: Wide) -> Wide:
        """Return what a hidden layer hands on."""
        return np.maximum(self.scaled(sums), 0) if self.curve is None else self.taken(sums)

    def taken(self, sums: Wide) -> Wide:
        """Return what the head says."""
        scaled = self.scaled(sums)
        return scaled if self.curve is None else self.curved(scaled)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FloatEntry:
    """How floats become whole numbers."""

    center: npt.NDArray[np.float32]
    """[I] what 0 stands for."""
    factor: npt.NDArray[np.float32]
    """[I] 256ths of a step in 1."""
    limit: int
    """Larger numbers end here, infinity too; NaN counts as 0."""

    def __call__(self, observations: npt.NDArray[np.float32]) -> Wide:
        """Return whole numbers [B, I] of entries [B, I]."""
        largest = np.float32(self.limit << FRACTION_BITS)
        with np.errstate(over="ignore", invalid="ignore"):
            distance = (observations - self.center) * self.factor
        distance[np.isnan(distance)] = 0.0
        whole = np.clip(distance, -largest, largest).astype(np.int64)
        sizes = (np.abs(whole) + (1 << (FRACTION_BITS - 1))) >> FRACTION_BITS
        rounded: Wide = np.where(whole < 0, -sizes, sizes)
        return rounded


class BoxOutput(NamedTuple):
    """What turns the head's numbers into actions of a Box."""

    center: npt.NDArray[np.float32]
    half_range: npt.NDArray[np.float32]


class IntegerOutputs(NamedTuple):
    """What the program answers for B observations."""

    actions: npt.NDArray[np.int64]
    """[B] greedy; zeros for a Box."""
    scores: npt.NDArray[np.float32]
    """[B, A], of discrete actions less their mean; for a Box the action."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntegerNetwork:
    """All that the program has."""

    shape: tuple[int, ...]
    """Of an observation."""
    indices: npt.NDArray[np.int64] | None
    """[I] of the entries of a vector that are seen; None: of frames, which are seen whole."""
    entry: FloatEntry | None
    """None: observations are bytes, as they are."""
    layers: tuple[IntegerLayer, ...]
    head: IntegerLayer
    weight_bits: int
    """Of a weight: 8 or 12."""
    bits: int
    """Of an activation: 8 or 16."""
    box: BoxOutput | None
    """None: actions are discrete."""
    score_scale: float
    """What 1 of the head stands for."""

    def __call__(self, observations: npt.NDArray[Any]) -> IntegerOutputs:
        """Return actions and scores for observations [B, *shape], in float32 or uint8."""
        starts = range(0, len(observations), _BATCH)
        parts = [self._answers(observations[start : start + _BATCH]) for start in starts]
        return IntegerOutputs(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def _answers(self, observations: npt.NDArray[Any]) -> IntegerOutputs:
        seen = observations if self.indices is None else observations[:, self.indices]
        x = seen.astype(np.int64) if self.entry is None else self.entry(seen)
        for layer in self.layers:
            x = layer.activated(layer.sums(x))
        found = self.head.taken(self.head.sums(x))
        scores = found.astype(np.float32) * np.float32(self.score_scale)
        if self.box is None:
            return IntegerOutputs(found.argmax(-1), scores)
        actions = self.box.center + self.box.half_range * scores
        return IntegerOutputs(np.zeros(len(x), np.int64), actions)
