"""A policy's weights by the names that Stable-Baselines3's own policies have for them.

Its NatureCNN has 32, 64 and 64 channels and cannot be told otherwise. A narrower network fits into
it exactly: the channels that it lacks get weights of zero, say zero, and nobody listens to them.
They stay dead when SB3 goes on training, too.
"""

from collections.abc import Mapping

import torch
from torch.nn import functional as F

from common.networks.mlp import MLPSpec
from common.networks.nature_cnn import NatureCNNSpec
from common.policies.policy import Policy, new_policy
from common.teachers.sb3_format import CNN_LAYERS

State = dict[str, torch.Tensor]
NATURE = NatureCNNSpec()
"""The convolutions of SB3's."""


def actor_critic_weights(policy: Policy) -> State:
    """Return the state dict of an `ActorCriticPolicy`; a policy without a value gets fresh ones."""
    own = policy.network.state_dict()
    network = policy.spec.network
    if isinstance(network, NatureCNNSpec):
        own = own if policy.spec.has_value else _fresh(policy, network) | own
        features = _features(own, network)
        prefixes = ("features_extractor", "pi_features_extractor", "vf_features_extractor")
        state = {f"{prefix}.{name}": features[name] for prefix in prefixes for name in features}
    else:
        assert isinstance(network, MLPSpec)
        actor = _tower(own, "layers", len(network.hidden))
        if not policy.spec.has_value:
            network = network.model_copy(update={"value_hidden": network.hidden})
            own = _fresh(policy, network) | own
        critic = actor  # with a critic on the actor's layers
        if network.value_hidden is not None:
            critic = _tower(own, "value_layers", len(network.value_hidden))
        towers = {"policy_net": actor, "value_net": critic}
        state = {
            f"mlp_extractor.{tower}.{name}": tensor
            for tower, tensors in towers.items()
            for name, tensor in tensors.items()
        }
    return state | _layer(own, "head", "action_net") | _layer(own, "value", "value_net")


def q_network_weights(policy: Policy) -> State:
    """Return the state dict of a `DQNPolicy`, whose target is the network itself."""
    own = policy.network.state_dict()
    network = policy.spec.network
    if isinstance(network, NatureCNNSpec):
        features = _features(own, network)
        online = {f"features_extractor.{name}": tensor for name, tensor in features.items()}
        online |= _layer(own, "head", "q_net.0")
    else:
        assert isinstance(network, MLPSpec)
        tower = _tower(own, "layers", len(network.hidden))
        online = {f"q_net.{name}": tensor for name, tensor in tower.items()}
        online |= _layer(own, "head", f"q_net.{2 * len(network.hidden)}")
    return {
        f"{net}.{name}": tensor
        for net in ("q_net", "q_net_target")
        for name, tensor in online.items()
    }


def _fresh(policy: Policy, network: MLPSpec | NatureCNNSpec) -> State:
    """Return fresh weights of a policy like this one with a value head."""
    spec = policy.spec.model_copy(update={"network": network, "has_value": True})
    return new_policy(spec, seed=0).network.state_dict()


def _layer(state: Mapping[str, torch.Tensor], ours: str, theirs: str) -> State:
    return {f"{theirs}.{part}": state[f"{ours}.{part}"] for part in ("weight", "bias")}


def _tower(state: Mapping[str, torch.Tensor], ours: str, num_layers: int) -> State:
    """Return linear layers by their places in a sequence in which activations lie between them."""
    layers = [_layer(state, f"{ours}.{index}", str(2 * index)) for index in range(num_layers)]
    return {name: tensor for layer in layers for name, tensor in layer.items()}


def _features(state: Mapping[str, torch.Tensor], network: NatureCNNSpec) -> State:
    """Return the weights of SB3's NatureCNN."""
    features: State = {}
    missing = 0  # channels that the layer before lacks
    for index, channels in enumerate(network.channels):
        lacks = NATURE.channels[index] - channels
        weight, bias = (state[f"conv{index + 1}.{part}"] for part in ("weight", "bias"))
        name = CNN_LAYERS[f"conv{index + 1}"]
        features[f"{name}.weight"] = F.pad(weight, (0, 0, 0, 0, 0, missing, 0, lacks))
        features[f"{name}.bias"] = F.pad(bias, (0, lacks))
        missing = lacks
    weight = state["fc.weight"]  # [hidden, channels · height · width]
    by_channel = weight.reshape(len(weight), network.channels[-1], -1)
    name = CNN_LAYERS["fc"]
    features[f"{name}.weight"] = F.pad(by_channel, (0, 0, 0, missing)).flatten(1)
    features[f"{name}.bias"] = state["fc.bias"]
    return features
