"""From floats to whole numbers.

A layer computes z = W·h + b. With h = r·q/limit for whole numbers q within ±limit, where r is its
input's reach, and W·r = t·w for whole numbers w of few bits (t by output), its sum
Σ w·q + b·limit/t is z in units of t/limit, and the next layer wants it in units of its own reach.

The limit is the largest number of its type, or less where a sum could leave 32 bits: the worst
case, every q at its limit and of the worst sign, is what counts.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from common.errors import MismatchError
from common.networks.mlp import ACTIVATIONS
from common.policies.spec import PolicySpec
from learners.export.integer.calibration import Calibration
from learners.export.integer.float_layers import FloatLayer, FloatNetwork
from learners.export.integer.integer_network import (
    CURVE_BITS,
    CURVE_POINTS,
    FRACTION_BITS,
    UNIT,
    BoxOutput,
    FloatEntry,
    IntegerLayer,
    IntegerNetwork,
)
from learners.export.integer.rounding import Moments, rounded

Array = npt.NDArray[np.float64]


class Widths(NamedTuple):
    """Bits of a number."""

    weights: Literal[8, 12]
    """12 lie in 16; with more, sums in 32 bits would leave fewer to activations."""
    activations: Literal[8, 16]


HEADROOM = {8: 1.0, 16: 4.0}
"""How many times the largest number seen still has a place: 16 bits have some to spare."""
LARGEST_SUM = 2**31 - 1

_BYTE = 255
_CURVE_END = 8.0
"""Where tanh is 1 to 16 bits."""
_MOST_BIAS = 2.0**14
"""Of a bias, in units of t; with a limit of 16 bits it is below 2^30 then."""
_LARGEST_FACTOR = 2.0**29
_LEAST_REACH = 1e-30
"""Below it an entry is taken for a constant."""


class _Input(NamedTuple):
    """A layer's input is center + reach · u, for u within ±1."""

    center: Array
    """[I], or [1] for all."""
    reach: Array
    """[I], or [1] for all."""


class _Scaled(NamedTuple):
    """A layer whose weights are whole numbers."""

    weights: npt.NDArray[np.int8 | np.int16]
    units: Array
    """[O] t."""
    biases: Array
    """[O] in units of t."""
    limit: int
    """Of its input."""
    stride: int

    def layer(self, factors: Array, limit: int, curve: Array | None = None) -> IntegerLayer:
        """Return the layer whose sums are taken to others by these factors [O]."""
        pairs = [_fixed_point(factor) for factor in factors.tolist()]
        multipliers, shifts = zip(*pairs, strict=True)
        return IntegerLayer(
            weights=self.weights,
            biases=np.rint(self.biases * self.limit).astype(np.int32),
            multipliers=np.array(multipliers, np.int32),
            shifts=np.array(shifts, np.uint8),
            limit=limit,
            stride=self.stride,
            curve=None if curve is None else np.rint(curve).astype(np.int16),
        )


def quantise(
    network: FloatNetwork, calibration: Calibration, spec: PolicySpec, widths: Widths
) -> IntegerNetwork:
    """Put a network into whole numbers.

    Args:
        network: the policy's.
        calibration: of its numbers, as `calibrate` found them.
        spec: of the policy.
        widths: of its numbers; activations of 8 bits are for networks that fit bytes.

    Raises:
        MismatchError: a layer adds up more bytes than 32 bits can hold.
    """
    bits = widths.activations
    assert bits == 16 or network.fits_bytes
    room, largest = HEADROOM[bits], _BYTE if bits == 8 else UNIT
    inputs = _inputs(network, calibration, room)
    scaled = [
        _scaled(layer, own, seen, widths.weights, largest)
        for layer, own, seen in zip(
            (*network.layers, network.head), inputs, calibration.inputs, strict=True
        )
    ]
    if network.takes_bytes:
        scaled[0] = _of_bytes(scaled[0])
    hidden = zip(scaled[:-1], scaled[1:], calibration.before[:-1], inputs[1:], strict=True)
    layers = [
        _hidden(own, network.activation, before * room, float(after_it.reach[0]), after.limit)
        for own, after, before, after_it in hidden
    ]
    head, score_scale = _head(scaled[-1], spec, calibration.before[-1] * room)
    box = spec.action_box
    return IntegerNetwork(
        shape=network.shape,
        indices=_indices(network),
        entry=None if network.takes_bytes else _entry(inputs[0], scaled[0].limit),
        layers=tuple(layers),
        head=head,
        weight_bits=widths.weights,
        bits=bits,
        box=None if box is None else BoxOutput(box.center, box.half_range),
        score_scale=score_scale,
    )


def _inputs(network: FloatNetwork, calibration: Calibration, room: float) -> list[_Input]:
    """Return what each layer's input is in units of; the head's last."""
    reaches = [_reach(network.activation, after, room) for after in calibration.after]
    hidden = [_Input(np.zeros(1), np.array([reach])) for reach in reaches]
    if network.takes_bytes:
        return [_Input(np.zeros(1), np.array([float(_BYTE)])), *hidden]
    low, high, most = calibration.low, calibration.high, np.full_like(calibration.low, np.inf)
    if network.bounds is not None:  # what a normaliser clips at is where an entry ends
        low, high = (bound.numpy() for bound in network.bounds)
        most = (high - low) / 2
    center = ((low + high) / 2).astype(np.float32).astype(np.float64)  # as the program has it
    seen = np.maximum(calibration.high - center, center - calibration.low) * room
    reach = np.minimum(np.where(seen > _LEAST_REACH, seen, 1.0), most)
    return [_Input(center, reach), *hidden]


def _reach(activation: str, seen: float, room: float) -> float:
    if activation == "tanh":
        return 1.0
    return seen * room if seen > 0 else 1.0


def _scaled(layer: FloatLayer, given: _Input, seen: Moments, bits: int, largest: int) -> _Scaled:
    """Round a layer's weights, and find the largest limit of its input."""
    weight, bias = layer.weight.numpy(), layer.bias.numpy()
    rows = weight.reshape(len(weight), -1)
    bias = bias + (rows * given.center).sum(1)
    whole, units, mean_errors = rounded(
        rows * given.reach,
        bits,
        least=np.abs(bias) / _MOST_BIAS,
        inputs=seen.within(given.center, given.reach),
    )
    biases = (bias - mean_errors) / units
    worst = float((np.abs(whole.astype(np.int64)).sum(1) + np.abs(biases)).max())
    limit = min(largest, int((LARGEST_SUM - 1) / max(worst, 1.0)))
    return _Scaled(whole.reshape(weight.shape), units, biases, limit, layer.stride)


def _of_bytes(scaled: _Scaled) -> _Scaled:
    """Return a layer that takes bytes as they are."""
    if scaled.limit < _BYTE:
        raise MismatchError(
            f"observations of {scaled.weights[0].size:,} bytes: their sums do not fit into 32 "
            f"bits; export it as onnx"
        )
    return scaled._replace(limit=_BYTE)


def _hidden(own: _Scaled, activation: str, before: float, reach: float, limit: int) -> IntegerLayer:
    """Return a hidden layer; `reach` and `limit` are the next one's."""
    if activation == "relu":
        return own.layer(own.units / own.limit * limit / reach, limit)
    end = min(before, _CURVE_END) if activation == "tanh" else before
    return _curved(own, activation, end or 1.0, limit / reach, limit)


def _curved(own: _Scaled, activation: str, end: float, per_one: float, limit: int) -> IntegerLayer:
    """Return a layer with a curve from −end to end, whose values are `per_one` for 1."""
    points = (np.arange(CURVE_POINTS) * 2**CURVE_BITS - 2**15) * end / UNIT
    values = ACTIVATIONS[activation]()(torch.from_numpy(points)).numpy() * per_one
    factors = own.units / own.limit * UNIT / end
    return own.layer(factors, UNIT, np.clip(values, -limit, limit))


def _head(own: _Scaled, spec: PolicySpec, before: float) -> tuple[IntegerLayer, float]:
    """Return the head, and what 1 of its numbers stands for."""
    if spec.action_box is None:
        coarsest = own.units.max()  # so that nothing is lost
        return own.layer(own.units / coarsest, LARGEST_SUM), float(coarsest / own.limit)
    if spec.dist == "gaussian":  # which is clipped to the bounds
        return own.layer(own.units / own.limit * UNIT, UNIT), 1 / UNIT
    end = min(before, _CURVE_END) or 1.0
    return _curved(own, "tanh", end, float(UNIT), UNIT), 1 / UNIT


def _indices(network: FloatNetwork) -> npt.NDArray[np.int64] | None:
    if len(network.shape) != 1:
        return None
    entries = range(network.shape[0]) if network.entries is None else network.entries
    return np.array(entries, np.int64)


def _entry(given: _Input, limit: int) -> FloatEntry:
    return FloatEntry(
        center=given.center.astype(np.float32),
        factor=((limit << FRACTION_BITS) / given.reach).astype(np.float32),
        limit=limit,
    )


def _fixed_point(factor: float) -> tuple[int, int]:
    """Return multiplier and shift, so that a factor is multiplier / 2^shift."""
    fraction, exponent = math.frexp(min(factor, _LARGEST_FACTOR))
    multiplier, shift = round(fraction * 2**31), 31 - exponent
    if multiplier == 2**31:
        multiplier, shift = multiplier // 2, shift - 1
    return (multiplier, shift) if shift <= 62 else (0, 1)
