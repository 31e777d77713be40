"""Copy weights between RLlib's default RLModules and policies of our own, exactly.

The weights move between the RLModule's MLPs and our `MLP`, out of the frame network of ours that
an RLModule has for its encoder (`learners.rllib_frames`), or from our `NatureCNN` into RLlib's own
convolutions, and both networks must then say the same about random observations: a new layout in
RLlib is an error here, never a wrong teacher or a wrong export. RLlib itself is not imported; the
names below are its names.

RLlib's convolutions take channels last and in floats (`as_rllib_sees`), and leave them last when
they are flattened. The layer behind them is the hidden one of every head: policy and value have a
copy each.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from common.networks.nature_cnn import NatureCNN
from common.policies.policy import Policy, policy_from_state
from common.policies.spec import PolicySpec

_TOLERANCE = 1e-5
"""Largest difference from the RLModule's outputs, relative to the outputs where they exceed 1."""
_PROBES = 64
"""Random observations that the two networks are compared on; of frames an eighth."""


def policy_from_rl_module(module: Any, spec: PolicySpec, *, seed: int = 0) -> Policy:
    """Return a policy with the RLModule's weights.

    Args:
        module: RLlib's default torch module of a DQN without duelling or of a PPO, as its learner
            has it (the env runner's has no value head), with MLPs or the encoder of
            `learners.rllib_frames`.
        spec: what the policy is; `dist` tells which of the two.
        seed: of the observations that the copy is compared on.

    Raises:
        FloatingPointError: a weight or an output is NaN or infinite.
        RuntimeError: the copy's outputs differ from the RLModule's.
    """
    state = {name: tensor.detach().cpu().clone() for name, tensor in _tensors(module, spec)}
    if not all(bool(torch.isfinite(tensor).all()) for tensor in state.values()):
        raise FloatingPointError("the network's weights hold NaN or infinity")
    policy = policy_from_state(spec, state, source="RLModule")
    _check_outputs(policy, module, seed, sees=lambda observations: observations)
    return policy


def policy_to_rl_module(policy: Policy, module: Any, *, seed: int = 0) -> None:
    """Give an RLModule the weights of a policy.

    Args:
        policy: in float32 on the CPU; its observations have the scale 1.
        module: RLlib's default torch module of a DQN without duelling or of a PPO, with MLPs or
            convolutions of the policy's sizes; without a critic where the policy has no value head.
        seed: of the observations that the two are compared on.

    Raises:
        FloatingPointError: an output is NaN or infinite.
        RuntimeError: the RLModule's outputs differ from the policy's.
    """
    network, state = policy.network, policy.network.state_dict()
    layers = _linears(module, policy.spec)
    if isinstance(network, NatureCNN):
        layers = _frame_layers(module, policy.spec)
        by_channel = state["fc.weight"].unflatten(1, (network.spec.channels[-1], -1))
        state["fc.weight"] = by_channel.transpose(1, 2).flatten(1)
    with torch.no_grad():
        for name, layer in layers:
            layer.weight.copy_(state[f"{name}.weight"])
            layer.bias.copy_(state[f"{name}.bias"])
    _check_outputs(policy, module, seed, sees=as_rllib_sees)


def as_rllib_sees(observations: torch.Tensor) -> torch.Tensor:
    """Return observations as RLlib's own encoders take them: in floats, and channels last."""
    channels_last = observations.permute(0, 2, 3, 1) if observations.ndim == 4 else observations
    return channels_last.float()


def _tensors(module: Any, spec: PolicySpec) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the RLModule's weights by the names of our network."""
    for name, layer in _linears(module, spec):
        yield f"{name}.weight", layer.weight
        yield f"{name}.bias", layer.bias
    if len(spec.observation.shape) == 3:
        encoder = module.encoder if spec.dist == "q_values" else module.encoder.encoder
        yield from encoder.network.state_dict().items()


def _frame_layers(module: Any, spec: PolicySpec) -> Iterator[tuple[str, Any]]:
    """Yield the RLModule's layers by the names of our `NatureCNN`, a hidden one for every head."""
    convs = [layer for layer in module.encoder.modules() if isinstance(layer, nn.Conv2d)]
    for index, conv in enumerate(convs, start=1):
        yield f"conv{index}", conv
    for name, part in _parts(module, spec).items():
        hidden, last = (layer for layer in part.modules() if isinstance(layer, nn.Linear))
        yield "fc", hidden
        yield name, last


def _linears(module: Any, spec: PolicySpec) -> Iterator[tuple[str, Any]]:
    """Yield the RLModule's layers by the names of our `MLP`."""
    for name, part in _parts(module, spec).items():
        linears = [layer for layer in part.modules() if isinstance(layer, nn.Linear)]
        for index, layer in enumerate(linears):
            yield f"{name}.{index}" if name.endswith("layers") else name, layer


def _parts(module: Any, spec: PolicySpec) -> dict[str, nn.Module]:
    """Return the RLModule's parts of linear layers by the names of our networks."""
    sees_frames = len(spec.observation.shape) == 3
    if spec.dist == "q_values":
        return ({} if sees_frames else {"layers": module.encoder}) | {"head": module.af}
    parts = {"head": module.pi} | ({"value": module.vf} if spec.has_value else {})
    if sees_frames:
        return parts
    if not hasattr(module.encoder, "actor_encoder"):
        return {"layers": module.encoder.encoder} | parts
    if spec.has_value:
        parts |= {"value_layers": module.encoder.critic_encoder}
    return {"layers": module.encoder.actor_encoder} | parts


@torch.inference_mode()
def _check_outputs(
    policy: Policy, module: Any, seed: int, *, sees: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    probes = _probes(policy.spec, seed)
    output = policy.network(probes.float(), input_scale=policy.spec.observation.scale)
    batch = {"obs": sees(probes).to(next(module.parameters()).device)}
    pairs: list[tuple[Any, Any]]
    if policy.spec.dist == "q_values":
        pairs = [(output.dist_inputs, module.compute_q_values(batch)["qf_preds"])]
    else:
        pairs = [(output.dist_inputs, module.forward_inference(batch)["action_dist_inputs"])]
        if policy.spec.has_value:
            pairs.append((output.value, module.compute_values(batch)))
    for ours, theirs in pairs:
        if not bool(torch.isfinite(ours).all()):
            raise FloatingPointError("the network's outputs hold NaN or infinity")
        difference = float((ours - theirs.cpu()).abs().max())
        if difference > _TOLERANCE * max(1.0, float(ours.abs().max())):
            raise RuntimeError(
                f"a network and an RLModule of the same weights differ by {difference:.2g} "
                f"(allowed: {_TOLERANCE:g}); {type(module).__name__} has another layout"
            )


def _probes(spec: PolicySpec, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = spec.observation.shape
    if spec.observation.dtype == "uint8":
        return torch.randint(256, (_PROBES // 8, *shape), dtype=torch.uint8, generator=generator)
    return torch.randn(_PROBES, *shape, generator=generator)
