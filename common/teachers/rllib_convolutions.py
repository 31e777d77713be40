"""RLlib's convolutions and the heads behind them as one `NatureCNN`.

They are one where they do not pad their input, and where each head has one hidden layer. RLlib's
channels come last, ours first, which matters where convolutions are flattened. Our heads share
their hidden layer: a value that has learnt one of its own, or convolutions of its own, is left out.
"""

from typing import Any

import torch

from common.networks.nature_cnn import NatureCNNSpec
from common.teachers.rllib_checkpoint import SUPPORTED, RLModuleFiles
from common.teachers.torch_state import State, renamed, sequence

_ENCODER = "encoder."
_CRITIC = "encoder.critic_encoder."
"""Where the value has convolutions of its own."""
_CONVOLUTIONS = (
    "encoder.net.0.cnn",
    "encoder.encoder.net.0.cnn",
    "encoder.actor_encoder.net.0.cnn",
)
"""Of a DQN, and of an actor-critic with one encoder or two."""


def without_encoder(state: State) -> State:
    """Return the tensors of the heads."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(_ENCODER)}


def as_nature_cnn(files: RLModuleFiles, state: State, heads: State) -> tuple[NatureCNNSpec, State]:
    """Return the network of a module on frames, and its tensors by our names.

    Args:
        files: of the module.
        state: its tensors by its names.
        heads: those of the heads by the names of our `MLP`, with one of `layers`; the value's are
            looked up in `state`.

    Raises:
        PolicyFileError: a layer is of a kind that is not supported, is missing or has no place.
        ValidationError: the layers make no specification.
    """
    strides = _strides(files)
    convs = _convolutions(state)
    weights = [tensor for name, tensor in convs.items() if name.endswith(".weight")]
    if len(weights) != len(strides):
        raise files.refusal(
            f"conv_filters has {len(strides)} layers, and there are {len(weights)}; fetch it again"
        )
    if (num_hidden := len(sequence(heads, "layers"))) != 1:
        raise files.refusal(f"{num_hidden} of head_fcnet_hiddens are not supported; {SUPPORTED}")
    hidden, bias = heads["layers.0.weight"], heads["layers.0.bias"]
    channels = tuple(len(weight) for weight in weights)
    if hidden.shape[-1] % channels[-1]:
        raise files.refusal(f"its heads do not see {channels[-1]} channels; fetch it again")
    channels_last = hidden.reshape(len(hidden), -1, channels[-1])
    tensors = convs | {"fc.weight": channels_last.transpose(-1, -2).flatten(-2), "fc.bias": bias}
    tensors |= {f"head.{part}": heads[f"head.{part}"] for part in ("weight", "bias")}
    tensors |= _value(state, hidden, bias)
    spec = NatureCNNSpec(
        channels=channels,
        kernels=tuple(weight.shape[-1] for weight in weights),
        strides=strides,
        hidden=len(hidden),
    )
    return spec, tensors


def _strides(files: RLModuleFiles) -> tuple[int, ...]:
    """Return the strides of convolutions that do not pad their input, with a ReLU each."""
    config = files.model_config
    for name in ("conv_activation", "head_fcnet_activation"):
        if str(activation := config.get(name)).lower() != "relu":
            raise files.refusal(f"{name} = {activation} is not supported; {SUPPORTED}")
    filters = config.get("conv_filters")
    strides = [_stride(layer) for layer in filters] if isinstance(filters, list | tuple) else []
    if not strides or None in strides:
        raise files.refusal(
            f"conv_filters = {filters} is not supported (they pad their input, or are no squares); "
            f"{SUPPORTED}"
        )
    return tuple(stride for stride in strides if stride is not None)


def _stride(layer: Any) -> int | None:
    """Return a convolution's stride, where it does not pad and has one for both directions."""
    match layer:
        case [_, _, int(stride), "valid"]:
            return stride
        case [_, _, [int(stride), int(other)], "valid"] if stride == other:
            return stride
    return None


def _convolutions(state: State) -> State:
    """Return the tensors of the convolutions that actions go through, by our names."""
    encoder = {
        name: tensor
        for name, tensor in state.items()
        if name.startswith(_ENCODER) and not name.startswith(_CRITIC)
    }
    layers = [name for prefix in _CONVOLUTIONS for name in sequence(encoder, prefix)]
    ours = {f"conv{index}": name for index, name in enumerate(layers, start=1)}
    return renamed(encoder, ours, supported=SUPPORTED)


def _value(state: State, hidden: torch.Tensor, bias: torch.Tensor) -> State:
    """Return the value's head by our names, where it sees the policy's own hidden layer."""
    layers = sequence(state, "vf.net.mlp")
    if len(layers) != 2 or any(name.startswith(_CRITIC) for name in state):
        return {}
    value = {name: tensor for name, tensor in state.items() if name.startswith("vf.")}
    named = renamed(value, dict(zip(("hidden", "value"), layers, strict=True)), supported=SUPPORTED)
    own_weight, own_bias = named["hidden.weight"], named["hidden.bias"]
    if not (torch.equal(own_weight, hidden) and torch.equal(own_bias, bias)):
        return {}
    return {f"value.{part}": named[f"value.{part}"] for part in ("weight", "bias")}
