"""What the numbers of a network are like on real observations."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from common.networks.mlp import ACTIVATIONS
from learners.export.integer.float_layers import FloatLayer, FloatNetwork
from learners.export.integer.rounding import Moments

Array = npt.NDArray[np.float64]

_BATCH = 256
_MOST_INPUTS = 4_096
"""Of a layer, whose covariance is known: 130 MB."""
_MOST_ROWS = 8_192
"""Of a batch, for means and covariances: a convolution has a row for every place of its kernel."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """What was seen."""

    low: Array
    """[I] least value of every entry that the first layer sees, of vectors."""
    high: Array
    """[I] largest one."""
    before: tuple[float, ...]
    """Largest absolute value of each layer before its activation, the head's last."""
    after: tuple[float, ...]
    """The same behind the activation, without the head's."""
    inputs: tuple[Moments, ...]
    """Of what each layer multiplies, the head last; of a convolution, under its kernel."""


class _Sums:
    """Running sums of rows [., I]."""

    def __init__(self, size: int) -> None:
        self._count = 0
        self._sum = torch.zeros(size, dtype=torch.float64)
        self._squares = torch.zeros(size, dtype=torch.float64)
        self._products: torch.Tensor | None = None
        if size <= _MOST_INPUTS:
            self._products = torch.zeros(size, size, dtype=torch.float64)
        self._first: torch.Tensor | None = None

    def add(self, rows: torch.Tensor) -> None:
        """Add rows, of too many only some."""
        rows = rows[:: -(-len(rows) // _MOST_ROWS)]
        if self._first is None:
            self._first = rows[0].clone()  # from which differences are small enough for float32
        rows = rows - self._first
        self._count += len(rows)
        self._sum += rows.sum(0)
        self._squares += rows.square().sum(0)
        if self._products is not None:
            self._products += rows.T @ rows

    def found(self) -> Moments:
        """Return what all rows are like."""
        assert self._first is not None
        mean = self._sum / self._count
        variances = (self._squares / self._count - mean.square()).clamp(min=0.0)
        covariance = None
        if self._products is not None:
            covariance = (self._products / self._count - torch.outer(mean, mean)).numpy()
        return Moments((self._first.double() + mean).numpy(), variances.numpy(), covariance)


def calibrate(network: FloatNetwork, observations: npt.NDArray[Any]) -> Calibration:
    """Run a network in float32 and note what its numbers are like.

    Args:
        network: what is to be quantised.
        observations: [M, *shape] raw observations, M ≥ 1, of which one at least is of finite
            numbers; the others count for nothing.
    """
    activation, layers = ACTIVATIONS[network.activation](), [*network.layers, network.head]
    before, after = np.zeros(len(layers)), np.zeros(len(layers))
    sums = [_Sums(layer.weight[0].numel()) for layer in layers]
    lows, highs = [], []
    with torch.inference_mode():
        for x in _batches(network, observations):
            rows = x.flatten(1)
            lows.append(rows.min(0).values)
            highs.append(rows.max(0).values)
            for number, layer in enumerate(layers):
                sums[number].add(_rows(layer, x))
                x = layer(x)
                before[number] = max(before[number], float(x.abs().max()))
                x = activation(x)
                after[number] = max(after[number], float(x.abs().max()))
    return Calibration(
        low=torch.stack(lows).min(0).values.double().numpy(),
        high=torch.stack(highs).max(0).values.double().numpy(),
        before=tuple(before.tolist()),
        after=tuple(after[:-1].tolist()),
        inputs=tuple(own.found() for own in sums),
    )


def _batches(network: FloatNetwork, observations: npt.NDArray[Any]) -> Iterator[torch.Tensor]:
    for start in range(0, len(observations), _BATCH):
        # torch.tensor copies: the array may be read-only, which torch.from_numpy warns about.
        x = network.seen(torch.tensor(observations[start : start + _BATCH]))
        x = x[x.flatten(1).isfinite().all(1)]
        if len(x):
            yield x


def _rows(layer: FloatLayer, x: torch.Tensor) -> torch.Tensor:
    """Return what a layer's weights are multiplied with, [., I]."""
    if layer.weight.ndim == 2:
        return x.flatten(1)
    kernel = layer.weight.shape[-1]
    return F.unfold(x, kernel, stride=layer.stride).transpose(1, 2).flatten(0, 1)
