"""The terms for Box actions: each again, slowly and a sample at a time."""

import math
from collections.abc import Callable
from typing import get_args

import pytest
import torch

from common.networks import NetworkOutput
from common.policies.spec import CONTINUOUS, DistKind
from learners.gaussian import taken_actions
from learners.likeness import likeness
from learners.objectives import ObjectiveConfig
from tests.builders import VECTOR, make_policy
from tests.learners.objectives.batches import batch_of, term_of

SIZE = 3
"""D."""
CASES: list[tuple[str, DistKind, DistKind]] = [
    ("gaussian_kl", "gaussian", "gaussian"),
    ("gaussian_kl", "squashed_gaussian", "squashed_gaussian"),
    ("action_mse", "gaussian", "gaussian"),
    ("action_mse", "gaussian", "deterministic"),
    ("action_mse", "squashed_gaussian", "squashed_gaussian"),
    ("action_mse", "squashed_gaussian", "deterministic"),
    ("action_mse", "deterministic", "deterministic"),
]
"""Term, teacher's kind, student's kind."""

each_case = pytest.mark.parametrize(("name", "teacher", "student"), CASES)
WIDTHS = {"gaussian": 2 * SIZE, "squashed_gaussian": 2 * SIZE, "deterministic": SIZE}


def random_outputs(teacher: DistKind, student: DistKind) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(6, WIDTHS[teacher], generator=generator, dtype=torch.float64),
        torch.randn(6, WIDTHS[student], generator=generator, dtype=torch.float64),
    )


def slow_gaussian_kl(
    p: list[float], pi: list[float], teacher: DistKind, student: DistKind
) -> float:
    """Integrate p log(p / π) of every entry numerically."""
    total, largest = 0.0, 2.0 if teacher == "squashed_gaussian" else 20.0
    for entry in range(SIZE):
        (mean_p, std_p), (mean, std) = (
            (x[entry], math.exp(min(x[entry + SIZE], largest))) for x in (p, pi)
        )
        step = std_p / 50
        for tick in range(-500, 501):
            u = mean_p + tick * step
            log_p = -0.5 * ((u - mean_p) / std_p) ** 2 - math.log(std_p)
            log_pi = -0.5 * ((u - mean) / std) ** 2 - math.log(std)
            density = math.exp(log_p) / math.sqrt(2 * math.pi)
            total += density * (log_p - log_pi) * step
    return total


def slow_action_mse(p: list[float], pi: list[float], teacher: DistKind, student: DistKind) -> float:
    total = 0.0
    for entry in range(SIZE):
        wanted = max(-1.0, min(1.0, p[entry])) if teacher == "gaussian" else math.tanh(p[entry])
        found = pi[entry] if student == "gaussian" else math.tanh(pi[entry])
        total += (wanted - found) ** 2
    return total / SIZE


TRUTHS: dict[str, Callable[..., float]] = {
    "gaussian_kl": slow_gaussian_kl,
    "action_mse": slow_action_mse,
}


def test_every_term_for_boxes_is_tested_with_every_teacher():
    fields = ObjectiveConfig.model_fields.items()
    kinds = {name: get_args(field.annotation)[0].teachers for name, field in fields}
    pairs = {(n, k) for n, ks in kinds.items() for k in ks if set(ks) <= set(CONTINUOUS)}
    assert {(name, teacher) for name, teacher, _ in CASES} == pairs
    assert TRUTHS.keys() == {name for name, _ in pairs}


@each_case
def test_a_term_equals_its_slow_definition(name, teacher, student):
    p, pi = random_outputs(teacher, student)
    losses = term_of(name, {})(batch_of(p, teacher), NetworkOutput(pi, None)).tolist()
    pairs = zip(p.tolist(), pi.tolist(), strict=True)
    wanted = [TRUTHS[name](*pair, teacher, student) for pair in pairs]
    assert losses == pytest.approx(wanted, rel=1e-6)
    assert min(wanted) > 0


@each_case
def test_a_terms_gradient_equals_finite_differences(name, teacher, student):
    p, pi = random_outputs(teacher, student)
    term, batch = term_of(name, {}), batch_of(p, teacher)

    def losses(outputs: torch.Tensor) -> torch.Tensor:
        return term(batch, NetworkOutput(outputs, None))

    assert torch.autograd.gradcheck(losses, (pi.requires_grad_(),))


@each_case
def test_a_small_student_reaches_its_teacher(name, teacher, student):
    generator = torch.Generator().manual_seed(1)
    observations = torch.randn(256, VECTOR, generator=generator)
    labels = 0.3 * observations @ torch.randn(VECTOR, WIDTHS[teacher], generator=generator)
    objective = ObjectiveConfig.model_validate({name: {}})
    batch = batch_of(labels, teacher, observations=observations)
    box = {"low": (-1.0,) * SIZE, "high": (1.0,) * SIZE}
    network = make_policy(
        network={"name": "mlp", "hidden": (32,)}, num_actions=None, action_box=box, dist=student
    ).network

    def error() -> float:
        return float(likeness(batch, network(observations))["action_error"])

    before = error()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(400):
        optimizer.zero_grad()
        loss = objective(batch, network(observations)).loss
        loss.backward()
        optimizer.step()
    assert error() < min(0.05, 0.25 * before)


@pytest.mark.parametrize("dist", ["gaussian", "squashed_gaussian"])
def test_the_divergence_is_zero_where_the_student_is_its_teacher(dist):
    teacher, _ = random_outputs(dist, dist)
    losses = term_of("gaussian_kl", {})(batch_of(teacher, dist), NetworkOutput(teacher, None))
    torch.testing.assert_close(losses, torch.zeros_like(losses), atol=1e-12, rtol=0)


def test_a_plain_gaussian_students_mean_has_a_gradient_beyond_the_bounds():
    teacher = torch.zeros(1, 2 * SIZE)
    student = torch.full((1, 2 * SIZE), 5.0, requires_grad=True)
    batch, output = batch_of(teacher, "gaussian"), NetworkOutput(student, None)
    term_of("action_mse", {})(batch, output).sum().backward()
    assert student.grad is not None
    assert (student.grad[0, :SIZE] > 0).all()
    assert not taken_actions("gaussian", student.detach()).gt(1).any()
