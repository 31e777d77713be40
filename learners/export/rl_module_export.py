"""Write a policy as a checkpoint of one of RLlib's RLModules, which RLlib can go on training.

    PPO:  RLModule.from_checkpoint(DIR).forward_inference({"obs": …})["action_dist_inputs"]
    DQN:  RLModule.from_checkpoint(DIR).compute_q_values({"obs": …})["qf_preds"]

Logits become PPO's default module and Q-values that of a DQN without duelling, with MLPs or with
the convolutions of a `nature_cnn`. RLlib builds and saves the module itself, so that the files are
those of its own version, and load without this package. The module takes the numbers that the
environment gives: a scale of the observations is in its first layers. RLlib's convolutions take
floats, channels last: frames of bytes [stack, height, width] come as floats from 0 to 255,
[height, width, stack].

A policy without a value head leaves without a critic. PPO then starts one of its own, in a network
of its own, where fresh gradients leave the policy alone.

`common.teachers.rllib_format` reads the folder back without Ray. This and the modules
`learners.rllib_…` are the only ones outside `cluster` that know Ray; it is imported once something
is to be written, because that takes seconds.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete

from common.errors import MismatchError
from common.networks.mlp import MLPSpec
from common.networks.nature_cnn import NatureCNNSpec
from common.policies.policy import Policy
from common.policies.spec import PolicySpec
from common.storage import Location, Named, locate
from common.teachers.rllib_checkpoint import STATE_FILE
from learners.export.check import Arrays, Run
from learners.export.local_copy import local_copy
from learners.export.observation_scale import with_scale
from learners.rl_module_copy import as_rllib_sees, policy_to_rl_module
from learners.rllib_quiet import quiet_rllib


def export_rl_module(policy: Policy, path: Named) -> str:
    """Write `policy` to the folder `path` as a checkpoint of an RLModule.

    Returns what there is to say about its observations: nothing where it takes the environment's.

    The folder is one from its last file on; the checkpoint that is there is replaced.

    Args:
        policy: on any device and in any float type; it is left as it was.
        path: of the folder; it and missing ones above it are made.

    Raises:
        MismatchError: RLlib's default modules cannot express the policy, or the folder holds
            something else.
        StorageError: it cannot be written.
    """
    if reason := _obstacle(policy.spec):
        raise MismatchError(
            f"policy {policy.spec.name} does not fit RLlib's default modules: {reason}; export it "
            f"as onnx"
        )
    module = _rl_module(policy.spec)
    policy_to_rl_module(with_scale(policy, 1.0), module)
    if policy.spec.dist == "q_values":
        module.make_target_networks()  # so that learning does not start from a random target
    with tempfile.TemporaryDirectory() as folder:
        module.save_to_path(folder)
        _publish(Path(folder), locate(path))
    return _told_of_observations(policy.spec)


def run_rl_module(location: Location, policy: Policy) -> Run:
    """Return a checkpoint that `export_rl_module` wrote in RLlib's torch module."""
    from ray.rllib.core.rl_module.rl_module import RLModule

    with local_copy(location) as folder, quiet_rllib():
        module: Any = RLModule.from_checkpoint(str(folder.absolute()))
    spec = policy.spec

    def run(given: Arrays) -> Arrays:
        # torch.tensor copies: batches may be read-only, which torch.from_numpy warns about.
        batch = {"obs": as_rllib_sees(torch.tensor(given["observation"]))}
        with torch.inference_mode():
            if spec.dist == "q_values":
                said = module.compute_q_values(batch)["qf_preds"]
            else:
                said = module.forward_inference(batch)["action_dist_inputs"]
            outputs = {"dist_inputs": said, "action": said.argmax(-1)}
            if spec.has_value:
                outputs["value"] = module.compute_values(batch)
        return {name: output.numpy() for name, output in outputs.items()}

    return run


def _obstacle(spec: PolicySpec) -> str | None:
    """Return what RLlib's default modules have no place for; None where there is nothing."""
    network = spec.network
    if not isinstance(network, MLPSpec | NatureCNNSpec):
        return f"its network is {network.name}, and they are mlp or nature_cnn"
    if spec.num_actions is None:
        return "its actions are not those of one Discrete space"
    if spec.observation.normalizer is not None:
        return "it normalises and clips its observations"
    if spec.has_value and spec.dist == "q_values":
        return "it has a value head beside its Q-values"
    return _obstacle_of_mlp(network, spec) if isinstance(network, MLPSpec) else None


def _obstacle_of_mlp(network: MLPSpec, spec: PolicySpec) -> str | None:
    if spec.observation.dtype != "float32":
        return f"its observations are of {spec.observation.dtype}, and they take floats"
    if network.inputs is not None:
        return f"it sees the entries {list(network.inputs)} of its observations only"
    if spec.has_value and network.value_hidden not in (None, network.hidden):
        return (
            f"its value tower has the widths {list(network.value_hidden or ())}, which must be "
            f"those of the policy, {list(network.hidden)}"
        )
    return None


def _rl_module(spec: PolicySpec) -> Any:
    """Return the RLModule of an algorithm with its defaults, of the policy's sizes."""
    from ray.rllib.algorithms.dqn.dqn import DQN
    from ray.rllib.algorithms.ppo.ppo import PPO

    assert spec.num_actions is not None  # `_obstacle` sees to it
    is_q = spec.dist == "q_values"
    config = (DQN if is_q else PPO).get_default_config()
    if is_q:
        config.training(dueling=False)  # so that Q = head(trunk), which is what our MLP computes
    config.rl_module(model_config=_model_config(spec))
    made = config.get_default_rl_module_spec()
    made.model_config = config.model_config
    made.observation_space = _observation_space(spec)
    made.action_space = Discrete(spec.num_actions)
    made.inference_only = not (is_q or spec.has_value)
    with quiet_rllib():
        return made.build()


def _model_config(spec: PolicySpec) -> Any:
    """Return RLlib's configuration of the policy's layers."""
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

    network = spec.network
    if isinstance(network, NatureCNNSpec):
        sizes = zip(network.channels, network.kernels, network.strides, strict=True)
        # Without the last word they would be padded; RLlib's types know three only.
        filters: Any = [[*size, "valid"] for size in sizes]
        return DefaultModelConfig(
            conv_filters=filters,
            head_fcnet_hiddens=[network.hidden],
            vf_share_layers=spec.has_value,
        )
    assert isinstance(network, MLPSpec)  # `_obstacle` sees to it
    return DefaultModelConfig(
        fcnet_hiddens=list(network.hidden),
        fcnet_activation=network.activation,
        head_fcnet_hiddens=[],
        vf_share_layers=spec.has_value and network.value_hidden is None,
    )


def _observation_space(spec: PolicySpec) -> Box:
    """Return the space of what the module takes."""
    low, high = (0.0, 255.0) if spec.observation.dtype == "uint8" else (-np.inf, np.inf)
    first = torch.zeros(1, *spec.observation.shape)
    return Box(low, high, tuple(as_rllib_sees(first).shape[1:]), np.float32)


def _told_of_observations(spec: PolicySpec) -> str:
    """Return how the module takes its observations, where not as the environment gives them."""
    if not isinstance(spec.network, NatureCNNSpec):
        return ""
    numbers = "floats from 0 to 255" if spec.observation.dtype == "uint8" else "floats"
    shape = list(_observation_space(spec).shape)
    return f"the module takes {numbers}, channels last: [height, width, stack] = {shape}"


def _publish(saved: Path, folder: Location) -> None:
    """Copy the files of a saved module to `folder`, the one that makes it a checkpoint last."""
    files = sorted(saved.iterdir(), key=lambda file: file.name == STATE_FILE)
    if foreign := set(folder.names()) - {file.name for file in files}:
        raise MismatchError(
            f"{folder}: holds {min(foreign)}, which is of no RLModule; name a new folder"
        )
    (folder / STATE_FILE).remove()
    for file in files:
        (folder / file.name).write_bytes(file.read_bytes())
