"""CleanRL's `.cleanrl_model` files as policies: PPO and DQN with discrete actions.

A file is a state dict and nothing else, read with torch's weights-only reader. CleanRL's scripts
build their networks in the file itself, so the names and shapes of the tensors tell which script
it was; the activation is the script's: tanh in PPO's vector networks, ReLU elsewhere.
"""

import io
import pickle
import zipfile
from pathlib import Path

import torch

from common.errors import PolicyFileError
from common.networks.mlp import MLPSpec
from common.networks.nature_cnn import NatureCNNSpec
from common.policies.policy import Policy, policy_from_state
from common.policies.spec import ActingSpec, ObservationSpec, PolicySpec
from common.teachers.torch_state import (
    State,
    layers_as,
    plain_state,
    renamed,
    sequence,
    widths,
)

_SUPPORTED = "supported are the networks of CleanRL's ppo, ppo_atari, dqn, dqn_atari and qdagger"
_STRIDES = (4, 2, 1)
_FRAME = 84
_MAX_BYTES = 2 * 2**30

_FOREIGN = {
    "lstm.": "recurrent teachers are not supported yet",
    "actor_mean.": "continuous actions are not supported",
    "actor_logstd": "continuous actions are not supported",
    "fc_mean.": "teachers for continuous actions (SAC, TD3, DDPG) are not supported",
    "fc_mu.": "teachers for continuous actions (SAC, TD3, DDPG) are not supported",
    "model_weights": "distributional teachers (C51) are not supported",
    "atoms": "distributional teachers (C51) are not supported",
    "network.0.conv.": "IMPALA's residual networks (Procgen) are not supported",
}


def is_cleanrl(path: Path) -> bool:
    """Tell whether a file is a zip as `torch.save` writes it, of data and no program."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
    last = {member.filename.rpartition("/")[2] for member in members}
    # In a truncated zip with such a file inside, that file's own directory is found, further in.
    whole = any(member.header_offset == 0 for member in members)
    return whole and "data.pkl" in last and "constants.pkl" not in last


def load_cleanrl(path: Path) -> Policy:
    """Read a state dict of CleanRL; PPO's policies sample, as CleanRL evaluates them.

    Raises:
        PolicyFileError: the file is damaged, unsafe, or of a kind that is not supported.
        MismatchError: the network cannot take the observations that the file tells of.
        ValidationError: the file's values make no specification.
    """
    state = _read(path)
    try:
        return _policy(path, state)
    except PolicyFileError as error:
        prefix = f"{path}: "
        raise PolicyFileError(prefix + str(error).removeprefix(prefix)) from None


def _read(path: Path) -> State:
    if path.stat().st_size > _MAX_BYTES:
        raise PolicyFileError(f"{path}: more than {_MAX_BYTES} bytes; check where it comes from")
    try:
        loaded = torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not is_cleanrl(path):
            raise _damaged(path, error) from None
        raise PolicyFileError(
            f"{path}: holds something else than tensors, which could run code when read; get the "
            f"teacher from a source that you trust"
        ) from None
    # Damage can make the zip and tensor readers fail in any way.
    except Exception as error:
        raise _damaged(path, error) from None
    if isinstance(loaded, dict):
        _refuse_foreign(path, loaded)
    return plain_state(loaded, name=f"{path}: what it holds")


def _damaged(path: Path, error: Exception) -> PolicyFileError:
    reason = f"{type(error).__name__}: {error}".partition("\n")[0]
    return PolicyFileError(
        f"{path}: damaged or not a state dict of CleanRL's ({reason:.200}); fetch it again"
    )


def _refuse_foreign(path: Path, loaded: dict[object, object]) -> None:
    for name in map(str, loaded):
        for prefix, text in _FOREIGN.items():
            if name.startswith(prefix):
                raise PolicyFileError(f"{path}: {text}; {_SUPPORTED}")


def _policy(path: Path, state: State) -> Policy:
    trunk, actor, critic = (sequence(state, part) for part in ("network", "actor", "critic"))
    is_dqn = not actor and "actor.weight" not in state
    if is_dqn:
        *body, head = trunk or ["network.0"]
        heads = {"head": head}
    elif trunk:
        body, heads = trunk, {"head": "actor", "value": "critic"}
    else:
        *body, head = actor or ["actor.0"]
        *critic_body, value = critic or ["critic.0"]
        heads = layers_as("value_layers", critic_body) | {"head": head, "value": value}
    convolutional = any(state[f"{name}.weight"].dim() == 4 for name in body)
    layers = _convolutions(state, body) if convolutional else layers_as("layers", body)
    tensors = renamed(state, layers | heads, supported=_SUPPORTED)
    network = _cnn(tensors) if convolutional else _mlp(tensors, tanh=not is_dqn)
    spec = PolicySpec(
        name=f"{'dqn' if is_dqn else 'ppo'}-{path.stem}",
        network=network,
        observation=_observation(tensors),
        num_actions=len(tensors["head.weight"]),
        dist="q_values" if is_dqn else "logits",
        has_value=not is_dqn,
        acting=ActingSpec(mode="greedy" if is_dqn else "sample"),
        provenance={"format": "cleanrl", "algorithm": "DQN" if is_dqn else "PPO"},
    )
    return policy_from_state(spec, tensors, source=str(path))


def _convolutions(state: State, body: list[str]) -> dict[str, str]:
    """Return names by ours of convolutions and the one layer after them."""
    *convolutions, fc = body
    dims = [state[f"{name}.weight"].dim() for name in body]
    if dims != [4] * len(_STRIDES) + [2]:
        raise PolicyFileError(
            f"{len(convolutions)} layers before the last hidden one are no Nature-CNN; {_SUPPORTED}"
        )
    names = {f"conv{index}": name for index, name in enumerate(convolutions, start=1)}
    return names | {"fc": fc}


def _cnn(tensors: State) -> NatureCNNSpec:
    convolutions = [tensors[f"conv{index}.weight"] for index in (1, 2, 3)]
    return NatureCNNSpec(
        channels=tuple(len(weight) for weight in convolutions),
        kernels=tuple(weight.shape[-1] for weight in convolutions),
        strides=_STRIDES,
        hidden=len(tensors["fc.weight"]),
    )


def _mlp(tensors: State, *, tanh: bool) -> MLPSpec:
    hidden = widths(tensors, "layers")
    if not hidden:
        raise PolicyFileError(f"a policy without hidden layers is not supported; {_SUPPORTED}")
    return MLPSpec(
        hidden=hidden,
        activation="tanh" if tanh else "relu",
        value_hidden=widths(tensors, "value_layers") if "value.weight" in tensors else None,
    )


def _observation(tensors: State) -> ObservationSpec:
    if "conv1.weight" in tensors:
        stack = tensors["conv1.weight"].shape[1]
        return ObservationSpec(shape=(stack, _FRAME, _FRAME), dtype="uint8", scale=1 / 255)
    return ObservationSpec(shape=(tensors["layers.0.weight"].shape[1],), dtype="float32")
