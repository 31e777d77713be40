"""Write a policy as a zip that Stable-Baselines3 loads by itself, and can go on training.

    PPO.load("student.zip").predict(observations, deterministic=True)     # logits
    DQN.load("student.zip").predict(observations, deterministic=True)     # Q-values

The policy is SB3's own `MlpPolicy` or `CnnPolicy`; nothing of Stillhouse is needed to load it. It
takes what the environment gives: a scale of the observations is in its first layers. To go on
training in an environment with bounded observations, give its spaces, because the file knows only
their shape:

    PPO.load("student.zip", env=env, custom_objects={"observation_space": env.observation_space})

The file is one that SB3's `save` could have written: plain JSON, pickles of spaces and of names of
classes, and tensors. SB3 itself is not imported, and `common.teachers.sb3_format` reads it back.
"""

import base64
import io
import json
import pickle
import zipfile
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import nn

from common.errors import MismatchError
from common.networks.mlp import ACTIVATIONS, MLPSpec
from common.networks.nature_cnn import NatureCNNSpec
from common.policies.inference import InferencePolicy
from common.policies.policy import Policy
from common.policies.spec import ObservationSpec, PolicySpec
from common.storage import Location, Named, locate
from common.teachers import load_teacher
from learners.export.check import Arrays, Run
from learners.export.exported_policy import refuse_program
from learners.export.local_copy import local_copy
from learners.export.observation_scale import with_scale
from learners.export.sb3_weights import (
    NATURE,
    State,
    actor_critic_weights,
    q_network_weights,
)

LAYOUT_VERSION = "2.4.0"
"""Of Stable-Baselines3, from which on files look like this."""
_FRAME_BUFFER = 10_000
"""Transitions of a DQN's replay on frames: the default of a million is 56 GB."""
_OF_BYTES = 1 / 255
"""What SB3 multiplies frames by."""


class _Algorithm(NamedTuple):
    """What the file says of the algorithm that made it."""

    module: str
    """Of its policies' classes."""
    mlp: str
    cnn: str
    data: dict[str, Any]
    """Settings that are not the class's defaults, or that a reader looks for."""
    learning_rate: float
    epsilon: float
    """Of its Adam."""


_PPO = _Algorithm(
    "stable_baselines3.common.policies",
    "ActorCriticPolicy",
    "ActorCriticCnnPolicy",
    {"clip_range": 0.2},
    3e-4,
    1e-5,
)
_DQN = _Algorithm("stable_baselines3.dqn.policies", "DQNPolicy", "CnnPolicy", {}, 1e-4, 1e-8)


def export_sb3(policy: Policy, path: Named) -> None:
    """Write `policy` to `path`: as PPO's where it gives logits, as DQN's where it gives Q-values.

    The file appears at once or not at all; an existing one is replaced.

    Args:
        policy: on any device and in any float type; it is left as it was.
        path: where to write; missing folders are made.

    Raises:
        MismatchError: SB3's policies cannot express the policy.
        StorageError: it cannot be written.
    """
    refuse_program(policy)
    spec = policy.spec
    if reason := _obstacle(spec):
        raise MismatchError(
            f"policy {spec.name} does not fit Stable-Baselines3's policies: {reason}; export it as "
            f"onnx or pt2"
        )
    of_frames = isinstance(spec.network, NatureCNNSpec)
    scaled = with_scale(policy, _OF_BYTES if of_frames else 1.0)
    is_q = spec.dist == "q_values"
    state = q_network_weights(scaled) if is_q else actor_critic_weights(scaled)
    algorithm = _DQN if is_q else _PPO
    locate(path).write_bytes(_zip(algorithm, _data(algorithm, spec), state))


def run_sb3(location: Location, policy: Policy) -> Run:
    """Return a zip that `export_sb3` wrote as it is read back.

    Stable-Baselines3 is not there to run it; the tests let it.
    """
    with local_copy(location) as path:
        back = InferencePolicy(load_teacher(path))

    def run(given: Arrays) -> Arrays:
        said = back(np.array(given["observation"]))
        outputs = {"dist_inputs": said.dist_inputs, "action": said.dist_inputs.argmax(-1)}
        return outputs if said.value is None else outputs | {"value": said.value}

    return run


def _obstacle(spec: PolicySpec) -> str | None:
    """Return what SB3's policies have no place for; None where there is nothing."""
    network = spec.network
    if not isinstance(network, MLPSpec | NatureCNNSpec):
        return f"its network is {network.name}, and they are mlp and nature_cnn"
    if spec.num_actions is None:
        return "its actions are not those of one Discrete space"
    if spec.observation.normalizer is not None:
        return "it normalises and clips its observations, which SB3 does outside of the policy"
    if spec.dist == "q_values" and spec.has_value:
        return "it has a value head beside its Q-values"
    if isinstance(network, MLPSpec):
        if network.inputs is not None:
            return f"it sees the entries {list(network.inputs)} of its observations only"
        return None
    if spec.observation.dtype != "uint8":
        return f"its frames are of {spec.observation.dtype}, and they take bytes"
    for name in ("kernels", "strides"):
        if (given := getattr(network, name)) != (theirs := getattr(NATURE, name)):
            return f"its {name} are {list(given)}, and theirs {list(theirs)}"
    if any(own > theirs for own, theirs in zip(network.channels, NATURE.channels, strict=True)):
        return (
            f"its channels {list(network.channels)} are more than theirs, {list(NATURE.channels)}"
        )
    return None


def _data(algorithm: _Algorithm, spec: PolicySpec) -> dict[str, Any]:
    """Return the attributes of the algorithm that are not in its tensors."""
    assert spec.num_actions is not None  # `_obstacle` sees to it
    of_frames = isinstance(spec.network, NatureCNNSpec)
    policy_class = algorithm.cnn if of_frames else algorithm.mlp
    return {
        "policy_class": {
            ":type:": "<class 'abc.ABCMeta'>",
            ":serialized:": _base64(_class_reference(algorithm.module, policy_class)),
            "__module__": algorithm.module,
        },
        "policy_kwargs": _policy_kwargs(spec),
        "observation_space": _pickled(_observation_space(spec.observation)),
        "action_space": _pickled(Discrete(spec.num_actions)),
        "n_envs": 1,
        "verbose": 0,
        "num_timesteps": 0,
        **algorithm.data,
        **({"buffer_size": _FRAME_BUFFER} if of_frames and algorithm is _DQN else {}),
    }


def _policy_kwargs(spec: PolicySpec) -> dict[str, Any]:
    network = spec.network
    if isinstance(network, NatureCNNSpec):
        return {"net_arch": [], "features_extractor_kwargs": {"features_dim": network.hidden}}
    assert isinstance(network, MLPSpec)
    hidden, of_value = list(network.hidden), network.value_hidden
    both = {"pi": hidden, "vf": hidden if of_value is None else list(of_value)}
    return _pickled(
        {
            "net_arch": hidden if spec.dist == "q_values" else both,
            "activation_fn": ACTIVATIONS[network.activation],
        }
    )


def _observation_space(observation: ObservationSpec) -> Box:
    if observation.dtype == "uint8":
        return Box(0, 255, observation.shape, np.uint8)
    return Box(-np.inf, np.inf, observation.shape, np.float32)


def _class_reference(module: str, name: str) -> bytes:
    """Return a pickle of a class that need not be importable here: the opcodes GLOBAL and STOP."""
    return f"c{module}\n{name}\n.".encode()


def _pickled(value: Any) -> dict[str, Any]:
    """Return an object as SB3's JSON has it: pickled, and its parts in plain text for readers."""
    parts = value if isinstance(value, dict) else vars(value)
    plain = {name: part if _is_plain(part) else str(part) for name, part in parts.items()}
    return {":type:": str(type(value)), ":serialized:": _base64(pickle.dumps(value, 4))} | plain


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _zip(algorithm: _Algorithm, data: dict[str, Any], state: State) -> bytes:
    trained = [name for name in state if not name.startswith(("q_net_target.", "pi_", "vf_"))]
    parameters = [nn.Parameter(torch.zeros(1)) for _ in trained]
    optimizer = torch.optim.Adam(parameters, lr=algorithm.learning_rate, eps=algorithm.epsilon)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data", json.dumps(data, indent=4))
        archive.writestr("policy.pth", _torch_bytes(state))
        archive.writestr("policy.optimizer.pth", _torch_bytes(optimizer.state_dict()))
        archive.writestr("_stable_baselines3_version", LAYOUT_VERSION)
        archive.writestr("system_info.txt", "written by Stillhouse\n")
    return buffer.getvalue()


def _torch_bytes(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()
