"""Students as zips for Stable-Baselines3: what SB3 itself makes of them."""

import json
import pickletools
import zipfile
from base64 import b64decode
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO

from common.errors import MismatchError
from common.policies.inference import InferencePolicy
from common.policies.policy import Policy, new_policy
from common.policies.spec import PolicySpec
from common.teachers import load_teacher
from learners.export import export_sb3
from tests.students import STUDENTS

BASE: dict[str, Any] = {
    "name": "student",
    "network": {"name": "mlp", "hidden": (16, 12)},
    "observation": {"shape": (4,), "dtype": "float32"},
    "num_actions": 3,
}
FRAMES = {"shape": (4, 84, 84), "dtype": "uint8", "scale": 1 / 255}
NARROW = {"name": "nature_cnn", "channels": (16, 16, 16), "hidden": 24}
KINDS: dict[str, dict[str, Any]] = {
    "logits": {},
    "logits, value on the trunk": {
        "has_value": True,
        "network": {"name": "mlp", "hidden": (16,), "activation": "tanh"},
    },
    "logits, value tower, scaled": {
        "has_value": True,
        "network": {"name": "mlp", "hidden": (9, 7), "activation": "elu", "value_hidden": (8,)},
        "observation": {"shape": (4,), "dtype": "float32", "scale": 0.5},
    },
    "logits of bytes": {"observation": {"shape": (6,), "dtype": "uint8", "scale": 1 / 255}},
    "logits of frames": {"network": NARROW, "observation": FRAMES},
    "logits of frames, value": {"network": NARROW, "observation": FRAMES, "has_value": True},
    "logits of frames, other scale": {
        "network": {"name": "nature_cnn", "channels": (32, 48, 64), "hidden": 24},
        "observation": FRAMES | {"shape": (2, 60, 52), "scale": 1 / 128},
    },
    "Q-values": {"dist": "q_values"},
    "Q-values of frames": {"dist": "q_values", "network": NARROW, "observation": FRAMES},
}


def policy_of(seed: int = 0, **changes: Any) -> Policy:
    policy = new_policy(PolicySpec.model_validate(BASE | changes), seed=seed)
    with torch.no_grad():
        for tensor in policy.network.parameters():
            if tensor.dim() == 1:
                tensor.normal_(0.0, 0.1)  # biases of 0 would not be missed
    return policy


def observations_for(policy: Policy, count: int = 64) -> np.ndarray:
    rng = np.random.default_rng(0)
    shape = (count, *policy.spec.observation.shape)
    if policy.spec.observation.dtype == "uint8":
        return rng.integers(256, size=shape, dtype=np.uint8)
    return rng.normal(size=shape).astype(np.float32)


def loaded(policy: Policy, path: Path) -> Any:
    return (DQN if policy.spec.dist == "q_values" else PPO).load(path, device="cpu")


@pytest.mark.parametrize("kind", KINDS)
def test_sb3_says_what_the_policy_says(kind: str, tmp_path: Path) -> None:
    policy, path = policy_of(**KINDS[kind]), tmp_path / "student.zip"
    before = {name: tensor.clone() for name, tensor in policy.network.state_dict().items()}
    export_sb3(policy, path)
    torch.testing.assert_close(policy.network.state_dict(), before, rtol=0, atol=0)

    model, observations = loaded(policy, path), observations_for(policy)
    wanted = InferencePolicy(policy)(observations)
    given = torch.from_numpy(observations)
    with torch.no_grad():
        if policy.spec.dist == "q_values":
            said = model.q_net(given)
            torch.testing.assert_close(model.q_net_target(given), said)
        else:
            logits = torch.from_numpy(wanted.dist_inputs).log_softmax(-1)
            said = model.policy.get_distribution(given).distribution.logits
            wanted = wanted._replace(dist_inputs=logits.numpy())
            value = model.policy.predict_values(given).flatten()
            assert torch.isfinite(value).all()
            if policy.spec.has_value:
                np.testing.assert_allclose(value, wanted.value, atol=1e-4)
    np.testing.assert_allclose(said, wanted.dist_inputs, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_zip_is_a_teacher_like_the_policy(kind: str, tmp_path: Path) -> None:
    policy = policy_of(**KINDS[kind])
    policy.network.to(torch.bfloat16)
    export_sb3(policy, tmp_path / "student.zip")
    back, observations = load_teacher(tmp_path / "student.zip"), observations_for(policy)
    said, wanted = (InferencePolicy(each)(observations) for each in (back, policy))
    np.testing.assert_allclose(said.dist_inputs, wanted.dist_inputs, atol=1e-4)


@pytest.mark.parametrize("student", STUDENTS)
def test_sb3_acts_as_a_real_student(student: str, tmp_path: Path) -> None:
    policy, _, observations = STUDENTS[student]()
    export_sb3(policy, tmp_path / "student.zip")
    actions, _ = loaded(policy, tmp_path / "student.zip").predict(observations, deterministic=True)
    wanted = InferencePolicy(policy)(observations).dist_inputs.argmax(-1)
    assert (actions == wanted).mean() >= 0.999


@pytest.mark.parametrize("dist", ["logits", "q_values"])
def test_sb3_goes_on_training_from_the_student(dist: str, tmp_path: Path) -> None:
    policy = policy_of(num_actions=2, dist=dist)
    export_sb3(policy, tmp_path / "student.zip")
    env = gymnasium.make("CartPole-v1")
    algorithm: Any = DQN if dist == "q_values" else PPO
    model = algorithm.load(
        tmp_path / "student.zip",
        env=env,
        device="cpu",
        custom_objects={"observation_space": env.observation_space},
        **({"learning_starts": 10} if algorithm is DQN else {"n_steps": 64}),
    )
    before = {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}
    model.learn(128)
    moved = {n for n, tensor in model.policy.state_dict().items() if (tensor != before[n]).any()}
    assert moved == {name for name in before if not name.startswith("q_net_target")}
    model.save(tmp_path / "again.zip")
    assert load_teacher(tmp_path / "again.zip").spec.num_actions == 2


def test_the_zip_names_no_code_but_that_of_well_known_libraries(tmp_path: Path) -> None:
    for number, kind in enumerate(("logits", "Q-values of frames")):
        export_sb3(policy_of(**KINDS[kind]), tmp_path / f"{number}.zip")
        with zipfile.ZipFile(tmp_path / f"{number}.zip") as archive:
            data = json.loads(archive.read("data"))
        pickles = [b64decode(v[":serialized:"]) for v in data.values() if ":serialized:" in str(v)]
        texts = [str(arg) for p in pickles for _, arg, _ in pickletools.genops(p) if arg]
        assert any("stable_baselines3" in text for text in texts)
        ours = ("common.", "learners.", "actors.", "cluster.")
        assert not [text for text in texts if text.startswith(ours)]


NORMALIZER = {"mean": (0.0,) * 4, "std": (1.0,) * 4, "clip": 5.0}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"network": {"name": "lstm", "hidden": 8, "torso": {"name": "mlp", "hidden": (8,)}}},
            "its network is lstm",
        ),
        (
            {
                "network": {"name": "impala_cnn", "channels": (4,), "blocks": 1, "hidden": 8},
                "observation": FRAMES,
            },
            "its network is impala_cnn",
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
        (
            {"network": {"name": "mlp", "hidden": (8,), "inputs": (0, 2)}},
            r"it sees the entries \[0, 2\] of its observations only",
        ),
        ({"dist": "q_values", "has_value": True}, "it has a value head beside its Q-values"),
        (
            {"network": NARROW | {"channels": (48, 16, 16)}, "observation": FRAMES},
            r"its channels \[48, 16, 16\] are more than theirs, \[32, 64, 64\]",
        ),
        (
            {"network": NARROW | {"kernels": (8, 4, 2)}, "observation": FRAMES},
            r"its kernels are \[8, 4, 2\], and theirs \[8, 4, 3\]",
        ),
        (
            {"network": NARROW, "observation": FRAMES | {"dtype": "float32"}},
            "its frames are of float32, and they take bytes",
        ),
    ],
)
def test_what_sb3s_policies_cannot_express_is_refused(
    changes: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(MismatchError, match=complaint) as caught:
        export_sb3(policy_of(**changes), tmp_path / "student.zip")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "student.zip").exists()
