from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from common.errors import MismatchError
from common.labels import LabelArrays
from common.policies.inference import InferencePolicy
from common.policies.policy import (
    Policy,
    load_policy,
    policy_from_bytes,
    policy_to_bytes,
    save_policy,
)
from common.teachers.ensemble import combined
from tests.builders import make_policy

SIZES = ((8,), (16, 4), (6,))


def members(dist: str = "logits", **fields: object) -> list[Policy]:
    return [
        make_policy(
            seed=seed,
            network={"name": "mlp", "hidden": hidden},
            observation={"shape": (4,), "dtype": "float32"},
            num_actions=3,
            dist=dist,
            **fields,
        )
        for seed, hidden in enumerate(SIZES)
    ]


def observations() -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)


def softmax(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64))
    return powers / powers.sum(-1, keepdims=True)


def labelled(teacher: Policy) -> npt.NDArray[np.floating]:
    """Return the labels that an env runner would write."""
    labels = LabelArrays((9,), teacher.spec)
    labels.write(np.arange(9), InferencePolicy(teacher)(observations()))
    return labels.dist_inputs


@pytest.mark.parametrize("combine", ["mean", "product"])
def test_labels_are_those_of_numpy(combine: str) -> None:
    teachers = members()
    each = [softmax(InferencePolicy(one)(observations()).dist_inputs) for one in teachers]
    wanted = np.mean(each, axis=0) if combine == "mean" else np.prod(each, axis=0)
    wanted /= wanted.sum(-1, keepdims=True)
    assert np.allclose(softmax(labelled(combined(teachers, combine))), wanted, atol=2e-3)


def test_q_values_are_averaged() -> None:
    teachers = members("q_values")
    each = [InferencePolicy(one)(observations()).dist_inputs for one in teachers]
    assert np.allclose(labelled(combined(teachers, "mean")), np.mean(each, axis=0), atol=1e-5)
    with pytest.raises(MismatchError, match=r"combine = 'product' is for probabilities"):
        combined(teachers, "product")


def test_there_is_a_value_where_all_have_one() -> None:
    teachers = members(has_value=True)
    outputs = [InferencePolicy(one)(observations()).value for one in teachers]
    value = InferencePolicy(combined(teachers, "mean"))(observations()).value
    assert value is not None
    assert np.allclose(value, np.mean(outputs, axis=0), atol=1e-5)
    mixed = combined([teachers[0], members()[1]], "mean")
    assert not mixed.spec.has_value
    assert InferencePolicy(mixed)(observations()).value is None


def test_it_is_a_policy_like_others(tmp_path: Path) -> None:
    ensemble = combined(members(), "mean")
    assert ensemble.num_parameters == sum(one.num_parameters for one in members())
    save_policy(ensemble, tmp_path / "ensemble.safetensors")
    for copy in (
        load_policy(tmp_path / "ensemble.safetensors"),
        policy_from_bytes(*policy_to_bytes(ensemble)),
    ):
        assert copy.spec == ensemble.spec
        assert np.array_equal(labelled(copy), labelled(ensemble))


def test_teachers_that_do_not_agree_are_refused() -> None:
    teachers = members()
    with pytest.raises(MismatchError, match=r"teacher\.members: dist of .* is q_values"):
        combined([teachers[0], members("q_values")[1]], "mean")
    wider = make_policy(
        network={"name": "mlp", "hidden": (4,)},
        observation={"shape": (4,), "dtype": "float32"},
        num_actions=4,
    )
    with pytest.raises(MismatchError, match=r"teacher\.members: num_actions of .* is 4"):
        combined([teachers[0], wider], "mean")
