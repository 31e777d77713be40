"""RLlib's own modules, saved by RLlib, against what its own forward passes say."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from common.errors import PolicyFileError
from common.networks import MLPSpec
from common.policies.spec import ObservationSpec
from common.teachers import load_teacher
from learners.teach_config import DqnConfig, PpoConfig, TeachConfig
from tests.common.teachers.rllib_modules import OBSERVATIONS, assert_same, build
from tests.taught import taught

ARGUMENTS = "class_and_ctor_args.pkl"


@pytest.mark.parametrize(
    ("algorithm", "settings", "network"),
    [
        ("ppo", {}, MLPSpec(hidden=(256, 256), activation="tanh")),
        (
            "ppo",
            {"fcnet_hiddens": [16, 8], "fcnet_activation": "relu", "vf_share_layers": False},
            MLPSpec(hidden=(16, 8), activation="relu", value_hidden=(16, 8)),
        ),
        (
            "ppo",
            {
                "fcnet_hiddens": [16],
                "fcnet_activation": "relu",
                "head_fcnet_hiddens": [7, 6],
            },
            MLPSpec(hidden=(16, 7, 6), activation="relu", value_hidden=(16, 7, 6)),
        ),
        ("appo", {"fcnet_hiddens": [16]}, MLPSpec(hidden=(16,), activation="tanh")),
        ("impala", {"fcnet_hiddens": [16]}, MLPSpec(hidden=(16,), activation="tanh")),
        (
            "dqn",
            {"fcnet_hiddens": [16, 8], "dueling": False},
            MLPSpec(hidden=(16, 8), activation="tanh"),
        ),
        ("dqn", {"fcnet_hiddens": [16, 8]}, MLPSpec(hidden=(16, 8), activation="tanh")),
        (
            "dqn",
            {
                "fcnet_hiddens": [16],
                "fcnet_activation": "relu",
                "head_fcnet_hiddens": [7, 6],
            },
            MLPSpec(hidden=(16, 14, 12), activation="relu"),
        ),
    ],
    ids=[
        "ppo",
        "ppo towers",
        "ppo deep heads",
        "appo",
        "impala",
        "dqn",
        "duelling dqn",
        "duelling dqn deep heads",
    ],
)
def test_a_module_says_the_same(
    tmp_path: Path, algorithm: str, settings: dict[str, Any], network: MLPSpec
) -> None:
    module = build(algorithm, **settings)
    module.save_to_path(str(tmp_path / "module"))
    policy = load_teacher(tmp_path / "module")
    assert policy.spec.network == network
    assert policy.spec.observation == ObservationSpec(shape=(4,), dtype="float32")
    assert policy.spec.num_actions == 2
    assert policy.spec.has_value == (algorithm != "dqn")
    assert policy.spec.provenance["format"] == "rllib"
    assert_same(policy, module)


def test_the_module_of_an_env_runner_has_no_value(tmp_path: Path) -> None:
    module = build("ppo", inference_only=True, fcnet_hiddens=[8], vf_share_layers=False)
    module.save_to_path(str(tmp_path / "module"))
    policy = load_teacher(tmp_path / "module")
    assert not policy.spec.has_value
    assert_same(policy, module)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "module"
    build("ppo", fcnet_hiddens=[8]).save_to_path(str(folder))
    return folder


@pytest.fixture
def checkpoint(saved: Path, tmp_path: Path) -> Path:
    """Return an algorithm's folders with one small module."""
    place = tmp_path / "checkpoint" / "learner_group" / "learner" / "rl_module" / "default_policy"
    shutil.copytree(saved, place)
    return tmp_path / "checkpoint"


def module_folder(checkpoint: Path) -> Path:
    return next(checkpoint.rglob("module_state.pkl")).parent


def test_every_folder_on_the_way_can_be_given(checkpoint: Path) -> None:
    folder = module_folder(checkpoint)
    wanted = load_teacher(folder).network(OBSERVATIONS).dist_inputs
    for path in (checkpoint, folder.parent):
        found = load_teacher(path, format="rllib").network(OBSERVATIONS).dist_inputs
        assert torch.equal(found, wanted)


def with_arguments(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Return what changes a module's keywords in its checkpoint."""

    def damage(checkpoint: Path) -> None:
        file = module_folder(checkpoint) / ARGUMENTS
        tree = pickle.loads(file.read_bytes())
        change(tree["ctor_args_and_kwargs"][1])
        file.write_bytes(pickle.dumps(tree))

    return damage


def with_class(checkpoint: Path) -> None:
    file = module_folder(checkpoint) / ARGUMENTS
    tree = pickle.loads(file.read_bytes())
    file.write_bytes(pickle.dumps(tree | {"class": Path}))


def with_connector(checkpoint: Path) -> None:
    (checkpoint / "env_runner" / "env_to_module_connector" / "MeanStdFilter").mkdir(parents=True)


def with_two_modules(checkpoint: Path) -> None:
    folder = module_folder(checkpoint)
    shutil.copytree(folder, folder.with_name("other_policy"))


def with_msgpack(checkpoint: Path) -> None:
    file = module_folder(checkpoint) / "module_state.pkl"
    file.rename(file.with_suffix(".msgpack"))


def without_arguments(checkpoint: Path) -> None:
    (module_folder(checkpoint) / ARGUMENTS).unlink()


def truncated(name: str) -> Callable[[Path], None]:
    def damage(checkpoint: Path) -> None:
        file = module_folder(checkpoint) / name
        file.write_bytes(file.read_bytes()[:-20])

    return damage


def model_config(**changes: Any) -> Callable[[Path], None]:
    def change(keywords: dict[str, Any]) -> None:
        config = keywords["model_config"]
        config = dict(config) if isinstance(config, dict) else dict(vars(config))
        keywords["model_config"] = config | changes

    return with_arguments(change)


def space(name: str, value: gymnasium.Space[Any]) -> Callable[[Path], None]:
    return with_arguments(lambda keywords: keywords.update({name: value}))


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (with_class, "module Path is not supported; supported are the default modules"),
        (with_connector, "go through the connector MeanStdFilter"),
        (with_two_modules, "holds several policies (default_policy, other_policy)"),
        (with_msgpack, "save the checkpoint without use_msgpack"),
        (without_arguments, "class_and_ctor_args.pkl: missing"),
        (truncated("module_state.pkl"), "module_state.pkl: not a readable pickle"),
        (truncated(ARGUMENTS), "class_and_ctor_args.pkl: not a readable pickle"),
        (model_config(use_lstm=True), "recurrent teachers are not supported yet"),
        (model_config(fcnet_use_layernorm=True), "layer normalisation is not supported"),
        (model_config(num_atoms=51), "distributional Q-values (num_atoms = 51)"),
        (model_config(fcnet_activation="silu"), "activation silu is not supported"),
        (
            space("observation_space", gymnasium.spaces.Box(0, 255, (84, 84, 4), np.uint8)),
            "conv_filters = None is not supported (they pad their input",
        ),
        (
            space("observation_space", gymnasium.spaces.Box(0, 1, (2, 2))),
            "observations of shape (2, 2) are not supported",
        ),
        (space("observation_space", gymnasium.spaces.Discrete(3)), "Discrete observations"),
        (space("action_space", gymnasium.spaces.Box(-1, 1, (2,))), "Box actions"),
        (with_arguments(dict.clear), "does not tell spaces and model config"),
    ],
)
def test_what_is_not_understood_is_refused(
    checkpoint: Path, damage: Callable[[Path], None], complaint: str
) -> None:
    damage(checkpoint)
    with pytest.raises(PolicyFileError) as caught:
        load_teacher(checkpoint)
    assert complaint in str(caught.value)
    assert str(caught.value).startswith(str(checkpoint))
    assert "\n" not in str(caught.value)


def test_a_distributional_module_is_refused(tmp_path: Path) -> None:
    build("dqn", num_atoms=5, fcnet_hiddens=[8]).save_to_path(str(tmp_path / "module"))
    with pytest.raises(PolicyFileError, match="num_atoms = 5"):
        load_teacher(tmp_path / "module")


@pytest.mark.ray
@pytest.mark.usefixtures("ray_of_this_process")
@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_the_checkpoint_of_an_algorithm_that_has_trained(algorithm: Any, tmp_path: Path) -> None:
    from learners.rllib_algorithm import learner_of, running_algorithm

    settings: dict[str, Any] = {
        "ppo": PpoConfig(batch_size=128, minibatch_size=64, num_epochs=1),
        "dqn": DqnConfig(batch_size=16, learning_starts=50, training_intensity=1.0),
    }
    config = TeachConfig(
        algorithm=algorithm,
        hidden=(16, 8),
        total_env_steps=200,
        **{algorithm: settings[algorithm]},
    )
    with running_algorithm(config, *taught(config), seed=0) as trained:
        trained.train()
        trained.save_to_path(str(tmp_path / "checkpoint"))
        policy = load_teacher(tmp_path / "checkpoint")
        assert policy.spec.provenance == {"format": "rllib", "algorithm": algorithm.upper()}
        assert_same(policy, learner_of(trained).module["default_policy"].unwrapped())
