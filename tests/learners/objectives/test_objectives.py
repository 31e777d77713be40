import dataclasses
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from common.config import validate
from common.errors import ConfigError, MismatchError
from common.networks import NetworkOutput
from common.networks.external import ExternalSpec
from common.policies.spec import PolicySpec
from learners.objectives import Moment, ObjectiveConfig
from learners.objectives.kl import KL
from tests.builders import make_spec
from tests.learners.objectives.batches import batch_of, random_outputs, term_of


def test_an_objective_is_the_weighted_sum_of_its_terms_means() -> None:
    teacher, student = random_outputs()
    batch, output = batch_of(teacher, "q_values"), NetworkOutput(student.requires_grad_(), None)
    objective = ObjectiveConfig.model_validate({"kl": {"weight": 0.5}, "q_mse": {"weight": 3.0}})
    loss, means, losses = objective(batch, output)
    for name, mean in means.items():
        torch.testing.assert_close(mean, term_of(name, {})(batch, output).mean())
        assert not mean.requires_grad
    torch.testing.assert_close(loss, 0.5 * means["kl"] + 3.0 * means["q_mse"])
    assert loss.requires_grad
    each = 0.5 * term_of("kl", {})(batch, output) + 3.0 * term_of("q_mse", {})(batch, output)
    torch.testing.assert_close(losses, each.detach())
    assert losses.shape == (6,)
    assert not losses.requires_grad


def test_importance_weights_count_in_the_loss_and_nowhere_else() -> None:
    teacher, student = random_outputs()
    batch, output = batch_of(teacher, "q_values"), NetworkOutput(student.requires_grad_(), None)
    weights = torch.tensor([1.0, 0.5, 0.0, 0.25, 1.0, 0.1], dtype=torch.float64)
    objective = ObjectiveConfig.model_validate({"kl": {"weight": 0.5}, "q_mse": {"weight": 3.0}})
    plain = objective(batch, output)
    weighted = objective(dataclasses.replace(batch, weights=weights), output)
    torch.testing.assert_close(weighted.loss.detach(), (weights * plain.losses).sum() / 6)
    assert weighted.loss.detach() != plain.loss.detach()
    torch.testing.assert_close(weighted.losses, plain.losses)
    assert weighted.terms == plain.terms
    (gradient,) = torch.autograd.grad(weighted.loss, student)
    assert (gradient[2] == 0).all()  # whose weight is 0
    assert (gradient[[0, 1, 3, 4, 5]] != 0).any(-1).all()


@pytest.mark.parametrize(
    ("tree", "dist"),
    [
        ({"kl": {}}, "logits"),
        ({"soft_policy_gradient": {}, "value": {}, "nll": {}}, "logits"),
        ({"feature": {}}, "logits"),
        ({"q_mse": {}}, "q_values"),
        ({"kl": {}, "q_mse": {}}, "q_values"),
        ({"reverse_kl": {}, "jsd": {}, "feature": {}, "q_mse": {}}, "q_values"),
    ],
)
def test_a_student_keeps_q_values_where_it_learns_them(tree: dict[str, Any], dist: str) -> None:
    assert ObjectiveConfig.model_validate(tree).student_dist(make_spec(dist=dist)) == dist


def test_terms_say_what_student_and_learner_must_have() -> None:
    names = ObjectiveConfig.model_fields
    each = {name: ObjectiveConfig.model_validate({name: {}}) for name in names}
    on_policy = {"expected_entropy", "n_distill", "ppd", "kickstart"}
    assert {name for name in names if each[name].on_policy} == on_policy
    assert {name for name in names if each[name].needs_value} == {"value"} | on_policy
    assert {name for name in names if each[name].over_time} == {"qdagger"} | on_policy
    assert {name for name in names if each[name].target_interval} == {"qdagger"}
    assert {name for name in names if each[name].needs_features} == {"feature"}
    assert each["value"].terms()["value"].weight == 0.5
    assert each["feature"].terms()["feature"].weight == 0.01


@pytest.mark.parametrize("name", ["value", "soft_policy_gradient"])
def test_outputs_that_must_be_two_things_at_once_are_refused(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(ObjectiveConfig, {name: {}, "q_mse": {}, "kl": {}}, "recipe")
    message = str(caught.value)
    assert f"{name} as logits" in message
    assert "q_mse as q_values" in message
    assert "kl as" not in message
    assert "\n" not in message


POLICY, CRITIC = make_spec(), make_spec(has_value=True)
Q_TEACHER = make_spec(dist="q_values")
BOX = {"low": (-1.0,), "high": (1.0,)}
GAUSSIAN = make_spec(num_actions=None, action_box=BOX, dist="gaussian")
PROGRAM = POLICY.model_copy(
    update={"network": ExternalSpec(runtime="onnx", num_bytes=1, num_parameters=1, dist_inputs="0")}
)


@pytest.mark.parametrize(
    ("tree", "teacher", "reason"),
    [
        (
            {"q_mse": {}},
            POLICY,
            "q_mse needs a teacher that gives q_values, and tiny vectors gives logits; use "
            "objective.kl",
        ),
        ({"kl": {}}, GAUSSIAN, "kl needs .* gives gaussian; use objective.gaussian_kl"),
        ({"value": {}}, POLICY, "value needs .* has neither a value head nor Q-values"),
        ({"feature": {}}, PROGRAM, "needs the teacher's last hidden layer"),
        (
            {"soft_policy_gradient": {"advantage": "mean"}},
            CRITIC,
            "advantage = 'mean' needs a Q-teacher, and tiny vectors gives logits",
        ),
    ],
)
def test_a_teacher_that_lacks_what_a_term_needs_is_refused(
    tree: dict[str, Any], teacher: PolicySpec, reason: str
) -> None:
    with pytest.raises(MismatchError, match=reason) as caught:
        ObjectiveConfig.model_validate(tree).check_teacher(teacher)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("tree", "teacher"),
    [
        ({"q_mse": {}}, Q_TEACHER),
        ({"value": {}}, CRITIC),
        ({"value": {}}, Q_TEACHER),
        ({"soft_policy_gradient": {"advantage": "value"}}, Q_TEACHER),
        ({"soft_policy_gradient": {}, "feature": {}, "jsd": {}}, POLICY),
        ({"gaussian_kl": {}, "feature": {}}, GAUSSIAN),
    ],
)
def test_a_teacher_that_gives_what_terms_need_is_taken(
    tree: dict[str, Any], teacher: PolicySpec
) -> None:
    ObjectiveConfig.model_validate(tree).check_teacher(teacher)


def test_an_objective_of_a_moment_has_numbers_for_schedules() -> None:
    tree: dict[str, Any] = {
        "kl": {
            "weight": {"start": 1.0, "end": 0.0, "until": 0.5},
            "temperature": {"start": 2.0, "end": 1.0, "by": "share_of_teacher"},
        },
        "value": {},
    }
    objective = ObjectiveConfig.model_validate(tree)
    assert objective.follows_share_of_teacher
    assert objective.schedules().keys() == {"kl_weight", "kl_temperature"}
    now = objective.at(Moment(progress=0.25, share_of_teacher=0.5))
    assert now.kl == KL(weight=0.5, temperature=1.5)
    assert now.value == objective.value
    assert now.schedules() == {}
    assert objective == ObjectiveConfig.model_validate(tree)


def test_an_objective_without_schedules_is_the_same_at_any_moment() -> None:
    objective = ObjectiveConfig.model_validate({"kl": {"temperature": 0.5}, "nll": {}})
    assert objective.at(Moment(progress=0.3, share_of_teacher=0.7)) is objective
    assert not objective.follows_share_of_teacher


def test_scheduled_numbers_count_as_plain_ones() -> None:
    teacher, student = random_outputs()
    batch, output = batch_of(teacher, "q_values"), NetworkOutput(student, None)
    tree = {
        "kl": {"weight": {"start": 2.0, "end": 0.0}, "temperature": {"start": 1.0, "end": 0.5}},
        "q_mse": {"weight": 1.5},
    }
    found = ObjectiveConfig.model_validate(tree).at(Moment(0.5, 0.0))(batch, output)
    plain = {"kl": {"weight": 1.0, "temperature": 0.75}, "q_mse": {"weight": 1.5}}
    wanted = ObjectiveConfig.model_validate(plain)(batch, output)
    torch.testing.assert_close(found.loss, wanted.loss)
    torch.testing.assert_close(found.losses, wanted.losses)
    assert found.terms == wanted.terms


@pytest.mark.parametrize(
    ("tree", "reason"),
    [
        ({}, "no term is named; give one of kl, reverse_kl, jsd"),
        ({"kll": {}}, "Extra inputs are not permitted"),
        ({"kl": {"temperature": 0.0}}, "greater than 0"),
        ({"kl": {"temperature": "hot"}}, "Input should be 'auto'"),
        ({"kl": {"student_temperature": -1.0}}, "greater than 0"),
        ({"kl": {"student_temperature": "auto"}}, "valid number"),
        ({"kl": {"weight": -1.0}}, "greater than or equal to 0"),
        ({"kl": {"weight": "auto"}}, "valid number"),
        ({"nll": {"temperature": 1.0}}, "Extra inputs are not permitted"),
        ({"jsd": {"beta": 0.0}}, "greater than 0"),
        ({"jsd": {"beta": 1.0}}, "less than 1"),
        ({"soft_policy_gradient": {"advantage_scale": 2.0}}, "scales nothing without an advantage"),
        ({"value": {"error": "huber"}}, "'absolute' or 'squared'"),
        ({"q_mse": {"huber_delta": 0.0}}, "greater than 0"),
        ({"q_mse": {"q_scale": 0.0}}, "greater than 0"),
    ],
)
def test_objectives_that_mean_nothing_are_refused(tree: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        ObjectiveConfig.model_validate(tree)
