"""RLlib's default RLModules as policies: PPO, IMPALA, APPO and DQN on vectors and on frames.

A duelling network's Q-values, V + A − mean A, are linear in the last layers of its two streams, so
they fit into one network exactly (Wang et al. 2016, equation 9).
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
    SUPPORTED,
    InertObject,
    RLModuleFiles,
    as_tensor,
    read_rl_module,
)
from common.teachers.rllib_convolutions import as_nature_cnn, without_encoder
from common.teachers.torch_state import State, layers_as, renamed, sequence, widths

_ACTOR_CRITICS = {
    "DefaultPPOTorchRLModule": "PPO",
    "PPOTorchRLModule": "PPO",
    "DefaultAPPOTorchRLModule": "APPO",
    "APPOTorchRLModule": "APPO",
}
"""IMPALA has PPO's module."""
_Q_NETWORKS = {"DefaultDQNTorchRLModule": "DQN", "DQNTorchRLModule": "DQN"}
_UNUSED = ("_target_", "_old_")
"""Copies that acting does not need."""
_CLIP = ".log_std_clip_param_const"
"""Of every head; only continuous actions use it."""
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
        raise files.refusal(f"module {files.class_name} is not supported; {SUPPORTED}")
    observation, num_actions = _observation(files), _num_actions(files)
    _refuse_unsupported(files)
    state = {
        name: tensor
        for name, tensor in files.state.items()
        if not name.startswith(_UNUSED) and not name.endswith(_CLIP)
    }
    is_q = files.class_name in _Q_NETWORKS
    sees_frames = len(observation.shape) == 3
    linear = without_encoder(state) if sees_frames else state
    tensors = _q_network(files, linear) if is_q else _actor_critic(linear)
    network: MLPSpec | NatureCNNSpec
    if sees_frames:
        network, tensors = as_nature_cnn(files, state, tensors)
    else:
        network = _mlp(files, state, tensors)
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


def _mlp(files: RLModuleFiles, state: State, tensors: State) -> MLPSpec:
    """Return the network that the tensors are of."""
    has_value_tower = "value_layers.0.weight" in tensors
    return MLPSpec(
        hidden=widths(tensors, "layers"),
        activation=_activation(files, state),
        value_hidden=widths(tensors, "value_layers") if has_value_tower else None,
    )


def _refuse_unsupported(files: RLModuleFiles) -> None:
    config = files.model_config
    if config.get("use_lstm"):
        raise files.refusal(f"recurrent teachers are not supported yet (use_lstm); {SUPPORTED}")
    if config.get("fcnet_use_layernorm") or config.get("head_fcnet_use_layernorm"):
        raise files.refusal(f"layer normalisation is not supported; {SUPPORTED}")
    if (atoms := config.get("num_atoms", 1)) != 1:
        raise files.refusal(
            f"distributional Q-values (num_atoms = {atoms}) are not supported; {SUPPORTED}"
        )


def _observation(files: RLModuleFiles) -> ObservationSpec:
    space = files.observation_space
    shape = space.attributes.get("_shape")
    if _kind(space) != "Box" or not isinstance(shape, tuple):
        raise files.refusal(f"{_kind(space)} observations are not supported; {SUPPORTED}")
    if len(shape) not in (1, 3):
        raise files.refusal(f"observations of shape {shape} are not supported; {SUPPORTED}")
    low, high = (as_tensor(space.attributes.get(name)) for name in ("low", "high"))
    is_bytes = isinstance(low, torch.Tensor) and low.dtype == torch.uint8
    if len(shape) == 3:  # RLlib's convolutions take channels last, and bytes as floats
        height, width, channels = shape
        shape = (channels, height, width)
        is_bytes |= _are_all(low, 0.0) and _are_all(high, 255.0)
    return ObservationSpec(shape=shape, dtype="uint8" if is_bytes else "float32")


def _are_all(bound: Any, value: float) -> bool:
    return isinstance(bound, torch.Tensor) and bool((bound == value).all())


def _num_actions(files: RLModuleFiles) -> int:
    space = files.action_space
    start, count = (space.attributes.get(name, 0) for name in ("start", "n"))
    if _kind(space) != "Discrete" or start != 0 or not isinstance(count, int | np.integer):
        raise files.refusal(f"{_kind(space)} actions are not supported; {SUPPORTED}")
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
    else:  # the module of an env runner has no critic, and one on frames no linear one
        state = {name: tensor for name, tensor in state.items() if not name.startswith("vf.")}
    return renamed(state, layers, supported=SUPPORTED)


def _q_network(files: RLModuleFiles, state: State) -> State:
    """Return the tensors by the names of our `MLP`, of a duelling network as one."""
    trunk = sequence(state, "encoder.net.mlp")
    *advantage, advantage_head = sequence(state, "af.net.mlp") or ["af.net.mlp.0"]
    plain = layers_as("layers", [*trunk, *advantage]) | {"head": advantage_head}
    if not files.model_config.get("dueling"):
        return renamed(state, plain, supported=SUPPORTED)
    *value, value_head = sequence(state, "vf.net.mlp") or ["vf.net.mlp.0"]
    streams = layers_as("value", value) | {"value_head": value_head}
    return _merged(renamed(state, plain | streams, supported=SUPPORTED), len(trunk))


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
