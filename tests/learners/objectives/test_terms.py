"""What every term of the table must do, whatever it is."""

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from common.networks import NetworkOutput
from common.policies.spec import CONTINUOUS, DistKind
from learners.batch import DistillBatch
from learners.features import WithProjection
from learners.objectives import ObjectiveConfig
from tests.builders import NUM_ACTIONS, VECTOR, make_policy
from tests.learners.objectives.batches import (
    FEATURES,
    batch_of,
    random_outputs,
    random_samples,
    term_of,
)
from tests.learners.objectives.truths import CASES, TRUTHS, Sample

each_case = pytest.mark.parametrize(
    ("name", "dist", "settings"),
    [(name, dist, settings) for name, cases in CASES.items() for dist, settings in cases],
)


def samples_of(batch: DistillBatch, output: NetworkOutput) -> list[Sample]:
    """Take a batch apart."""
    values, features = batch.teacher_value, batch.teacher_features
    assert output.value is not None
    assert output.features is not None
    assert features is not None
    return [
        Sample(
            batch.teacher_dist,
            batch.teacher_dist_inputs[i].tolist(),
            output.dist_inputs[i].tolist(),
            None if values is None else float(values[i]),
            float(output.value[i]),
            features[i].tolist(),
            output.features[i].tolist(),
        )
        for i in range(batch.size)
    ]


def test_every_term_is_tested() -> None:
    fields = ObjectiveConfig.model_fields.items()
    kinds = {name: get_args(field.annotation)[0] for name, field in fields}
    terms = {
        name
        for name, kind in kinds.items()
        if not (kind.over_time or set(kind.teachers) <= set(CONTINUOUS))
    }
    assert CASES.keys() == TRUTHS.keys() == REACHED.keys() == terms
    assert all(CASES.values())


@each_case
def test_a_term_equals_its_slow_definition(
    name: str, dist: DistKind, settings: dict[str, Any]
) -> None:
    batch, output = random_samples(dist)
    losses = term_of(name, settings)(batch, output)
    wanted = [TRUTHS[name](sample, **settings) for sample in samples_of(batch, output)]
    np.testing.assert_allclose(losses.numpy(), wanted, rtol=1e-9)
    assert min(wanted) > 0


@each_case
def test_a_terms_gradient_equals_finite_differences(
    name: str, dist: DistKind, settings: dict[str, Any]
) -> None:
    batch, output = random_samples(dist)
    term = term_of(name, settings)
    inputs = tuple(part.requires_grad_() for part in output if part is not None)

    def losses(*parts: torch.Tensor) -> torch.Tensor:
        return term(batch, NetworkOutput(*parts))

    assert torch.autograd.gradcheck(losses, inputs)


def agrees(batch: DistillBatch, output: NetworkOutput, settings: dict[str, Any]) -> bool:
    """Whether the student would act as its teacher."""
    same = output.dist_inputs.argmax(-1) == batch.teacher_dist_inputs.argmax(-1)
    return float(same.float().mean()) > 0.97


def is_close(batch: DistillBatch, output: NetworkOutput, settings: dict[str, Any]) -> bool:
    """Whether π is nearly p, by the total variation between them."""
    default = {"logits": 1.0, "q_values": 0.01}[batch.teacher_dist]
    p = F.softmax(batch.teacher_dist_inputs / settings.get("temperature", default), -1)
    pi = F.softmax(output.dist_inputs / settings.get("student_temperature", 1.0), -1)
    return float((p - pi).abs().sum(-1).mean() / 2) < 0.05


def has_its_q_values(batch: DistillBatch, output: NetworkOutput, settings: dict[str, Any]) -> bool:
    labels = batch.teacher_dist_inputs
    return bool((labels - output.dist_inputs).square().mean() < 0.01 * labels.var())


def has_its_values(batch: DistillBatch, output: NetworkOutput, settings: dict[str, Any]) -> bool:
    value, labels = batch.teacher_value, batch.teacher_dist_inputs
    if value is None:
        p = F.softmax(labels / settings.get("temperature", 0.01), -1)
        value = (p * labels).sum(-1)
    assert output.value is not None
    return bool((value - output.value).square().mean() < 0.02 * value.var())


def has_its_features(batch: DistillBatch, output: NetworkOutput, settings: dict[str, Any]) -> bool:
    wanted, found = batch.teacher_features, output.features
    assert wanted is not None
    assert found is not None
    return bool((wanted - found).square().mean() < 0.02 * wanted.var())


REACHED: dict[str, Callable[[DistillBatch, NetworkOutput, dict[str, Any]], bool]] = {
    "kl": is_close,
    "reverse_kl": is_close,
    "jsd": is_close,
    "nll": agrees,
    "cross_entropy": is_close,
    "soft_policy_gradient": lambda batch, output, settings: (
        agrees if "advantage" in settings else is_close
    )(batch, output, settings),
    "q_mse": has_its_q_values,
    "value": has_its_values,
    "feature": has_its_features,
}
"""What a student that learns by each term comes to share with its teacher."""


@each_case
def test_a_small_student_reaches_its_teacher(
    name: str, dist: DistKind, settings: dict[str, Any]
) -> None:
    generator = torch.Generator().manual_seed(1)
    observations = torch.randn(256, VECTOR, generator=generator)
    labels = observations @ torch.randn(VECTOR, NUM_ACTIONS, generator=generator)
    hidden = torch.tanh(observations @ torch.randn(VECTOR, FEATURES, generator=generator))
    batch = batch_of(
        labels,
        dist,
        observations=observations,
        teacher_value=hidden.sum(-1) if dist == "logits" else None,
        teacher_features=hidden,
    )
    policy = make_policy(network={"name": "mlp", "hidden": (32,)}, has_value=True)
    student = WithProjection(policy.network, FEATURES, seed=0)

    def reached() -> bool:
        with torch.no_grad():
            return REACHED[name](batch, student(observations), settings)

    assert not reached()
    objective = ObjectiveConfig.model_validate({name: settings})
    optimizer = torch.optim.Adam(student.parameters(), lr=0.02)
    for _ in range(400):
        optimizer.zero_grad()
        objective(batch, student(observations)).loss.backward()
        optimizer.step()
    assert reached()


COMPARE = ("kl", "reverse_kl", "jsd", "cross_entropy", "soft_policy_gradient")
"""The terms that compare softmax policies."""
DIVERGENCES = ("kl", "reverse_kl", "jsd")


@pytest.mark.parametrize("name", [*COMPARE, "value"])
@pytest.mark.parametrize(("dist", "temperature"), [("logits", 1.0), ("q_values", 0.01)])
def test_the_default_temperature_follows_from_the_teachers_kind(
    name: str, dist: DistKind, temperature: float
) -> None:
    batch, output = random_samples(dist)
    by_default = term_of(name, {})(batch, output)
    torch.testing.assert_close(
        term_of(name, {"temperature": temperature})(batch, output), by_default
    )
    other = term_of(name, {"temperature": {"logits": 0.01, "q_values": 1.0}[dist]})
    if (name, dist) == ("value", "logits"):  # a value head has no temperature
        torch.testing.assert_close(other(batch, output), by_default)
    else:
        assert (other(batch, output) != by_default).all()


@pytest.mark.parametrize("name", COMPARE)
@pytest.mark.parametrize("dist", ["logits", "q_values"])
def test_a_policy_does_not_see_the_level_of_the_teachers_outputs(name: str, dist: DistKind) -> None:
    teacher, student = random_outputs()
    output = NetworkOutput(student, None)
    shifted = term_of(name, {})(batch_of(teacher - 7.0, dist), output)
    torch.testing.assert_close(shifted, term_of(name, {})(batch_of(teacher, dist), output))


@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_divergence_is_zero_where_the_student_is_its_teacher(name: str) -> None:
    teacher, _ = random_outputs()
    losses = term_of(name, {})(batch_of(teacher, "logits"), NetworkOutput(teacher + 3.0, None))
    torch.testing.assert_close(losses, torch.zeros_like(losses), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", COMPARE)
def test_actions_that_the_teacher_rules_out_leave_loss_and_gradient_finite(name: str) -> None:
    teacher, student = random_outputs(torch.float32)
    teacher[:, 0] = -1e4
    student.requires_grad_()
    loss = term_of(name, {"temperature": 0.01})(
        batch_of(teacher, "logits"), NetworkOutput(student, None)
    ).sum()
    loss.backward()
    assert bool(loss.isfinite())
    assert student.grad is not None
    assert bool(student.grad.isfinite().all())


def test_cross_entropy_is_kl_and_the_teachers_entropy() -> None:
    teacher, student = random_outputs()
    batch, output = batch_of(teacher, "logits"), NetworkOutput(student, None)
    p = F.softmax(teacher, -1)
    entropy = -(p * p.log()).sum(-1)
    torch.testing.assert_close(
        term_of("cross_entropy", {})(batch, output), term_of("kl", {})(batch, output) + entropy
    )


@pytest.mark.parametrize(("beta", "limit"), [(1e-6, "kl"), (1 - 1e-6, "reverse_kl")])
def test_the_generalised_divergence_lies_between_both_kls(beta: float, limit: str) -> None:
    teacher, student = random_outputs()
    batch, output = batch_of(teacher, "logits"), NetworkOutput(student, None)
    scaled = term_of("jsd", {"beta": beta})(batch, output) / min(beta, 1 - beta)
    torch.testing.assert_close(scaled, term_of(limit, {})(batch, output), rtol=1e-4, atol=0)
    assert bool((term_of("jsd", {})(batch, output) <= np.log(2)).all())


def test_a_value_head_is_what_advantages_are_held_against() -> None:
    teacher, student = random_outputs()
    value = teacher.sort(-1).values[:, -2]  # only the best action is better
    batch = batch_of(teacher, "q_values", teacher_value=value)
    settings = {"advantage": "value", "temperature": 1.0, "advantage_scale": 2.0}
    losses = term_of("soft_policy_gradient", settings)(batch, NetworkOutput(student, None))
    best, action = teacher.max(-1)
    p, log_pi = F.softmax(teacher, -1), F.log_softmax(student, -1)
    rows = torch.arange(len(teacher))
    wanted = -p[rows, action] * (best - value) / 2 * log_pi[rows, action]
    torch.testing.assert_close(losses, wanted)


def test_where_every_action_is_as_good_as_any_nothing_is_taught_by_advantage() -> None:
    _, student = random_outputs()
    batch = batch_of(torch.full_like(student, 3.0), "q_values")
    for advantage in ("mean", "value"):
        term = term_of("soft_policy_gradient", {"advantage": advantage})
        losses = term(batch, NetworkOutput(student, None))
        torch.testing.assert_close(losses, torch.zeros_like(losses))
