import pytest
from pydantic import ValidationError

from common.policies.spec import ActingSpec, ObservationSpec, PolicySpec
from tests.builders import make_spec

BOX = {"low": (-1.0, 0.0), "high": (1.0, 4.0)}
ON_BOX = {"num_actions": None, "action_box": BOX}
GSDE = {"name": "mlp", "hidden": (4,), "gsde": {}}
NORMALIZER = {"mean": (1.0, 2.0), "std": (0.5, 3.0), "clip": 5.0}
BAD = NORMALIZER | {"std": (0.5, 0.0)}
NORMALIZED = {"shape": (2,), "dtype": "float32", "normalizer": NORMALIZER}


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
        ({"dist": "softmax"}, "'logits', 'q_values', 'gaussian'"),
        ({"dist": "gaussian"}, "'gaussian' does not go with discrete actions"),
        ({"num_actions": None}, "give either num_actions or action_box"),
        ({"action_box": BOX}, "give either num_actions or action_box"),
        ({"num_actions": None, "action_box": BOX}, "'logits' does not go with an action_box"),
        (ON_BOX | {"network": GSDE, "dist": "deterministic"}, "gsde is for Gaussian policies"),
        ({"observation": NORMALIZED | {"dtype": "uint8"}}, "a normalizer is for float32"),
        ({"observation": NORMALIZED | {"scale": 0.5}}, "a normalizer is for float32"),
        ({"observation": NORMALIZED | {"shape": (3,)}}, "of 2 means and 2 stds"),
        ({"observation": NORMALIZED | {"normalizer": BAD}}, "greater than 0"),
        ({"network": {"name": "transformer"}}, "'nature_cnn', 'impala_cnn', 'mlp'"),
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


@pytest.mark.parametrize(
    ("dist", "width"), [("gaussian", 4), ("squashed_gaussian", 4), ("deterministic", 2)]
)
def test_a_specification_for_a_box_survives_json_and_knows_its_width(dist, width):
    spec = make_spec(**ON_BOX, dist=dist, observation=NORMALIZED)
    assert PolicySpec.model_validate_json(spec.model_dump_json()) == spec
    assert spec.num_dist_inputs == width
    assert make_spec().num_dist_inputs == 3
