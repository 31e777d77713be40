import pytest
from pydantic import ValidationError

from common.policies.spec import ActingSpec, ObservationSpec, PolicySpec
from tests.builders import make_spec


@pytest.mark.parametrize("kind", ["frames", "vectors"])
def test_a_specification_survives_json(kind):
    spec = make_spec(
        kind,
        action_meanings=("NOOP", "LEFT", "RIGHT"),
        acting={"mode": "sample", "epsilon": 0.05},
        environment={"id": "pong", "nested": {"a": [1, 2]}},
    )
    assert PolicySpec.model_validate_json(spec.model_dump_json()) == spec


def test_defaults_act_greedily_on_logits_without_a_value():
    spec = make_spec()
    assert (spec.dist, spec.has_value, spec.acting) == ("logits", False, ActingSpec())
    assert (spec.acting.mode, spec.acting.epsilon) == ("greedy", 0.0)
    assert spec.observation == ObservationSpec(shape=(5,), dtype="float32", scale=1.0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"action_meanings": ("NOOP",)}, "names 1 actions: 1 != num_actions 3"),
        ({"num_actions": 1}, "greater than or equal to 2"),
        ({"version": 2}, "Input should be 1"),
        ({"format": "other"}, "stillhouse/policy"),
        ({"dist": "gaussian"}, "'logits' or 'q_values'"),
        ({"network": {"name": "transformer"}}, "'nature_cnn', 'mlp'"),
        ({"observation": {"shape": (0,), "dtype": "float32"}}, "greater than 0"),
        ({"observation": {"shape": (5,), "dtype": "float64"}}, "'uint8' or 'float32'"),
        ({"observation": {"shape": (5,), "dtype": "float32", "scale": 0}}, "greater than 0"),
        ({"acting": {"epsilon": 1.5}}, "less than or equal to 1"),
        ({"colour": "red"}, "Extra inputs are not permitted"),
    ],
)
def test_what_makes_no_policy_is_refused(changes, reason):
    with pytest.raises(ValidationError, match=reason):
        make_spec(**changes)
