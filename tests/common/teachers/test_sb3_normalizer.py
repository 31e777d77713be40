"""VecNormalize's pickles, written by classes that are named as Stable-Baselines3's are."""

import pickle
import sys
import types
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from common.policies.spec import Normalizer
from common.teachers import load_teacher
from tests.common.teachers.sb3_files import cnn_actor_critic, q_network, refusal, write

MEAN, VARIANCE = np.arange(5.0), np.array([1.0, 4.0, 9.0, 0.0, 0.25])
WANTED = Normalizer(
    mean=tuple(MEAN.tolist()), std=tuple(np.sqrt(VARIANCE + 1e-8).tolist()), clip=7.5
)


def plain_class(monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> Any:
    """Make a class that pickles under a name of Stable-Baselines3's."""
    made = type(name, (), {"__module__": module, "__qualname__": name})
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        package = ".".join(parts[:end])
        monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
    setattr(sys.modules[module], name, made)
    return made


@pytest.fixture
def statistics(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return an object that pickles as VecNormalize does."""
    place = "stable_baselines3.common"
    rms = plain_class(monkeypatch, f"{place}.running_mean_std", "RunningMeanStd")()
    rms.mean, rms.var, rms.count = MEAN, VARIANCE, np.float64(1e6)
    found = plain_class(monkeypatch, f"{place}.vec_env.vec_normalize", "VecNormalize")()
    space = gymnasium.spaces.Box(-1, 1, (5,), seed=3)
    space.sample()
    vars(found).update(
        obs_rms=rms, ret_rms=rms, clip_obs=7.5, epsilon=1e-8, norm_obs=True, norm_reward=True
    )
    vars(found).update(observation_space=space, action_space=space, old_reward=np.zeros(1))
    return found


def beside(folder: Path, thing: Any, name: str = "vecnormalize.pkl") -> Path:
    (folder / name).write_bytes(pickle.dumps(thing))
    return write(folder, q_network())


@pytest.mark.parametrize("name", ["vecnormalize.pkl", "vec_normalize.pkl"])
def test_the_statistics_are_the_policys_own(tmp_path: Path, statistics: Any, name: str) -> None:
    policy = load_teacher(beside(tmp_path, statistics, name))
    assert policy.spec.observation.normalizer == WANTED
    (tmp_path / "plain").mkdir()
    plain = load_teacher(write(tmp_path / "plain", q_network())).network
    observations = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32) * 9
    normalised = np.clip((observations - MEAN) / np.sqrt(VARIANCE + 1e-8), -7.5, 7.5)
    with torch.no_grad():
        found = policy.network(torch.from_numpy(observations)).dist_inputs
        wanted = plain(torch.from_numpy(normalised.astype(np.float32))).dist_inputs
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_statistics_of_rewards_alone_are_none(tmp_path: Path, statistics: Any) -> None:
    statistics.norm_obs = False
    assert load_teacher(beside(tmp_path, statistics)).spec.observation.normalizer is None


def test_the_zoos_settings_may_say_that_observations_are_not_normalised(
    tmp_path: Path, statistics: Any
) -> None:
    path = beside(tmp_path, statistics)
    (tmp_path / "config.yml").write_text("normalize: \"{'norm_obs': False}\"\n")
    assert load_teacher(path).spec.observation.normalizer is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"obs_rms": {"a": 1}}, "not the statistics of observation vectors"),
        ({"obs_rms": None}, "not the statistics of observation vectors"),
        ({"clip_obs": -1.0}, "not the statistics of observation vectors"),
        ({"epsilon": "?"}, "not the statistics of observation vectors"),
        ({"venv": print}, "names builtins.print, which could run code"),
    ],
)
def test_other_statistics_are_refused(
    tmp_path: Path, statistics: Any, changes: dict[str, Any], reason: str
) -> None:
    vars(statistics).update(changes)
    beside(tmp_path, statistics)
    with pytest.raises(Exception, match=reason) as caught:
        load_teacher(tmp_path / "teacher.zip")
    assert "\n" not in str(caught.value)
    assert "vecnormalize.pkl" in str(caught.value)


@pytest.mark.parametrize("thing", [[1, 2], {"obs_rms": 1}, None])
def test_pickles_of_something_else_are_refused(tmp_path: Path, thing: Any) -> None:
    beside(tmp_path, thing)
    with pytest.raises(Exception, match="not the statistics of observation vectors"):
        load_teacher(tmp_path / "teacher.zip")


def test_statistics_of_other_observations_are_refused(tmp_path: Path, statistics: Any) -> None:
    statistics.obs_rms.mean = statistics.obs_rms.var = np.ones(4)
    assert "4 means and 4 stds" in refusal(beside(tmp_path, statistics))


def test_frames_with_statistics_are_refused(tmp_path: Path, statistics: Any) -> None:
    (tmp_path / "vecnormalize.pkl").write_bytes(pickle.dumps(statistics))
    assert "CnnPolicy with VecNormalize" in refusal(write(tmp_path, cnn_actor_critic()))
