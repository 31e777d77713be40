"""VecNormalize's pickles, written by classes that are named as Stable-Baselines3's are."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.errors import ConfigError, PolicyFileError
from common.policies.policy import save_policy
from common.policies.spec import Normalizer
from common.teachers import load_teacher
from tests.builders import make_policy
from tests.common.teachers.sb3_files import (
    cnn_actor_critic,
    q_network,
    refusal,
    vec_normalize,
    write,
)

MEAN, VARIANCE = np.arange(5.0), np.array([1.0, 4.0, 9.0, 0.0, 0.25])
WANTED = Normalizer(
    mean=tuple(MEAN.tolist()), std=tuple(np.sqrt(VARIANCE + 1e-8).tolist()), clip=7.5
)


@pytest.fixture
def statistics(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return an object that pickles as VecNormalize does."""
    return vec_normalize(monkeypatch, mean=MEAN, variance=VARIANCE, clip=7.5)


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
    assert "have 5 entries, and the statistics to normalise them with 4;" in refusal(
        beside(tmp_path, statistics)
    )


def test_frames_with_statistics_are_refused(tmp_path: Path, statistics: Any) -> None:
    (tmp_path / "vecnormalize.pkl").write_bytes(pickle.dumps(statistics))
    assert "CnnPolicy with VecNormalize" in refusal(write(tmp_path, cnn_actor_critic()))


def told_of(path: Path, normalizer: Path | None = None) -> tuple[Normalizer | None, list[str]]:
    """Read a zip; return how its observations are normalised, and what was said of it."""
    told: list[str] = []
    named = None if normalizer is None else str(normalizer)
    policy = load_teacher(path, normalizer=named, say=told.append)
    return policy.spec.observation.normalizer, told


def test_what_is_used_is_said(tmp_path: Path, statistics: Any) -> None:
    path = beside(tmp_path, statistics)
    file = tmp_path / "vecnormalize.pkl"
    assert told_of(path) == (WANTED, [f"{path}: its observations are normalised, as {file} says"])
    statistics.norm_obs = False
    beside(tmp_path, statistics)
    found, (line,) = told_of(path)
    assert found is None
    assert "are not normalised (norm_obs = False)" in line


def test_nothing_is_said_where_nothing_lies_beside(tmp_path: Path) -> None:
    assert told_of(write(tmp_path, q_network())) == (None, [])


@pytest.mark.parametrize(
    ("zipped", "file"),
    [
        ("Hopper-v4", "Hopper-v4/vecnormalize.pkl"),
        ("rl_model_8000_steps", "rl_model_vecnormalize_8000_steps.pkl"),
    ],
    ids=["zoo", "checkpoint"],
)
def test_other_places_of_statistics(
    tmp_path: Path, statistics: Any, zipped: str, file: str
) -> None:
    (tmp_path / "Hopper-v4").mkdir()
    (tmp_path / file).write_bytes(pickle.dumps(statistics))
    found, (line,) = told_of(write(tmp_path, q_network(), name=zipped))
    assert found == WANTED
    assert str(tmp_path / file) in line


def test_a_checkpoint_has_its_own_statistics(tmp_path: Path, statistics: Any) -> None:
    beside(tmp_path, [], "vecnormalize.pkl")  # which would be refused
    beside(tmp_path, statistics, "a_vecnormalize_20_steps.pkl")
    found, _ = told_of(write(tmp_path, q_network(), name="a_20_steps"))
    assert found == WANTED


@pytest.mark.parametrize(
    ("zipped", "files", "told"),
    [
        ("teacher", ["stats.pkl"], "stats.pkl was not read"),
        ("best_model", ["Hopper-v4/vecnormalize.pkl"], "Hopper-v4/vecnormalize.pkl was not read"),
        ("teacher", ["a.pkl", "b.pkl"], "a.pkl or b.pkl was not read"),
        ("teacher", [f"{name}.pkl" for name in "abcde"], "a.pkl or b.pkl or c.pkl or 2 more was"),
    ],
)
def test_what_may_be_statistics_and_is_not_read_is_said(
    tmp_path: Path, zipped: str, files: list[str], told: str
) -> None:
    (tmp_path / "Hopper-v4").mkdir()
    for file in files:
        (tmp_path / file).write_bytes(b"anything at all")
    path = write(tmp_path, q_network(), name=zipped)
    found, (line,) = told_of(path)
    assert found is None
    assert line.startswith(f"{path}: its observations are not normalised; ")
    assert told in line
    assert line.endswith(
        "name the file of its statistics with teacher.normalizer, or call it vecnormalize.pkl"
    )


def test_statistics_that_are_named_are_taken_before_all_others(
    tmp_path: Path, statistics: Any
) -> None:
    path = beside(tmp_path, [])  # which would be refused
    (tmp_path / "config.yml").write_text("normalize: \"{'norm_obs': False}\"\n")
    named = tmp_path / "elsewhere" / "stats"
    named.parent.mkdir()
    named.write_bytes(pickle.dumps(statistics))
    found, lines = told_of(path, named)
    assert found == WANTED
    assert lines == [f"{path}: its observations are normalised, as {named} says"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"no pickle", "not a readable pickle"),
        (pickle.dumps([1, 2]), "not the statistics of observation vectors"),
        (pickle.dumps(print), "names builtins.print, which could run code"),
    ],
    ids=["missing", "text", "list", "hostile"],
)
def test_what_is_named_and_holds_no_statistics_is_refused(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path, named = write(tmp_path, q_network()), tmp_path / "stats.pkl"
    if content is not None:
        named.write_bytes(content)
    with pytest.raises(PolicyFileError) as caught:
        load_teacher(path, normalizer=str(named))
    message = str(caught.value)
    assert message.startswith(f"teacher.normalizer = {named}: ")
    assert reason in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["teacher.safetensors", "s3://bucket/teacher.safetensors"])
def test_only_zips_have_statistics(tmp_path: Path, name: str) -> None:
    save_policy(make_policy(), tmp_path / "teacher.safetensors")
    path = name if "://" in name else tmp_path / name
    with pytest.raises(ConfigError) as caught:
        load_teacher(path, normalizer="stats.pkl")
    assert str(caught.value) == (
        f"teacher.normalizer = stats.pkl: goes with a Stable-Baselines3 .zip, and {path} is none; "
        f"leave it out"
    )
