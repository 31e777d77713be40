"""Stable-Baselines3 zips as policies: PPO, A2C, DQN and QR-DQN, and SAC, TQC, TD3 and DDPG.

The algorithm and the layers are told by the names of the tensors; the activation and the
observation by the plain texts of the zip's JSON. What is not understood is refused, so that no
teacher acts other than it was trained to. Reading without running is in
`common.teachers.sb3_archive`, actions that are vectors in `common.teachers.sb3_box`.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from common.errors import PolicyFileError
from common.networks.mlp import MLPSpec
from common.networks.nature_cnn import NatureCNNSpec
from common.policies.policy import Policy, policy_from_state
from common.policies.spec import DistKind, Normalizer, ObservationSpec, PolicySpec
from common.teachers.model_card import atari_id
from common.teachers.sb3_archive import SB3Archive, read_archive
from common.teachers.sb3_box import (
    LOG_STD,
    make_head,
    off_policy_algorithm,
    off_policy_modules,
    read_box,
)
from common.teachers.sb3_normalizer import read_normalizer
from common.teachers.torch_state import State, layers_as, renamed, sequence, widths

_SUPPORTED = (
    "supported are PPO, A2C, DQN and QR-DQN with MlpPolicy or CnnPolicy, and SAC, TQC, TD3 and "
    "DDPG with MlpPolicy"
)
_FOREIGN = {"lstm_actor.": "recurrent teachers are not supported yet"}
_COPIES = (
    "q_net_target.",
    "pi_features_extractor.",
    "vf_features_extractor.",
    "actor_target.",
    "critic.",
    "critic_target.",
)
"""Tensors that acting does not need: target networks, the shared extractor again, and critics of
actions."""

ACTIVATIONS: dict[str, Literal["relu", "tanh", "elu"]] = {
    "ReLU": "relu",
    "Tanh": "tanh",
    "ELU": "elu",
}
"""Ours by the names of torch's classes."""
CNN_LAYERS = {"conv1": "cnn.0", "conv2": "cnn.2", "conv3": "cnn.4", "fc": "linear.0"}
"""Names within a NatureCNN of Stable-Baselines3's, by ours."""

_ENV_ID = re.compile(r"^[ -]*\benv(?::|\n *-) *['\"]?([\w./:-]+)", re.MULTILINE)


def load_sb3(path: Path, *, normalizer: Path | None, say: Callable[[str], None]) -> Policy:
    """Read a Stable-Baselines3 zip; the policy acts greedily, as `deterministic=True` does.

    The environment's name comes from the RL Zoo's `args.yml` beside the zip, where there is one.

    Args:
        path: of the zip.
        normalizer: of the statistics that the observations were normalised with, where they are
            not beside the zip under a name that is known.
        say: told which statistics are used, or what was left unread.

    Raises:
        PolicyFileError: the file is damaged, foreign, unsafe, or of a kind that is not supported.
        MismatchError: the network cannot take the observations that the file tells of.
        ValidationError: the file's values make no specification.
    """
    archive = read_archive(path)
    is_quantile = any(name.startswith("quantile_net.") for name in archive.state)
    if is_quantile:
        archive = _with_mean_quantiles(archive)
    _refuse_unsupported(archive)
    algorithm, modules = _parts(archive)
    if is_quantile:
        algorithm = "QR-DQN"
    tensors = _renamed(archive, modules)
    statistics = read_normalizer(archive, normalizer, say)
    network, observation = _network(archive, tensors), _observation(archive, tensors, statistics)
    box = read_box(archive)
    dist: DistKind = "logits" if "value.weight" in tensors else "q_values"
    num_actions = len(tensors["head.weight"]) if box is None else None
    if box is not None:
        head = make_head(archive, tensors, box)
        dist = head.dist
        network = network.model_copy(update={"gsde": head.gsde} if head.gsde else {})
        body = {name: t for name, t in tensors.items() if not name.startswith(("head", "log_std"))}
        tensors = body | head.tensors
    spec = PolicySpec(
        name=f"{algorithm.lower()}-{path.stem}",
        network=network,
        observation=observation,
        num_actions=num_actions,
        action_box=box,
        dist=dist,
        has_value="value.weight" in tensors,
        environment=_environment(archive, frames="conv1.weight" in tensors),
        provenance={
            "format": "stable-baselines3",
            "algorithm": algorithm,
            "version": archive.version,
        },
    )
    return policy_from_state(spec, tensors, source=str(path))


def _with_mean_quantiles(archive: SB3Archive) -> SB3Archive:
    """Return a QR-DQN as the DQN with its mean quantiles for Q-values, which is how it acts.

    The last layer gives [quantiles, actions]; its mean over quantiles is a layer of actions
    (Dabney et al. 2018, section 4).
    """
    state = {
        "q_net" + name.removeprefix("quantile_net").replace(".quantile_net.", ".q_net."): tensor
        for name, tensor in archive.state.items()
        if name.startswith("quantile_net.")
    }
    archive = replace(archive, state=state)
    told = str(archive.table("action_space").get("n"))
    num_actions = int(told) if told.isdecimal() else 0
    head = (sequence(archive.state, "q_net.q_net") or [""])[-1]
    for name in {f"{head}.weight", f"{head}.bias"} & state.keys():
        if num_actions < 1 or len(state[name]) % num_actions:
            raise archive.refusal(
                f"tensor {name} has {len(state[name])} rows, which are no quantiles of {told} "
                f"actions; give an unmodified file"
            )
        rows = state[name].shape[1:]
        state[name] = state[name].reshape(-1, num_actions, *rows).mean(0)
    return archive


def _refuse_unsupported(archive: SB3Archive) -> None:
    for name in archive.state:
        for prefix, text in _FOREIGN.items():
            if name.startswith(prefix):
                raise archive.refusal(f"{text}; {_SUPPORTED}")
    if not any(name.startswith(("q_net.", "action_net.", "actor.")) for name in archive.state):
        first = next(iter(archive.state))
        raise archive.refusal(f"unknown algorithm (tensor {first}); {_SUPPORTED}")
    if (kind := archive.class_name("action_space", ":type:")) not in ("Discrete", "Box", ""):
        raise archive.refusal(f"{kind} actions are not supported; {_SUPPORTED}")
    if (kind := archive.class_name("observation_space", ":type:")) not in ("Box", ""):
        raise archive.refusal(f"{kind} observations are not supported; only Box ones are")
    extractor = archive.class_name("policy_kwargs", "features_extractor_class")
    if extractor not in ("NatureCNN", "FlattenExtractor", ""):
        raise archive.refusal(f"features extractor {extractor} is not supported; {_SUPPORTED}")


def _parts(archive: SB3Archive) -> tuple[str, dict[str, str]]:
    """Return the algorithm and the module names of its policy by ours."""
    if any(name.startswith("q_net.") for name in archive.state):
        return "DQN", _dqn_modules(archive)
    if any(name.startswith("actor.") for name in archive.state):
        return off_policy_algorithm(archive), off_policy_modules(archive)
    # PPO clips its ratio, A2C does not.
    return "PPO" if "clip_range" in archive.data else "A2C", _actor_critic_modules(archive)


def _dqn_modules(archive: SB3Archive) -> dict[str, str]:
    """Return the module names of `q_net` by ours."""
    *hidden, head = sequence(archive.state, "q_net.q_net") or ["q_net.q_net.0"]
    body = _cnn_modules(archive, "q_net.features_extractor", hidden)
    return (body or layers_as("layers", hidden)) | {"head": head}


def _actor_critic_modules(archive: SB3Archive) -> dict[str, str]:
    """Return the module names of an actor-critic by ours.

    Files of before Stable-Baselines3 1.8 may have layers that actor and critic share; both towers
    get them.
    """
    shared, actor, critic = (
        sequence(archive.state, f"mlp_extractor.{part}_net")
        for part in ("shared", "policy", "value")
    )
    body = _cnn_modules(archive, "features_extractor", shared + actor + critic)
    if not body:
        body = layers_as("layers", shared + actor)
        if actor or critic:
            body |= layers_as("value_layers", shared + critic)
    return body | {"head": "action_net", "value": "value_net"}


def _cnn_modules(archive: SB3Archive, extractor: str, hidden: list[str]) -> dict[str, str]:
    """Return the module names of a NatureCNN by ours, {} where the policy has none."""
    if not any(name.startswith(f"{extractor}.") for name in archive.state):
        return {}
    if hidden:
        raise archive.refusal(
            "CnnPolicy with layers after the features (net_arch) is not supported; give a teacher "
            "with its default network"
        )
    for name, tensor in archive.state.items():
        twin = archive.state.get(name.removeprefix("vf_"), tensor)
        if name.startswith("vf_features_extractor.") and not torch.equal(twin, tensor):
            raise archive.refusal(
                "actor and critic with convolutions of their own are not supported; give a "
                "teacher trained with share_features_extractor=True"
            )
    return {ours: f"{extractor}.{theirs}" for ours, theirs in CNN_LAYERS.items()}


def _renamed(archive: SB3Archive, modules: dict[str, str]) -> State:
    """Return the tensors by our names; every tensor of the file must have a place."""
    state = {
        name: tensor
        for name, tensor in archive.state.items()
        if not name.startswith(_COPIES) and name not in LOG_STD
    }
    try:
        return renamed(state, modules, supported=_SUPPORTED)
    except PolicyFileError as error:
        raise archive.refusal(str(error)) from None


def _network(archive: SB3Archive, tensors: State) -> NatureCNNSpec | MLPSpec:
    if "fc.weight" in tensors:
        return NatureCNNSpec(hidden=len(tensors["fc.weight"]))
    given = archive.class_name("policy_kwargs", "activation_fn")
    default = "Tanh" if "value.weight" in tensors else "ReLU"
    if (name := given or default) not in ACTIVATIONS:
        raise archive.refusal(
            f"activation {name} is not supported; supported are {', '.join(ACTIVATIONS)}"
        )
    hidden = widths(tensors, "layers")
    if not hidden:
        raise archive.refusal("a policy without hidden layers is not supported; give an MLP")
    separate = any(
        name.startswith(("mlp_extractor.policy_net.", "mlp_extractor.value_net."))
        for name in archive.state
    )
    return MLPSpec(
        hidden=hidden,
        activation=ACTIVATIONS[name],
        value_hidden=widths(tensors, "value_layers") if separate else None,
    )


def _observation(
    archive: SB3Archive, tensors: State, normalizer: Normalizer | None
) -> ObservationSpec:
    space = archive.table("observation_space")
    shape = _shape(space)
    if "conv1.weight" in tensors:
        channels = tensors["conv1.weight"].shape[1]
        if len(shape) != 3 or shape[0] != channels:
            shape = (channels, 84, 84)
        if normalizer is not None:
            raise archive.refusal("a CnnPolicy with VecNormalize is not supported")
        raw = archive.table("policy_kwargs").get("normalize_images") is False
        return ObservationSpec(
            shape=shape,
            dtype="float32" if space.get("dtype") == "float32" else "uint8",
            scale=1.0 if raw else 1 / 255,
        )
    if len(shape) > 1:
        raise archive.refusal(
            f"an MLP on observations of shape {shape} is not supported; only on vectors (size,)"
        )
    size = tensors["layers.0.weight"].shape[1]
    if normalizer is not None and len(normalizer.mean) != size:
        raise archive.refusal(
            f"its observations have {size} entries, and the statistics to normalise them with "
            f"{len(normalizer.mean)}; give those that were saved with it"
        )
    return ObservationSpec(
        shape=(size,),
        dtype="uint8" if space.get("dtype") == "uint8" else "float32",
        normalizer=normalizer,
    )


def _shape(space: dict[str, Any]) -> tuple[int, ...]:
    sizes = space.get("_shape", space.get("shape"))
    if isinstance(sizes, list) and all(isinstance(size, int) for size in sizes):
        return tuple(sizes)
    return ()


def _environment(archive: SB3Archive, *, frames: bool) -> dict[str, Any]:
    """Return the environment that the RL Zoo's args.yml names, {} where there is none."""
    found = _ENV_ID.search(archive.zoo_text("args.yml"))
    if found is None:
        return {}
    game = re.fullmatch(r"(\w+)NoFrameskip-v4", found[1])
    if frames and game:
        return {"family": "atari", "id": atari_id(game[1]), "sticky_actions": 0.0}
    return {"family": "gymnasium", "id": found[1]}
