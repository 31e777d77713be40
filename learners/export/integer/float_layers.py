"""A policy's network as a list of layers, which is what can be written in whole numbers.

What stands before the first layer (a scale or a normaliser of observations, a choice of their
entries) is folded into it, and what nobody asks when an action is taken (value heads, log σ) is
left out.

Of discrete actions the head is centred: the mean over the actions of its weights and biases is
taken off. Neither the greedy action nor a softmax sees that; but Q-values of 50 that differ by
hundredths would not survive weights of 8 bits, and their differences do.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from common.errors import MismatchError
from common.networks.mlp import MLP
from common.networks.nature_cnn import NatureCNN
from common.policies.policy import Policy
from common.policies.spec import PolicySpec


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FloatLayer:
    """A linear layer, or a convolution without padding."""

    weight: torch.Tensor
    """[O, I] or [O, I, K, K], float64."""
    bias: torch.Tensor
    """[O], float64."""
    stride: int = 1

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Map [B, I] or [B, I, H, W] to [B, O] or [B, O, H', W'], in the type of `x`."""
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        if weight.ndim == 4:
            return F.conv2d(x, weight, bias, self.stride)
        return F.linear(x.flatten(1), weight, bias)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FloatNetwork:
    """Hidden layers with one activation, and the head."""

    shape: tuple[int, ...]
    """Of an observation, of which vectors may have entries that nobody looks at."""
    takes_bytes: bool
    """Whether observations are bytes; otherwise they are floats."""
    entries: tuple[int, ...] | None
    """Which entries of a vector the first layer sees; None: all."""
    bounds: tuple[torch.Tensor, torch.Tensor] | None
    """Lowest and highest value [I] that these entries count as, where a normaliser clips them."""
    layers: tuple[FloatLayer, ...]
    activation: str
    """In `common.networks.mlp.ACTIVATIONS`."""
    head: FloatLayer

    @property
    def fits_bytes(self) -> bool:
        """Whether nothing between the layers can be negative, nor in the observations."""
        return self.takes_bytes and self.activation == "relu"

    def seen(self, observations: torch.Tensor) -> torch.Tensor:
        """Return what the first layer sees of raw observations, in float32."""
        x = observations.to(torch.float32)
        if self.entries is not None:
            x = x[:, list(self.entries)]
        return x if self.bounds is None else x.clamp(*(bound.float() for bound in self.bounds))


def float_network(policy: Policy) -> FloatNetwork:
    """Take a policy apart, in float64.

    Args:
        policy: on any device and in any float type; it is left as it was.

    Raises:
        MismatchError: it has parts that cannot be written in whole numbers.
    """
    spec, network = policy.spec, policy.network
    if reason := _obstacle(policy):
        raise MismatchError(
            f"policy {spec.name} cannot leave as a C program: {reason}; export it as onnx"
        )
    assert isinstance(network, MLP | NatureCNN)  # `_obstacle` sees to it
    if isinstance(network, MLP):
        hidden = [_linear(layer) for layer in network.layers]
        activation, entries = network.spec.activation, network.spec.inputs
    else:
        hidden = [*(_convolution(conv) for conv in network.convs), _linear(network.fc)]
        activation, entries = "relu", None
    first, bounds = _with_observation_inside(hidden[0], spec, entries)
    return FloatNetwork(
        shape=spec.observation.shape,
        takes_bytes=spec.observation.dtype == "uint8",
        entries=entries,
        bounds=bounds,
        layers=(first, *hidden[1:]),
        activation=activation,
        head=_head(network.head, spec),
    )


def _obstacle(policy: Policy) -> str | None:
    """Return what has no place in the program; None where there is nothing."""
    spec, network = policy.spec, policy.network
    if not isinstance(network, MLP | NatureCNN):
        return f"its network is {spec.network.name}, and programs are of mlp and nature_cnn"
    if spec.heads:
        return "it is of several tasks, and a program is of one"
    if isinstance(network, NatureCNN) and spec.observation.dtype != "uint8":
        return f"its frames are of {spec.observation.dtype}, and programs take bytes"
    if not isinstance(network.head, nn.Linear):
        return "its head explores by state (gsde)"
    return None


def _linear(layer: nn.Module) -> FloatLayer:
    assert isinstance(layer, nn.Linear)
    return FloatLayer(weight=_copied(layer.weight), bias=_copied(layer.bias))


def _convolution(layer: nn.Conv2d) -> FloatLayer:
    assert layer.bias is not None
    return FloatLayer(
        weight=_copied(layer.weight), bias=_copied(layer.bias), stride=layer.stride[0]
    )


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to("cpu", torch.float64, copy=True)


def _with_observation_inside(
    layer: FloatLayer, spec: PolicySpec, entries: Iterable[int] | None
) -> tuple[FloatLayer, tuple[torch.Tensor, torch.Tensor] | None]:
    """Return the first layer for raw observations, and the bounds of these."""
    observation, weight = spec.observation, layer.weight * spec.observation.scale
    if (given := observation.normalizer) is None:
        return FloatLayer(weight=weight, bias=layer.bias, stride=layer.stride), None
    chosen = list(range(len(given.mean)) if entries is None else entries)
    mean = torch.tensor(given.mean, dtype=torch.float64)[chosen]
    std = torch.tensor(given.std, dtype=torch.float64)[chosen]
    weight = weight / std
    bounds = mean - given.clip * std, mean + given.clip * std
    return FloatLayer(weight=weight, bias=layer.bias - weight @ mean), bounds


def _head(layer: nn.Module, spec: PolicySpec) -> FloatLayer:
    whole = _linear(layer)
    if spec.action_box is not None:  # the mean comes first
        size = spec.action_box.size
        return FloatLayer(weight=whole.weight[:size], bias=whole.bias[:size])
    return FloatLayer(
        weight=whole.weight - whole.weight.mean(0), bias=whole.bias - whole.bias.mean()
    )
