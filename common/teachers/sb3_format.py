"""Stable-Baselines3 zips as policies: PPO, A2C, DQN and QR-DQN with discrete actions.

The algorithm and the layers are told by the names of the tensors; the activation and the
observation by the plain texts of the zip's JSON. What is not understood is refused, so that no
teacher acts other than it was trained to. Reading without running is in
`common.teachers.sb3_archive`.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from common.networks.mlp import MLPSpec
from common.networks.nature_cnn import NatureCNNSpec
from common.policies.policy import Policy, policy_from_state
from common.policies.spec import ObservationSpec, PolicySpec
from common.teachers.model_card import atari_id
from common.teachers.sb3_archive import SB3Archive, read_archive

_SUPPORTED = (
    "supported are PPO, A2C, DQN and QR-DQN with MlpPolicy or CnnPolicy and discrete actions"
)
_FOREIGN = {
    "lstm_actor.": "recurrent teachers are not supported yet",
    "actor.": "teachers for continuous actions (SAC, TD3, DDPG, TQC) are not supported",
    "log_std": "continuous actions are not supported",
}
_COPIES = ("q_net_target.", "pi_features_extractor.", "vf_features_extractor.")
"""Tensors that acting does not need: the target network, and the shared extractor again."""

_ACTIVATIONS: dict[str, Literal["relu", "tanh", "elu"]] = {
    "ReLU": "relu",
    "Tanh": "tanh",
    "ELU": "elu",
}
_CNN_LAYERS = {"conv1": "cnn.0", "conv2": "cnn.2", "conv3": "cnn.4", "fc": "linear.0"}

_ENV_ID = re.compile(r"^[ -]*\benv(?::|\n *-) *['\"]?([\w./:-]+)", re.MULTILINE)
_NORMALIZE = re.compile(r"^[ -]*\bnormalize(?::|\n *-)", re.MULTILINE)
_NO_NORMALIZE = re.compile(r"\bnormalize\W+(?:false|null)\b|\bnorm_obs\W+false\b", re.IGNORECASE)


def load_sb3(path: Path) -> Policy:
    """Read a Stable-Baselines3 zip; the policy acts greedily, as `deterministic=True` does.

    The environment's name comes from the RL Zoo's `args.yml` beside the zip, where there is one.

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
    _refuse_normalised(archive)
    is_dqn = any(name.startswith("q_net.") for name in archive.state)
    modules = _dqn_modules(archive) if is_dqn else _actor_critic_modules(archive)
    tensors = _rename(archive, modules)
    # PPO clips its ratio, A2C does not.
    algorithm = "PPO" if "clip_range" in archive.data else "A2C"
    if is_dqn:
        algorithm = "QR-DQN" if is_quantile else "DQN"
    spec = PolicySpec(
        name=f"{algorithm.lower()}-{path.stem}",
        network=_network(archive, tensors),
        observation=_observation(archive, tensors),
        num_actions=len(tensors["head.weight"]),
        dist="q_values" if is_dqn else "logits",
        has_value=not is_dqn,
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
    head = (_linears(archive, "q_net.q_net") or [""])[-1]
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
    if not any(name.startswith(("q_net.", "action_net.")) for name in archive.state):
        first = next(iter(archive.state))
        raise archive.refusal(f"unknown algorithm (tensor {first}); {_SUPPORTED}")
    if (kind := archive.class_name("action_space", ":type:")) not in ("Discrete", ""):
        raise archive.refusal(f"{kind} actions are not supported; {_SUPPORTED}")
    if (kind := archive.class_name("observation_space", ":type:")) not in ("Box", ""):
        raise archive.refusal(f"{kind} observations are not supported; only Box ones are")
    extractor = archive.class_name("policy_kwargs", "features_extractor_class")
    if extractor not in ("NatureCNN", "FlattenExtractor", ""):
        raise archive.refusal(f"features extractor {extractor} is not supported; {_SUPPORTED}")


def _refuse_normalised(archive: SB3Archive) -> None:
    """Refuse a teacher whose observations went through VecNormalize."""
    config = archive.zoo_text("config.yml")
    asked = _NORMALIZE.search(config) or archive.has_zoo_file("vecnormalize.pkl")
    if asked and not _NO_NORMALIZE.search(config):
        raise archive.refusal(
            "trained on observations normalised by VecNormalize, whose statistics are a pickle "
            "and not supported; give a teacher without normalisation"
        )


def _linears(archive: SB3Archive, prefix: str) -> list[str]:
    """Return the module names of a sequence of linear layers, in order."""
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.weight")
    found = sorted(int(match[1]) for name in archive.state if (match := pattern.fullmatch(name)))
    return [f"{prefix}.{index}" for index in found]


def _dqn_modules(archive: SB3Archive) -> dict[str, str]:
    """Return the module names of `q_net` by ours."""
    *hidden, head = _linears(archive, "q_net.q_net") or ["q_net.q_net.0"]
    body = _cnn_modules(archive, "q_net.features_extractor", hidden)
    return (body or _numbered("layers", hidden)) | {"head": head}


def _actor_critic_modules(archive: SB3Archive) -> dict[str, str]:
    """Return the module names of an actor-critic by ours.

    Files of before Stable-Baselines3 1.8 may have layers that actor and critic share; both towers
    get them.
    """
    shared, actor, critic = (
        _linears(archive, f"mlp_extractor.{part}_net") for part in ("shared", "policy", "value")
    )
    body = _cnn_modules(archive, "features_extractor", shared + actor + critic)
    if not body:
        body = _numbered("layers", shared + actor)
        if actor or critic:
            body |= _numbered("value_layers", shared + critic)
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
    return {ours: f"{extractor}.{theirs}" for ours, theirs in _CNN_LAYERS.items()}


def _numbered(prefix: str, names: list[str]) -> dict[str, str]:
    return {f"{prefix}.{index}": name for index, name in enumerate(names)}


def _rename(archive: SB3Archive, modules: dict[str, str]) -> dict[str, torch.Tensor]:
    """Return the tensors by our names; every tensor of the file must have a place."""
    wanted = {
        f"{ours}.{kind}": f"{theirs}.{kind}"
        for ours, theirs in modules.items()
        for kind in ("weight", "bias")
    }
    for theirs in wanted.values():
        if theirs not in archive.state:
            raise archive.refusal(f"tensor {theirs} is missing from policy.pth; {_SUPPORTED}")
    used = set(wanted.values())
    for name in archive.state:
        if name not in used and not name.startswith(_COPIES):
            raise archive.refusal(f"tensor {name} of policy.pth is not understood; {_SUPPORTED}")
    return {ours: archive.state[theirs] for ours, theirs in wanted.items()}


def _network(archive: SB3Archive, tensors: dict[str, torch.Tensor]) -> NatureCNNSpec | MLPSpec:
    if "fc.weight" in tensors:
        return NatureCNNSpec(hidden=len(tensors["fc.weight"]))
    given = archive.class_name("policy_kwargs", "activation_fn")
    default = "Tanh" if "value.weight" in tensors else "ReLU"
    if (name := given or default) not in _ACTIVATIONS:
        raise archive.refusal(
            f"activation {name} is not supported; supported are {', '.join(_ACTIVATIONS)}"
        )
    hidden = _widths(tensors, "layers")
    if not hidden:
        raise archive.refusal("a policy without hidden layers is not supported; give an MLP")
    separate = any(
        name.startswith(("mlp_extractor.policy_net.", "mlp_extractor.value_net."))
        for name in archive.state
    )
    return MLPSpec(
        hidden=hidden,
        activation=_ACTIVATIONS[name],
        value_hidden=_widths(tensors, "value_layers") if separate else None,
    )


def _widths(tensors: dict[str, torch.Tensor], prefix: str) -> tuple[int, ...]:
    return tuple(
        len(tensor)
        for name, tensor in tensors.items()
        if re.fullmatch(rf"{prefix}\.\d+\.weight", name)
    )


def _observation(archive: SB3Archive, tensors: dict[str, torch.Tensor]) -> ObservationSpec:
    space = archive.table("observation_space")
    shape = _shape(space)
    if "conv1.weight" in tensors:
        channels = tensors["conv1.weight"].shape[1]
        if len(shape) != 3 or shape[0] != channels:
            shape = (channels, 84, 84)
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
    return ObservationSpec(
        shape=(tensors["layers.0.weight"].shape[1],),
        dtype="uint8" if space.get("dtype") == "uint8" else "float32",
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
