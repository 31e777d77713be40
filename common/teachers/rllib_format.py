"""RLlib's default RLModules as policies: PPO, IMPALA, APPO and DQN on vectors and on frames.

A duelling network's Q-values, V + A − mean A, are linear in the last layers of its two streams, so
they fit into one network exactly (Wang et al. 2016, equation 9).

Convolutions without padding and one hidden layer in each head make a `NatureCNN`, once channels
come first. Its heads share their hidden layer, so a value that has learnt one of its own is left
out.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from common.networks.mlp import MLPSpec
from common.networks.nature_cnn import NatureCNNSpec
from common.policies.policy import Policy, policy_from_state
from common.policies.spec import ObservationSpec, PolicySpec
from common.teachers.rllib_checkpoint import (
    InertObject,
    RLModuleFiles,
    as_tensor,
    read_rl_module,
)
from common.teachers.torch_state import State, layers_as, renamed, sequence, widths

_ACTOR_CRITICS = {
    "DefaultPPOTorchRLModule": "PPO",
    "PPOTorchRLModule": "PPO",
    "DefaultAPPOTorchRLModule": "APPO",
    "APPOTorchRLModule": "APPO",
}
"""IMPALA has PPO's module."""
_Q_NETWORKS = {"DefaultDQNTorchRLModule": "DQN", "DQNTorchRLModule": "DQN"}
_SUPPORTED = (
    "supported are the default modules of PPO, IMPALA, APPO and DQN on vectors, and on frames with "
    'conv_filters of "valid" padding, relu and one head_fcnet_hiddens; every other one as '
    "package.module:function with teacher.trust = true, or as ONNX"
)
_UNUSED = ("_target_", "_old_")
"""Copies that acting does not need."""
_CLIP = ".log_std_clip_param_const"
"""Of every head; only continuous actions use it."""
_CONVOLUTIONS = tuple(
    f"{encoder}.net.0.cnn" for encoder in ("encoder", "encoder.encoder", "encoder.actor_encoder")
)
_CRITIC = "encoder.critic_encoder."
"""Where the value has convolutions of its own."""
_ACTIVATIONS: dict[str, Literal["relu", "tanh", "elu"]] = {
    "relu": "relu",
    "tanh": "tanh",
    "elu": "elu",
}


def load_rllib(path: Path) -> Policy:
    """Read a checkpoint of RLlib's.

    Args:
        path: of the checkpoint of an algorithm, of its RLModules, or of one RLModule.

    Raises:
        PolicyFileError: it is damaged, unsafe, or of a kind that is not supported.
        ValidationError: its values make no specification.
    """
    files = read_rl_module(path)
    algorithm = (_ACTOR_CRITICS | _Q_NETWORKS).get(files.class_name)
    if algorithm is None:
        raise files.refusal(f"module {files.class_name} is not supported; {_SUPPORTED}")
    observation, num_actions = _observation(files), _num_actions(files)
    _refuse_unsupported(files)
    state = {
        name: tensor
        for name, tensor in files.state.items()
        if not name.startswith(_UNUSED) and not name.endswith(_CLIP)
    }
    is_q = files.class_name in _Q_NETWORKS
    read = _nature_cnn if len(observation.shape) == 3 else _mlp
    network, tensors = read(files, state, is_q)
    spec = PolicySpec(
        name=f"{algorithm.lower()}-{path.name}",
        network=network,
        observation=observation,
        num_actions=num_actions,
        dist="q_values" if is_q else "logits",
        has_value="value.weight" in tensors,
        provenance={"format": "rllib", "algorithm": algorithm},
    )
    return policy_from_state(spec, tensors, source=str(path))


def _mlp(files: RLModuleFiles, state: State, is_q: bool) -> tuple[MLPSpec, State]:
    """Return the network of a module on vectors, and its tensors by our names."""
    tensors = _q_network(files, state) if is_q else _actor_critic(state)
    has_value_tower = "value_layers.0.weight" in tensors
    spec = MLPSpec(
        hidden=widths(tensors, "layers"),
        activation=_activation(files, state),
        value_hidden=widths(tensors, "value_layers") if has_value_tower else None,
    )
    return spec, tensors


def _nature_cnn(files: RLModuleFiles, state: State, is_q: bool) -> tuple[NatureCNNSpec, State]:
    """Return the network of a module on frames, and its tensors by our names."""
    channels, kernels, strides = _convolutions(files)
    encoder = {name: tensor for name, tensor in state.items() if name.startswith("encoder.")}
    acting = {name: tensor for name, tensor in encoder.items() if not name.startswith(_CRITIC)}
    heads = {name: tensor for name, tensor in state.items() if name not in encoder}
    convs = [name for prefix in _CONVOLUTIONS for name in sequence(acting, prefix)]
    ours = {f"conv{index}": name for index, name in enumerate(convs, start=1)}
    tensors = _q_network(files, heads) if is_q else _actor_critic(heads)
    if len(sequence(tensors, "layers")) != 1:
        raise files.refusal(
            f"its heads have {len(sequence(tensors, 'layers'))} hidden layers on frames, which "
            f"must be 1; {_SUPPORTED}"
        )
    hidden = {part: tensors.pop(f"layers.0.{part}") for part in ("weight", "bias")}
    if hidden["weight"].shape[-1] % channels[-1]:
        raise files.refusal(f"its heads do not see {channels[-1]} channels; fetch it again")
    by_place = hidden["weight"].unflatten(-1, (-1, channels[-1]))
    tensors |= {"fc.weight": by_place.transpose(-1, -2).flatten(-2), "fc.bias": hidden["bias"]}
    tensors |= renamed(acting, ours, supported=_SUPPORTED)
    if len(acting) == len(encoder):
        tensors |= _value_on_one_hidden_layer(heads)
    sizes = {"channels": channels, "kernels": kernels, "strides": strides}
    return NatureCNNSpec(**sizes, hidden=len(hidden["weight"])), tensors


def _value_on_one_hidden_layer(heads: State) -> State:
    """Return the value head of an actor-critic whose heads have equal hidden layers."""
    pairs = [
        (heads.get(f"pi.net.mlp.0.{part}"), heads.get(f"vf.net.mlp.0.{part}"))
        for part in ("weight", "bias")
    ]
    for policy, value in pairs:
        if policy is None or value is None or not torch.equal(policy, value):
            return {}
    (*_, last) = sequence(heads, "vf.net.mlp")
    return {f"value.{part}": heads[f"{last}.{part}"] for part in ("weight", "bias")}


def _convolutions(files: RLModuleFiles) -> tuple[tuple[int, ...], ...]:
    """Return channels, kernels and strides of convolutions that do not pad their input."""
    config = files.model_config
    filters = config.get("conv_filters")
    layers = [_unpadded(layer) for layer in filters] if isinstance(filters, list | tuple) else []
    if not layers or not all(layers):
        raise files.refusal(
            f"conv_filters = {filters} is not supported (padded or not square); {_SUPPORTED}"
        )
    for name in ("conv_activation", "head_fcnet_activation"):
        if str(activation := config.get(name)).lower() != "relu":
            raise files.refusal(f"{name} = {activation} is not supported; {_SUPPORTED}")
    return tuple(zip(*filter(None, layers), strict=True))


def _unpadded(layer: Any) -> tuple[int, ...] | None:
    """Return channels, kernel and stride of a square convolution without padding."""
    match layer:
        case [int(channels), kernel, stride, "valid"]:
            kernel, stride = _side(kernel), _side(stride)
            if isinstance(kernel, int) and isinstance(stride, int):
                return channels, kernel, stride
    return None


def _side(size: Any) -> Any:
    """Return the side of a square that may be told by two."""
    match size:
        case [int(height), int(width)] if height == width:
            return height
    return size


def _refuse_unsupported(files: RLModuleFiles) -> None:
    config = files.model_config
    if config.get("use_lstm"):
        raise files.refusal(f"recurrent teachers are not supported yet (use_lstm); {_SUPPORTED}")
    if config.get("fcnet_use_layernorm") or config.get("head_fcnet_use_layernorm"):
        raise files.refusal(f"layer normalisation is not supported; {_SUPPORTED}")
    if (atoms := config.get("num_atoms", 1)) != 1:
        raise files.refusal(
            f"distributional Q-values (num_atoms = {atoms}) are not supported; {_SUPPORTED}"
        )


def _observation(files: RLModuleFiles) -> ObservationSpec:
    space = files.observation_space
    shape = space.attributes.get("_shape")
    if _kind(space) != "Box" or not isinstance(shape, tuple):
        raise files.refusal(f"{_kind(space)} observations are not supported; {_SUPPORTED}")
    if len(shape) not in (1, 3):
        raise files.refusal(f"observations of shape {shape} are not supported; {_SUPPORTED}")
    low, high = (as_tensor(space.attributes.get(name)) for name in ("low", "high"))
    is_bytes = isinstance(low, torch.Tensor) and low.dtype == torch.uint8
    if len(shape) == 3:  # RLlib's convolutions take channels last, and bytes as floats
        shape = (shape[2], *shape[:2])
        is_bytes |= _are_all(low, 0.0) and _are_all(high, 255.0)
    return ObservationSpec(shape=shape, dtype="uint8" if is_bytes else "float32")


def _are_all(bound: Any, value: float) -> bool:
    return isinstance(bound, torch.Tensor) and bool((bound == value).all())


def _num_actions(files: RLModuleFiles) -> int:
    space = files.action_space
    start, count = (space.attributes.get(name, 0) for name in ("start", "n"))
    if _kind(space) != "Discrete" or start != 0 or not isinstance(count, int | np.integer):
        raise files.refusal(f"{_kind(space)} actions are not supported; {_SUPPORTED}")
    return int(count)


def _kind(space: InertObject) -> str:
    return space.origin.rpartition(".")[2]


def _activation(files: RLModuleFiles, state: State) -> Literal["relu", "tanh", "elu"]:
    config = files.model_config
    name = str(config.get("fcnet_activation")).lower()
    of_heads = str(config.get("head_fcnet_activation")).lower()
    heads_are_deep = any(len(sequence(state, f"{head}.net.mlp")) > 1 for head in ("pi", "vf", "af"))
    if name not in _ACTIVATIONS or (heads_are_deep and of_heads != name):
        both = f"{name}, heads {of_heads}" if heads_are_deep else name
        raise files.refusal(
            f"activation {both} is not supported; supported is one of {', '.join(_ACTIVATIONS)} in "
            f"all layers"
        )
    return _ACTIVATIONS[name]


def _actor_critic(state: State) -> State:
    """Return the tensors by the names of our `MLP`."""
    policy, value = (sequence(state, f"{head}.net.mlp") for head in ("pi", "vf"))
    shared = sequence(state, "encoder.encoder.net.mlp")
    actor = shared or sequence(state, "encoder.actor_encoder.net.mlp")
    critic = shared or sequence(state, "encoder.critic_encoder.net.mlp")
    *policy, head = [*actor, *policy] or ["pi.net.mlp.0"]
    layers = layers_as("layers", policy) | {"head": head}
    if value and critic:
        *value, value_head = [*critic, *value]
        one_trunk = value == policy
        layers |= ({} if one_trunk else layers_as("value_layers", value)) | {"value": value_head}
    else:  # the module of an env runner has no critic
        state = {name: tensor for name, tensor in state.items() if not name.startswith("vf.")}
    return renamed(state, layers, supported=_SUPPORTED)


def _q_network(files: RLModuleFiles, state: State) -> State:
    """Return the tensors by the names of our `MLP`, of a duelling network as one."""
    trunk = sequence(state, "encoder.net.mlp")
    *advantage, advantage_head = sequence(state, "af.net.mlp") or ["af.net.mlp.0"]
    plain = layers_as("layers", [*trunk, *advantage]) | {"head": advantage_head}
    if not files.model_config.get("dueling"):
        return renamed(state, plain, supported=_SUPPORTED)
    *value, value_head = sequence(state, "vf.net.mlp") or ["vf.net.mlp.0"]
    streams = layers_as("value", value) | {"value_head": value_head}
    return _merged(renamed(state, plain | streams, supported=_SUPPORTED), len(trunk))


def _merged(tensors: State, num_shared: int) -> State:
    """Put the two streams of a duelling network side by side in one.

    Args:
        tensors: `layers.0 …` and `head` of the advantages, `value.0 …` and `value_head` of the
            value, whose layers follow the shared ones.
        num_shared: number of shared layers.
    """
    merged = {name: tensor for name, tensor in tensors.items() if name.startswith("layers.")}
    for index in range(len(sequence(tensors, "value"))):
        name = f"layers.{num_shared + index}"
        weights = [tensors[f"{part}.weight"] for part in (name, f"value.{index}")]
        biases = [tensors[f"{part}.bias"] for part in (name, f"value.{index}")]
        # The first layers of both streams see the same features, later ones only their own.
        if index == 0:
            merged[f"{name}.weight"] = torch.cat(weights)
        else:
            joined = torch.block_diag(*weights)  # type: ignore[no-untyped-call]  # not in the stubs
            merged[f"{name}.weight"] = joined
        merged[f"{name}.bias"] = torch.cat(biases)
    advantage, value = tensors["head.weight"], tensors["value_head.weight"]
    centred = advantage - advantage.mean(0, keepdim=True)
    bias = tensors["head.bias"]
    spread = value.expand(len(advantage), -1)
    deep = bool(sequence(tensors, "value"))
    merged["head.weight"] = torch.cat([centred, spread], dim=1) if deep else centred + spread
    merged["head.bias"] = bias - bias.mean() + tensors["value_head.bias"]
    return merged
