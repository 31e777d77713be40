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
from common.networks import MLPSpec, NatureCNNSpec
from common.policies.policy import Policy
from common.policies.spec import ObservationSpec
from common.teachers import load_teacher
from learners.teach_config import DqnConfig, PpoConfig, TeachConfig
from tests.taught import taught

OBSERVATIONS = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
BYTES = torch.randint(256, (20, 2, 20, 24), generator=torch.Generator().manual_seed(0)).float()
PIXELS = gymnasium.spaces.Box(0, 255, (20, 24, 2), np.float32)
CONVOLUTIONS: dict[str, Any] = {
    "conv_filters": [[4, 5, 3, "valid"], [6, [3, 3], [2, 2], "valid"]],
    "head_fcnet_hiddens": [10],
}
ARGUMENTS = "class_and_ctor_args.pkl"


def build(
    algorithm: str,
    *,
    observation_space: gymnasium.Space[Any] | None = None,
    inference_only: bool = False,
    **settings: Any,
) -> Any:
    """Return a module as RLlib builds it, by default for CartPole, with fresh weights."""
    from ray.rllib.algorithms.appo import APPOConfig
    from ray.rllib.algorithms.dqn import DQNConfig
    from ray.rllib.algorithms.impala import IMPALAConfig
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

    configs = {"ppo": PPOConfig, "appo": APPOConfig, "impala": IMPALAConfig, "dqn": DQNConfig}
    config = configs[algorithm]()
    if "dueling" in settings:
        config.training(dueling=settings.pop("dueling"))
    if "num_atoms" in settings:
        config.training(num_atoms=settings.pop("num_atoms"), v_min=0.0, v_max=1.0)
    config.environment("CartPole-v1")
    config.rl_module(model_config=DefaultModelConfig(**settings))
    torch.manual_seed(0)
    with gymnasium.make("CartPole-v1") as environment:
        observation_space = observation_space or environment.observation_space
        spec = config.get_rl_module_spec(
            spaces={"default_policy": (observation_space, environment.action_space)},
            inference_only=inference_only,
        )
        spec.observation_space = observation_space
        spec.action_space = environment.action_space
        return spec.build()


def assert_same(policy: Policy, module: Any) -> None:
    sees_frames = len(policy.spec.observation.shape) == 3
    observations = BYTES if sees_frames else OBSERVATIONS
    with torch.no_grad():
        output = policy.network(observations)
        batch = {"obs": observations.permute(0, 2, 3, 1) if sees_frames else observations}
        if policy.spec.dist == "q_values":
            wanted = module.compute_q_values(batch)["qf_preds"]
        else:
            wanted = module.forward_inference(batch)["action_dist_inputs"]
        torch.testing.assert_close(output.dist_inputs, wanted, rtol=1e-4, atol=1e-4)
        if policy.spec.has_value:
            value = module.compute_values(batch)
            torch.testing.assert_close(output.value, value, rtol=1e-4, atol=1e-4)


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


@pytest.mark.parametrize(
    ("algorithm", "settings", "hidden"),
    [
        ("ppo", {}, 10),
        ("ppo", {"vf_share_layers": False}, 10),
        ("appo", {}, 10),
        ("dqn", {"dueling": False}, 10),
        ("dqn", {}, 20),
    ],
    ids=["ppo", "ppo towers", "appo", "dqn", "duelling dqn"],
)
def test_a_module_on_frames_says_the_same_with_channels_first(
    tmp_path: Path, algorithm: str, settings: dict[str, Any], hidden: int
) -> None:
    module = build(algorithm, observation_space=PIXELS, **CONVOLUTIONS, **settings)
    module.save_to_path(str(tmp_path / "module"))
    policy = load_teacher(tmp_path / "module")
    assert policy.spec.network == NatureCNNSpec(
        channels=(4, 6), kernels=(5, 3), strides=(3, 2), hidden=hidden
    )
    assert policy.spec.observation == ObservationSpec(shape=(2, 20, 24), dtype="uint8")
    assert not policy.spec.has_value  # its hidden layer is not the policy's
    assert_same(policy, module)


def test_frames_of_other_floats_are_floats(tmp_path: Path) -> None:
    space = gymnasium.spaces.Box(-1, 1, (20, 24, 2), np.float32)
    module = build("ppo", observation_space=space, **CONVOLUTIONS)
    module.save_to_path(str(tmp_path / "module"))
    policy = load_teacher(tmp_path / "module")
    assert policy.spec.observation == ObservationSpec(shape=(2, 20, 24), dtype="float32")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"conv_filters": [[4, 5, 3]]}, "conv_filters = [[4, 5, 3]] is not supported (they pad"),
        ({"conv_filters": [[4, 5, [3, 2], "valid"]]}, "is not supported (they pad"),
        ({"conv_activation": "tanh"}, "conv_activation = tanh is not supported"),
        ({"head_fcnet_activation": "tanh"}, "head_fcnet_activation = tanh is not supported"),
        ({"head_fcnet_hiddens": []}, "0 of head_fcnet_hiddens are not supported"),
        ({"head_fcnet_hiddens": [8, 8]}, "2 of head_fcnet_hiddens are not supported"),
    ],
)
def test_frames_through_other_layers_are_refused(
    tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    module = build("ppo", observation_space=PIXELS, **CONVOLUTIONS | changes)
    module.save_to_path(str(tmp_path / "module"))
    with pytest.raises(PolicyFileError) as caught:
        load_teacher(tmp_path / "module")
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


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
