"""Every term again, slowly and a sample at a time, with the settings under which it is tested."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from common.policies.spec import DistKind


class Sample(NamedTuple):
    """What a term sees of one transition."""

    dist: DistKind
    teacher: list[float]
    student: list[float]
    teacher_value: float | None
    student_value: float
    teacher_features: list[float]
    student_features: list[float]


CASES: dict[str, list[tuple[DistKind, dict[str, Any]]]] = {
    "kl": [
        ("logits", {}),
        ("logits", {"temperature": 0.3, "student_temperature": 2.0}),
        ("q_values", {}),
        ("q_values", {"temperature": 0.5, "student_temperature": 0.5}),
    ],
    "reverse_kl": [
        ("logits", {}),
        ("logits", {"temperature": 2.0, "student_temperature": 0.5}),
        ("q_values", {"temperature": 0.5}),
    ],
    "jsd": [
        ("logits", {}),
        ("logits", {"beta": 0.1, "temperature": 0.5}),
        ("q_values", {"beta": 0.9}),
    ],
    "nll": [("logits", {}), ("q_values", {"student_temperature": 0.5})],
    "cross_entropy": [
        ("logits", {}),
        ("q_values", {"temperature": 0.5, "student_temperature": 0.5}),
    ],
    "soft_policy_gradient": [
        ("logits", {}),
        ("q_values", {"temperature": 0.5}),
        ("q_values", {"advantage": "mean"}),
        ("q_values", {"advantage": "value", "temperature": 0.5, "advantage_scale": 4.0}),
    ],
    "q_mse": [
        ("q_values", {}),
        ("q_values", {"q_scale": 4.0}),
        ("q_values", {"huber_delta": 0.7}),
        ("q_values", {"huber_delta": 0.1, "q_scale": 4.0}),
    ],
    "value": [
        ("logits", {}),
        ("logits", {"error": "absolute"}),
        ("q_values", {}),
        ("q_values", {"error": "absolute", "temperature": 2.0}),
    ],
    "feature": [("logits", {}), ("q_values", {})],
}


def log_softmax(x: list[float], temperature: float) -> list[float]:
    scaled = [(value - max(x)) / temperature for value in x]
    total = math.log(sum(math.exp(value) for value in scaled))
    return [value - total for value in scaled]


def log_p(sample: Sample, temperature: float | None) -> list[float]:
    return log_softmax(
        sample.teacher, temperature or {"logits": 1.0, "q_values": 0.01}[sample.dist]
    )


def divergence(log_a: list[float], log_b: list[float]) -> float:
    return sum(math.exp(a) * (a - b) for a, b in zip(log_a, log_b, strict=True))


def slow_kl(
    sample: Sample, temperature: float | None = None, student_temperature: float = 1.0
) -> float:
    return divergence(log_p(sample, temperature), log_softmax(sample.student, student_temperature))


def slow_reverse_kl(
    sample: Sample, temperature: float | None = None, student_temperature: float = 1.0
) -> float:
    return divergence(log_softmax(sample.student, student_temperature), log_p(sample, temperature))


def slow_jsd(sample: Sample, beta: float = 0.5, temperature: float | None = None) -> float:
    p = [math.exp(x) for x in log_p(sample, temperature)]
    pi = [math.exp(x) for x in log_softmax(sample.student, 1.0)]
    total = 0.0
    for a, b in zip(p, pi, strict=True):
        m = beta * a + (1 - beta) * b
        total += beta * a * math.log(a / m) if a > 0 else 0.0
        total += (1 - beta) * b * math.log(b / m)
    return total


def slow_nll(sample: Sample, student_temperature: float = 1.0) -> float:
    greedy = sample.teacher.index(max(sample.teacher))
    return -log_softmax(sample.student, student_temperature)[greedy]


def slow_cross_entropy(
    sample: Sample, temperature: float | None = None, student_temperature: float = 1.0
) -> float:
    wanted, found = log_p(sample, temperature), log_softmax(sample.student, student_temperature)
    return -sum(math.exp(a) * b for a, b in zip(wanted, found, strict=True))


def slow_soft_policy_gradient(
    sample: Sample,
    temperature: float | None = None,
    advantage: str | None = None,
    advantage_scale: float = 1.0,
) -> float:
    p = [math.exp(x) for x in log_p(sample, temperature)]
    baseline = sum(sample.teacher) / len(sample.teacher)
    if advantage == "value":
        baseline = sum(a * q for a, q in zip(p, sample.teacher, strict=True))
        baseline = baseline if sample.teacher_value is None else sample.teacher_value
    total = 0.0
    log_pi = log_softmax(sample.student, 1.0)
    for action, q in enumerate(sample.teacher):
        weight = 1.0
        if advantage is not None:
            weight = (q - baseline) / advantage_scale if q > baseline else 0.0
        total -= p[action] * weight * log_pi[action]
    return total


def slow_q_mse(sample: Sample, huber_delta: float = math.inf, q_scale: float = 1.0) -> float:
    total = 0.0
    for wanted, found in zip(sample.teacher, sample.student, strict=True):
        error = abs(found - wanted) / q_scale
        if error <= huber_delta:
            total += error**2
        else:  # the tangent at huber_delta
            total += huber_delta**2 + 2 * huber_delta * (error - huber_delta)
    return total / len(sample.teacher)


def slow_value(sample: Sample, error: str = "squared", temperature: float | None = None) -> float:
    wanted = sample.teacher_value
    if sample.dist == "q_values":
        p = [math.exp(x) for x in log_p(sample, temperature)]
        wanted = sum(a * q for a, q in zip(p, sample.teacher, strict=True))
    assert wanted is not None
    difference = abs(sample.student_value - wanted)
    return difference if error == "absolute" else difference**2 / 2


def slow_feature(sample: Sample) -> float:
    pairs = zip(sample.teacher_features, sample.student_features, strict=True)
    return sum((wanted - found) ** 2 for wanted, found in pairs)


TRUTHS: dict[str, Callable[..., float]] = {
    "kl": slow_kl,
    "reverse_kl": slow_reverse_kl,
    "jsd": slow_jsd,
    "nll": slow_nll,
    "cross_entropy": slow_cross_entropy,
    "soft_policy_gradient": slow_soft_policy_gradient,
    "q_mse": slow_q_mse,
    "value": slow_value,
    "feature": slow_feature,
}
