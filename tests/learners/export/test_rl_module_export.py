"""Students as RLModules: what RLlib makes of the folder, and that it goes on training from it."""

import pickle
import pickletools
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.errors import MismatchError, PolicyFileError, StorageError
from common.policies.inference import InferencePolicy
from common.policies.policy import Policy, new_policy
from common.policies.spec import PolicySpec
from common.storage import locate
from common.teachers import load_teacher
from learners.export import export_rl_module
from tests.cartpole import cartpole_teacher

BASE: dict[str, Any] = {
    "name": "student",
    "network": {"name": "mlp", "hidden": (16, 12)},
    "observation": {"shape": (4,), "dtype": "float32"},
    "num_actions": 3,
}
SHARED = {"has_value": True, "network": {"name": "mlp", "hidden": (16,), "activation": "tanh"}}
TOWERS = {
    "has_value": True,
    "network": {"name": "mlp", "hidden": (9, 7), "activation": "elu", "value_hidden": (9, 7)},
    "observation": {"shape": (4,), "dtype": "float32", "scale": 0.5},
}
SCALED = {"observation": {"shape": (8,), "dtype": "float32", "scale": 1 / 255}}
SMALL_CNN = {
    "network": {"name": "nature_cnn", "channels": (4, 6), "kernels": (5, 3), "strides": (3, 2)}
    | {"hidden": 10},
    "observation": {"shape": (2, 24, 20), "dtype": "uint8", "scale": 1 / 255},
}
OURS = ("actors.", "cluster.", "common.", "learners.")
KINDS: dict[str, dict[str, Any]] = {
    "logits": {},
    "logits and value": SHARED,
    "towers, scaled": TOWERS,
    "Q-values": {"dist": "q_values"},
    "Q-values, scaled": SCALED | {"dist": "q_values"},
    "frames of floats": SMALL_CNN | {"observation": {"shape": (3, 24, 20), "dtype": "float32"}},
    "frames, logits": SMALL_CNN,
    "frames, logits and value": SMALL_CNN | {"has_value": True},
    "frames, Q-values": SMALL_CNN | {"dist": "q_values"},
}


def policy_of(seed: int = 0, **changes: Any) -> Policy:
    return new_policy(PolicySpec.model_validate(BASE | changes), seed=seed)


def observations_for(policy: Policy) -> np.ndarray:
    rng = np.random.default_rng(0)
    shape = (200, *policy.spec.observation.shape)
    if policy.spec.observation.dtype == "uint8":
        return rng.integers(256, size=shape, dtype=np.uint8)
    seen = rng.normal(size=shape).astype(np.float32)
    return seen / np.float32(policy.spec.observation.scale)


def as_rllib_sees(observations: np.ndarray) -> torch.Tensor:
    """Return frames channels last, and all as floats."""
    is_of_frames = observations.ndim == 4
    seen = np.moveaxis(observations, 1, -1) if is_of_frames else observations
    return torch.from_numpy(seen.astype(np.float32))


def rl_module_of(folder: Path) -> Any:
    from ray.rllib.core.rl_module.rl_module import RLModule

    return RLModule.from_checkpoint(str(folder))


@pytest.mark.parametrize("kind", KINDS)
def test_the_module_says_what_the_policy_says(kind: str, tmp_path: Path) -> None:
    policy, folder = policy_of(**KINDS[kind]), tmp_path / "module"
    before = {name: tensor.clone() for name, tensor in policy.network.state_dict().items()}
    told = export_rl_module(policy, folder)
    assert bool(told) == kind.startswith("frames")
    torch.testing.assert_close(policy.network.state_dict(), before, rtol=0, atol=0)

    module, observations = rl_module_of(folder), observations_for(policy)
    batch = {"obs": as_rllib_sees(observations)}
    assert module.observation_space.contains(batch["obs"][0].numpy())
    wanted = InferencePolicy(policy)(observations)
    with torch.no_grad():
        if policy.spec.dist == "q_values":
            said = module.compute_q_values(batch)["qf_preds"]
        else:
            said = module.forward_inference(batch)["action_dist_inputs"]
        np.testing.assert_allclose(said, wanted.dist_inputs, rtol=0, atol=1e-5)
        if policy.spec.has_value:
            np.testing.assert_allclose(module.compute_values(batch), wanted.value, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_folder_is_a_teacher_like_the_policy(kind: str, tmp_path: Path) -> None:
    policy = policy_of(**KINDS[kind])
    export_rl_module(policy, tmp_path / "module")
    back = load_teacher(tmp_path / "module")
    for field in ("network", "num_actions", "dist", "has_value"):
        assert getattr(back.spec, field) == getattr(policy.spec, field)
    assert back.spec.observation == policy.spec.observation.model_copy(update={"scale": 1.0})
    observations = observations_for(policy)
    wanted, said = InferencePolicy(policy)(observations), InferencePolicy(back)(observations)
    np.testing.assert_allclose(said.dist_inputs, wanted.dist_inputs, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("frames, logits", "floats from 0 to 255, channels last: [height, width, stack] = [24, 20"),
        ("frames of floats", "takes floats, channels last: [height, width, stack] = [24, 20, 3]"),
    ],
)
def test_what_a_module_takes_for_frames_is_told(kind: str, told: str, tmp_path: Path) -> None:
    assert told in export_rl_module(policy_of(**KINDS[kind]), tmp_path / "module")


@pytest.mark.parametrize("kind", KINDS)
def test_the_files_name_no_class_of_ours(kind: str, tmp_path: Path) -> None:
    export_rl_module(policy_of(**KINDS[kind]), tmp_path / "module")
    for file in (tmp_path / "module").glob("*.pkl"):
        said = [argument for _, argument, _ in pickletools.genops(file.read_bytes())]
        names = [name for name in said if isinstance(name, str)]
        assert not [name for name in names if name.startswith(OURS)]


def test_weights_of_bfloat16_leave_as_float32(tmp_path: Path) -> None:
    policy = policy_of()
    policy.network.to(torch.bfloat16)
    export_rl_module(policy, tmp_path / "module")
    assert {parameter.dtype for parameter in policy.network.parameters()} == {torch.bfloat16}
    weights = load_teacher(tmp_path / "module").network.state_dict()
    wanted = {name: tensor.float() for name, tensor in policy.network.state_dict().items()}
    torch.testing.assert_close(weights, wanted, rtol=0, atol=0)


CARTPOLE_BEST = 500.0
NORMALIZER = {"mean": (0.0,) * 4, "std": (1.0,) * 4, "clip": 5.0}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {
                "network": {"name": "impala_cnn"},
                "observation": {"shape": (4, 84, 84), "dtype": "uint8"},
            },
            "its network is impala_cnn",
        ),
        (
            {"network": {"name": "lstm", "hidden": 8, "torso": {"name": "mlp", "hidden": (8,)}}},
            "its network is lstm, and they are mlp or nature_cnn",
        ),
        (
            {
                "num_actions": None,
                "action_box": {"low": (-1.0,), "high": (1.0,)},
                "dist": "gaussian",
            },
            "its actions are not those of one Discrete space",
        ),
        (
            {"observation": {"shape": (4,), "dtype": "float32", "normalizer": NORMALIZER}},
            "it normalises and clips its observations",
        ),
        ({"observation": {"shape": (128,), "dtype": "uint8"}}, "its observations are of uint8"),
        (
            {"network": {"name": "mlp", "hidden": (8,), "inputs": (0, 2)}},
            "it sees the entries [0, 2] of its observations only",
        ),
        ({"dist": "q_values", "has_value": True}, "it has a value head beside its Q-values"),
        (
            {"network": {"name": "mlp", "hidden": (8,), "value_hidden": (4,)}, "has_value": True},
            "its value tower has the widths [4], which must be those of the policy, [8]",
        ),
    ],
)
def test_what_rllibs_modules_cannot_express_is_refused(
    changes: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(MismatchError) as caught:
        export_rl_module(policy_of(**changes), tmp_path / "module")
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "module").exists()


def test_a_former_module_is_replaced(tmp_path: Path) -> None:
    second = policy_of(seed=1, **SHARED)
    for policy in (policy_of(), second):
        export_rl_module(policy, tmp_path / "module")
    weights = load_teacher(tmp_path / "module").network.state_dict()
    torch.testing.assert_close(weights, second.network.state_dict(), rtol=0, atol=0)


def test_the_folder_may_be_of_an_object_store(bucket: str) -> None:
    folder = locate(bucket) / "module"
    for _ in range(2):
        export_rl_module(policy_of(), folder)
        written = ["class_and_ctor_args.pkl", "metadata.json", "module_state.pkl"]
        assert folder.names() == written


def test_a_folder_of_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    with pytest.raises(MismatchError, match="holds precious, which is of no RLModule"):
        export_rl_module(policy_of(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_a_module_that_could_not_be_replaced_is_none(tmp_path: Path) -> None:
    export_rl_module(policy_of(), tmp_path / "module")
    (tmp_path / "module" / "class_and_ctor_args.pkl").unlink()
    (tmp_path / "module" / "class_and_ctor_args.pkl").mkdir()
    with pytest.raises(StorageError, match="cannot be written"):
        export_rl_module(policy_of(seed=1), tmp_path / "module")
    with pytest.raises(PolicyFileError):
        load_teacher(tmp_path / "module")


def algorithm_config(dist: str) -> Any:
    """Return RLlib's PPO or DQN on CartPole, small, in this process."""
    from ray.rllib.algorithms.dqn import DQNConfig
    from ray.rllib.algorithms.ppo import PPOConfig

    if dist == "q_values":
        config = DQNConfig().training(
            dueling=False, num_steps_sampled_before_learning_starts=64, train_batch_size=32
        )
        config.reporting(min_sample_timesteps_per_iteration=200)
    else:
        config = PPOConfig().training(train_batch_size=512, minibatch_size=128, num_epochs=2)
    config.environment("CartPole-v1").env_runners(num_env_runners=0).learners(num_learners=0)
    return config.evaluation(
        evaluation_interval=100,  # none gives no env runner that does not explore
        evaluation_num_env_runners=0,
        evaluation_duration=4,
        evaluation_config={"explore": False},
    )


def with_value_head(policy: Policy) -> Policy:
    spec = policy.spec.model_copy(update={"has_value": True})
    valued = new_policy(spec, seed=0)
    valued.network.load_state_dict(policy.network.state_dict(), strict=False)
    return valued


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_of_this_process")
@pytest.mark.parametrize(
    "student",
    [
        cartpole_teacher(),
        with_value_head(cartpole_teacher()),
        cartpole_teacher("q_values"),
    ],
    ids=["PPO, no value head", "PPO", "DQN"],
)
def test_rllib_goes_on_training_from_the_student(student: Policy, tmp_path: Path) -> None:
    from ray.rllib.core.rl_module.rl_module import RLModuleSpec

    folder = tmp_path / "module"
    export_rl_module(student, folder)
    config = algorithm_config(student.spec.dist).rl_module(
        model_config=rl_module_of(folder).model_config,
        rl_module_spec=RLModuleSpec(load_state_path=str(folder)),
    )
    with running(config) as algorithm:
        exported, started = load_state(folder), learner_state(algorithm)
        # A student without a value head starts with a critic of RLlib's.
        assert exported.keys() <= started.keys()
        for name, weights in exported.items():
            np.testing.assert_array_equal(started[name], weights)
        returned = algorithm.evaluate()["env_runners"]["episode_return_mean"]
        assert returned == CARTPOLE_BEST
        algorithm.train()
        trained = learner_state(algorithm)
        moved = [name for name in exported if not np.array_equal(trained[name], exported[name])]
        assert {"weight", "bias"} <= {name.rpartition(".")[2] for name in moved}
        for weights in trained.values():
            assert np.isfinite(weights).all()


@contextmanager
def running(config: Any) -> Iterator[Any]:
    algorithm = config.build_algo()
    try:
        yield algorithm
    finally:
        algorithm.stop()
        with suppress(OSError):
            Path(algorithm.logdir).rmdir()  # empty, as nothing is logged there


def load_state(folder: Path) -> dict[str, np.ndarray]:
    state: dict[str, np.ndarray] = pickle.loads((folder / "module_state.pkl").read_bytes())
    return state


def learner_state(algorithm: Any) -> dict[str, np.ndarray]:
    (result,) = algorithm.learner_group.foreach_learner(
        lambda learner: learner.module["default_policy"].unwrapped().get_state()
    )
    return {name: weights.copy() for name, weights in result.get().items()}
