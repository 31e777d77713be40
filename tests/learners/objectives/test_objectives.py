import dataclasses
import math
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from common.networks import NetworkOutput
from common.policies.spec import CONTINUOUS, DistKind
from learners.batch import DistillBatch
from learners.objectives import ObjectiveConfig, Term
from tests.builders import NUM_ACTIONS, VECTOR, make_policy, make_spec

CASES: dict[str, list[tuple[DistKind, dict[str, Any]]]] = {
    "kl": [
        ("logits", {}),
        ("logits", {"temperature": 0.3, "student_temperature": 2.0}),
        ("q_values", {}),
        ("q_values", {"temperature": 0.5, "student_temperature": 0.5}),
    ],
    "q_mse": [
        ("q_values", {}),
        ("q_values", {"q_scale": 4.0}),
        ("q_values", {"huber_delta": 0.7}),
        ("q_values", {"huber_delta": 0.1, "q_scale": 4.0}),
    ],
}
"""The settings under which every term is tested, by the term's name."""

each_case = pytest.mark.parametrize(
    ("name", "dist", "settings"),
    [(name, dist, settings) for name, cases in CASES.items() for dist, settings in cases],
)


def term_of(name: str, settings: dict[str, Any]) -> Term:
    return ObjectiveConfig.model_validate({name: settings}).terms()[name]


def batch_of(
    labels: torch.Tensor, dist: DistKind, observations: torch.Tensor | None = None
) -> DistillBatch:
    size = len(labels)
    return DistillBatch(
        observations=torch.zeros(size, VECTOR) if observations is None else observations,
        actions=labels.argmax(-1),
        rewards=torch.zeros(size),
        teacher_dist_inputs=labels,
        teacher_dist=dist,
        teacher_value=None,
    )


def random_outputs(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the teacher's and the student's outputs for a batch of six."""
    generator = torch.Generator().manual_seed(0)
    teacher, student = torch.randn(2, 6, NUM_ACTIONS, generator=generator, dtype=dtype)
    return teacher, student


def softmax(x: list[float], temperature: float) -> list[float]:
    weights = [math.exp((value - max(x)) / temperature) for value in x]
    return [weight / sum(weights) for weight in weights]


def slow_kl(
    teacher: list[float],
    student: list[float],
    dist: DistKind,
    temperature: float | None = None,
    student_temperature: float = 1.0,
) -> float:
    p = softmax(teacher, temperature or {"logits": 1.0, "q_values": 0.01}[dist])
    pi = softmax(student, student_temperature)
    return sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, pi, strict=True) if a > 0)


def slow_q_mse(
    teacher: list[float],
    student: list[float],
    dist: DistKind,
    huber_delta: float = math.inf,
    q_scale: float = 1.0,
) -> float:
    total = 0.0
    for wanted, found in zip(teacher, student, strict=True):
        error = abs(found - wanted) / q_scale
        if error <= huber_delta:
            total += error**2
        else:  # the tangent at huber_delta
            total += huber_delta**2 + 2 * huber_delta * (error - huber_delta)
    return total / len(teacher)


TRUTHS: dict[str, Callable[..., float]] = {"kl": slow_kl, "q_mse": slow_q_mse}
"""Every term again, slowly and a sample at a time."""


def agreement(teacher: torch.Tensor, student: torch.Tensor) -> bool:
    return bool((teacher.argmax(-1) == student.argmax(-1)).float().mean() > 0.97)


def closeness(teacher: torch.Tensor, student: torch.Tensor) -> bool:
    return bool((teacher - student).square().mean() < 0.01 * teacher.var())


REACHED: dict[str, Callable[[torch.Tensor, torch.Tensor], bool]] = {
    "kl": agreement,
    "q_mse": closeness,
}
"""What a student that learns by each term comes to share with its teacher."""


def test_every_term_is_tested():
    fields = ObjectiveConfig.model_fields.items()
    kinds = {name: get_args(field.annotation)[0].teachers for name, field in fields}
    terms = {name for name, teachers in kinds.items() if not set(teachers) & set(CONTINUOUS)}
    assert CASES.keys() == TRUTHS.keys() == REACHED.keys() == terms
    assert all(CASES.values())


@each_case
def test_a_term_equals_its_slow_definition(name, dist, settings):
    teacher, student = random_outputs()
    losses = term_of(name, settings)(batch_of(teacher, dist), NetworkOutput(student, None))
    wanted = [
        TRUTHS[name](t, s, dist, **settings)
        for t, s in zip(teacher.tolist(), student.tolist(), strict=True)
    ]
    np.testing.assert_allclose(losses.numpy(), wanted, rtol=1e-9)
    assert min(wanted) > 0


@each_case
def test_a_terms_gradient_equals_finite_differences(name, dist, settings):
    teacher, student = random_outputs()
    term, batch = term_of(name, settings), batch_of(teacher, dist)
    value = torch.zeros(6, dtype=torch.float64, requires_grad=True)

    def losses(outputs: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return term(batch, NetworkOutput(outputs, values))

    assert torch.autograd.gradcheck(losses, (student.requires_grad_(), value))


@each_case
def test_a_small_student_reaches_its_teacher(name, dist, settings):
    generator = torch.Generator().manual_seed(1)
    observations = torch.randn(256, VECTOR, generator=generator)
    labels = observations @ torch.randn(VECTOR, NUM_ACTIONS, generator=generator)
    objective = ObjectiveConfig.model_validate({name: settings})
    batch = batch_of(labels, dist, observations)
    network = make_policy(network={"name": "mlp", "hidden": (32,)}).network
    assert not REACHED[name](labels, network(observations).dist_inputs)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(400):
        optimizer.zero_grad()
        loss = objective(batch, network(observations)).loss
        loss.backward()
        optimizer.step()
    assert REACHED[name](labels, network(observations).dist_inputs.detach())


@pytest.mark.parametrize(("dist", "temperature"), [("logits", 1.0), ("q_values", 0.01)])
def test_the_default_temperature_follows_from_the_teachers_kind(dist, temperature):
    teacher, student = random_outputs()
    batch, output = batch_of(teacher, dist), NetworkOutput(student, None)
    by_default = term_of("kl", {})(batch, output)
    torch.testing.assert_close(
        term_of("kl", {"temperature": temperature})(batch, output), by_default
    )
    other = {"logits": 0.01, "q_values": 1.0}[dist]
    assert (term_of("kl", {"temperature": other})(batch, output) != by_default).all()


@pytest.mark.parametrize("dist", ["logits", "q_values"])
def test_kl_does_not_see_the_level_of_the_teachers_outputs(dist):
    teacher, student = random_outputs()
    output = NetworkOutput(student, None)
    shifted = term_of("kl", {})(batch_of(teacher - 7.0, dist), output)
    torch.testing.assert_close(shifted, term_of("kl", {})(batch_of(teacher, dist), output))


def test_kl_is_zero_where_the_student_is_its_teacher():
    teacher, _ = random_outputs()
    losses = term_of("kl", {})(batch_of(teacher, "logits"), NetworkOutput(teacher + 3.0, None))
    torch.testing.assert_close(losses, torch.zeros_like(losses), atol=1e-12, rtol=0)


def test_actions_that_the_teacher_rules_out_leave_loss_and_gradient_finite():
    teacher, student = random_outputs(torch.float32)
    teacher[:, 0] = -1e4
    student.requires_grad_()
    loss = term_of("kl", {"temperature": 0.01})(
        batch_of(teacher, "logits"), NetworkOutput(student, None)
    ).sum()
    loss.backward()
    assert bool(loss.isfinite())
    assert student.grad is not None
    assert bool(student.grad.isfinite().all())


def test_an_objective_is_the_weighted_sum_of_its_terms_means():
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


def test_importance_weights_count_in_the_loss_and_nowhere_else():
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
    [({"kl": {}}, "logits"), ({"q_mse": {}}, "q_values"), ({"kl": {}, "q_mse": {}}, "q_values")],
)
def test_a_student_keeps_q_values_where_it_learns_them(tree, dist):
    teacher = make_spec(dist=dist)
    assert ObjectiveConfig.model_validate(tree).student_dist(teacher) == dist


@pytest.mark.parametrize(
    ("tree", "reason"),
    [
        ({}, "no term is named; give one of kl, q_mse"),
        ({"kll": {}}, "Extra inputs are not permitted"),
        ({"kl": {"temperature": 0.0}}, "greater than 0"),
        ({"kl": {"student_temperature": -1.0}}, "greater than 0"),
        ({"kl": {"weight": -1.0}}, "greater than or equal to 0"),
        ({"q_mse": {"huber_delta": 0.0}}, "greater than 0"),
        ({"q_mse": {"q_scale": 0.0}}, "greater than 0"),
    ],
)
def test_objectives_that_mean_nothing_are_refused(tree, reason):
    with pytest.raises(ValidationError, match=reason):
        ObjectiveConfig.model_validate(tree)
