"""Zips as Stable-Baselines3 writes them, for the tests that read them."""

import io
import json
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import pytest
import torch

from common.errors import PolicyFileError
from common.teachers import load_teacher

State = dict[str, torch.Tensor]

BOX = "<class 'gymnasium.spaces.box.Box'>"
DISCRETE = "<class 'gymnasium.spaces.discrete.Discrete'>"
DATA: dict[str, Any] = {
    "policy_kwargs": {},
    "observation_space": {":type:": BOX, ":serialized:": "gAWV", "dtype": "float32", "_shape": [5]},
    "action_space": {":type:": DISCRETE, ":serialized:": "gAWV", "n": "3"},
}
FRAMES = {":type:": BOX, "dtype": "uint8", "_shape": [4, 84, 84]}


def layers(seed: int, **modules: tuple[int, ...]) -> State:
    """Return weights and biases by module name; `__` stands for a dot."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in modules.items():
        module = name.replace("__", ".")
        state[f"{module}.weight"] = torch.randn(shape, generator=generator) * 0.3
        state[f"{module}.bias"] = torch.randn(shape[0], generator=generator)
    return state


def actor_critic() -> State:
    return layers(
        0,
        mlp_extractor__policy_net__0=(7, 5),
        mlp_extractor__policy_net__2=(6, 7),
        mlp_extractor__value_net__0=(9, 5),
        action_net=(3, 6),
        value_net=(1, 9),
    )


def q_network() -> State:
    online = layers(1, q_net__q_net__0=(7, 5), q_net__q_net__2=(6, 7), q_net__q_net__4=(3, 6))
    return online | {f"q_net_target{name[5:]}": torch.zeros_like(w) for name, w in online.items()}


def convolutions(prefix: str) -> State:
    plain = layers(
        2, cnn__0=(32, 4, 8, 8), cnn__2=(64, 32, 4, 4), cnn__4=(64, 64, 3, 3), linear__0=(16, 3136)
    )
    return {f"{prefix}.{name}": tensor for name, tensor in plain.items()}


def cnn_actor_critic() -> State:
    features = convolutions("features_extractor")
    copies = {f"{tower}_{name}": w for name, w in features.items() for tower in ("pi", "vf")}
    return features | copies | layers(3, action_net=(6, 16), value_net=(1, 16))


def write(
    folder: Path, state: object, *, data: object = DATA, name: str = "teacher", **changes: Any
) -> Path:
    """Write a zip as Stable-Baselines3 does; `changes` are to `data`."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    if isinstance(data, dict):
        data = data | changes
    path = folder / f"{name}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", json.dumps(data))
        archive.writestr("policy.pth", buffer.getvalue())
        archive.writestr("_stable_baselines3_version", "2.7.0")
    return path


def vec_normalize(
    monkeypatch: pytest.MonkeyPatch,
    *,
    mean: npt.NDArray[np.float64],
    variance: npt.NDArray[np.float64],
    clip: float,
) -> Any:
    """Return an object that pickles as VecNormalize does."""
    place = "stable_baselines3.common"
    rms = _plain_class(monkeypatch, f"{place}.running_mean_std", "RunningMeanStd")()
    rms.mean, rms.var, rms.count = mean, variance, np.float64(1e6)
    found = _plain_class(monkeypatch, f"{place}.vec_env.vec_normalize", "VecNormalize")()
    space = gymnasium.spaces.Box(-1, 1, mean.shape, seed=3)
    space.sample()
    vars(found).update(
        obs_rms=rms, ret_rms=rms, clip_obs=clip, epsilon=1e-8, norm_obs=True, norm_reward=True
    )
    vars(found).update(observation_space=space, action_space=space, old_reward=np.zeros(1))
    return found


def _plain_class(monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> Any:
    """Make a class that pickles under a name of Stable-Baselines3's."""
    made = type(name, (), {"__module__": module, "__qualname__": name})
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        package = ".".join(parts[:end])
        monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
    setattr(sys.modules[module], name, made)
    return made


def refusal(path: Path) -> str:
    with pytest.raises(PolicyFileError) as caught:
        load_teacher(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message


def zoo_zip(shared_teachers: Path, name: str) -> Path:
    """Return the place of a zip of the RL Zoo."""
    return shared_teachers / "sb3-zoo" / name / f"{Path(name).name}.zip"
