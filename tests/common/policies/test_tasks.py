import numpy as np
import pytest
import torch

from common.errors import MismatchError
from common.policies.inference import InferencePolicy
from common.policies.policy import Policy, load_policy, new_policy, policy_to_bytes, save_policy
from common.policies.spec import PolicySpec
from common.policies.tasks import joined_spec, policy_of_task
from tests.builders import make_policy
from tests.cartpole import cartpole_teacher
from tests.tasks import heavy_teacher


def both(seed: int = 0) -> Policy:
    specs = {"light": cartpole_teacher().spec, "heavy": heavy_teacher().spec}
    return new_policy(joined_spec(specs, name="both"), seed=seed)


def test_heads_lie_side_by_side_in_one_output() -> None:
    policy = both()
    assert policy.spec.num_dist_inputs == 5
    assert [head.name for head in policy.spec.heads] == ["light", "heavy"]
    observations = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    whole = policy.network(torch.from_numpy(observations)).dist_inputs
    parts = [policy_of_task(policy, task) for task in ("light", "heavy")]
    assert [(part.spec.num_actions, part.spec.dist) for part in parts] == [
        (2, "logits"),
        (3, "q_values"),
    ]
    own = [part.network(torch.from_numpy(observations)).dist_inputs for part in parts]
    assert torch.equal(torch.cat(own, dim=1), whole)


def test_acting_in_a_task_takes_the_weights_of_all() -> None:
    acting = InferencePolicy(both(), task="heavy")
    assert acting.spec.num_actions == 3
    newer = both(seed=1)
    acting.load(newer.network.state_dict())
    observations = np.ones((2, 4), np.float32)
    wanted = newer.network(torch.from_numpy(observations)).dist_inputs[:, 2:]
    assert np.allclose(acting(observations).dist_inputs, wanted.detach().numpy(), atol=1e-6)


def test_a_policy_of_several_tasks_is_saved_whole(tmp_path) -> None:
    policy = both()
    save_policy(policy, tmp_path / "both.safetensors")
    loaded = load_policy(tmp_path / "both.safetensors")
    assert loaded.spec == policy.spec
    assert policy_to_bytes(loaded) == policy_to_bytes(policy)


def test_an_unknown_task_is_refused_with_the_known_ones() -> None:
    with pytest.raises(MismatchError, match="task third: policy both knows light, heavy"):
        policy_of_task(both(), "third")
    with pytest.raises(MismatchError, match="is of one task"):
        policy_of_task(cartpole_teacher(), "light")


def test_tasks_must_see_the_same() -> None:
    other = make_policy(
        network={"name": "mlp", "hidden": (4,)},
        observation={"shape": (6,), "dtype": "float32"},
        num_actions=2,
    )
    with pytest.raises(MismatchError, match="tasks light and other: one student cannot see both"):
        joined_spec({"light": cartpole_teacher().spec, "other": other.spec}, name="both")


def test_heads_and_actions_beside_them_are_refused() -> None:
    tree = both().spec.model_dump(mode="json")
    with pytest.raises(ValueError, match="give actions in heads, or beside them"):
        PolicySpec.model_validate(tree | {"num_actions": 2})
    with pytest.raises(ValueError, match="same name"):
        PolicySpec.model_validate(tree | {"heads": [tree["heads"][0]] * 2})
