"""What the C program calls in turn, and the buffers that it needs for that.

Two buffers hold the layers' results in turn; a third holds the values under a convolution's kernel.
"""

import math
from dataclasses import dataclass, field

from learners.export.integer.integer_network import IntegerLayer, IntegerNetwork

OBSERVATION = "observation"

_BUFFERS = ("sh_even", "sh_odd")


@dataclass(slots=True, kw_only=True)
class Plan:
    """Calls and buffers."""

    calls: list[str] = field(default_factory=list)
    """C statements."""
    buffers: dict[str, int] = field(default_factory=dict)
    """Values in each."""
    patch: int = 0
    """Numbers of 16 bits under the largest kernel; 0 without convolutions."""
    convolutions: dict[str, str] = field(default_factory=dict)
    """Kinds of convolution that are called, and the type of their input."""
    result: str = OBSERVATION
    """Where the last layer's results are."""
    shape: tuple[int, ...] = ()
    """Of these."""

    @property
    def size(self) -> int:
        """Number of the last results."""
        return math.prod(self.shape)

    def take(self, shape: tuple[int, ...]) -> str:
        """Return a buffer for the next results."""
        name = _BUFFERS[self.result == _BUFFERS[0]]
        self.buffers[name] = max(self.buffers.get(name, 0), math.prod(shape))
        self.result, self.shape = name, shape
        return name

    def convolve(self, name: str, layer: IntegerLayer) -> None:
        """Call a convolution."""
        channels, height, width = self.shape
        kernel, stride = layer.weights.shape[-1], layer.stride
        rows, columns = (height - kernel) // stride + 1, (width - kernel) // stride + 1
        self.patch = max(self.patch, layer.weights[0].size)
        kind, type_of_input = "values", "sh_value"
        if self.result == OBSERVATION:
            kind, type_of_input = "bytes", "uint8_t"
        self.convolutions[kind] = type_of_input
        source, outputs = self.result, len(layer.weights)
        sizes = (channels, height, width, kernel, stride, outputs, rows, columns)
        target = self.take((outputs, rows, columns))
        self.calls += [
            f"static const sh_shape {name}_shape = {{{', '.join(map(str, sizes))}}};",
            f"sh_convolve_{kind}(&{name}, &{name}_shape, {source}, {target});",
        ]

    def dense(self, name: str, layer: IntegerLayer) -> None:
        """Call a linear layer."""
        source, inputs, outputs = self.result, self.size, len(layer.weights)
        target = self.take((outputs,))
        self.calls.append(f"sh_dense(&{name}, {source}, {inputs}, {target}, {outputs});")


def layer_names(network: IntegerNetwork) -> list[str]:
    """Return what the hidden layers are called."""
    return [f"sh_layer_{number}" for number in range(len(network.layers))]


def plan(network: IntegerNetwork) -> Plan:
    """Lay out a network; the head is left to the caller."""
    planned = Plan(shape=network.shape)
    if network.indices is not None:
        target = planned.take(network.indices.shape)
        planned.calls.append(f"sh_read(observation, {target});")
    for name, layer in zip(layer_names(network), network.layers, strict=True):
        (planned.convolve if layer.weights.ndim == 4 else planned.dense)(name, layer)
    return planned
