import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from common.policies.inference import InferencePolicy
from common.policies.policy import Policy
from learners.objectives import ObjectiveConfig
from learners.objectives.temperature import (
    TARGET_ENTROPY,
    find_temperature,
    resolve_temperature,
)
from tests.builders import VECTOR, make_policy

Outputs = npt.NDArray[np.floating]


def logits(spread: float, *, num_actions: int = 6, states: int = 201) -> Outputs:
    """Return outputs as networks give them: some states clear, most not, on a level of their own.

    Args:
        spread: typical standard deviation between the actions of a state.
        num_actions: A.
        states: number of rows.
    """
    rng = np.random.default_rng(0)
    per_state = spread * rng.lognormal(sigma=1.0, size=(states, 1))
    level = 10 * rng.normal(size=(states, 1))
    return (level + per_state * rng.normal(size=(states, num_actions))).astype(np.float32)


def slow_median_entropy(outputs: Outputs, temperature: float) -> float:
    """Return the median of H(softmax(x / τ)) / log A, a state at a time."""
    entropies = []
    for row in outputs.astype(float).tolist():
        weights = [math.exp((x - max(row)) / temperature) for x in row]
        p = [weight / sum(weights) for weight in weights]
        entropies.append(-sum(x * math.log(x) for x in p if x > 0) / math.log(len(row)))
    return float(np.median(entropies))


@pytest.mark.parametrize("num_actions", [2, 6, 18])
@pytest.mark.parametrize("spread", [0.01, 1.0, 50.0])
def test_the_median_entropy_is_what_was_asked_for(spread: float, num_actions: int) -> None:
    outputs = logits(spread, num_actions=num_actions)
    temperature = find_temperature(outputs)
    assert slow_median_entropy(outputs, temperature) == pytest.approx(TARGET_ENTROPY, abs=1e-6)


def test_a_higher_entropy_needs_a_higher_temperature() -> None:
    outputs = logits(1.0)
    found = [find_temperature(outputs, target=target) for target in (0.05, 0.15, 0.4, 0.8, 0.99)]
    assert found == sorted(found)
    assert len(set(found)) == len(found)


def test_flatter_outputs_are_sharpened_more() -> None:
    flat, clear = find_temperature(logits(0.01)), find_temperature(logits(1.0))
    assert flat == pytest.approx(0.01 * clear, rel=1e-3)
    assert flat < 0.01


def test_the_level_of_q_values_does_not_matter() -> None:
    outputs = logits(1.0).astype(np.float64)
    assert find_temperature(outputs + 500.0) == pytest.approx(find_temperature(outputs))


def test_a_few_odd_states_do_not_matter() -> None:
    outputs = logits(1.0)
    outputs[:5] = 0.0
    outputs[5:10] *= 1e4
    assert find_temperature(outputs) == pytest.approx(find_temperature(logits(1.0)), rel=0.15)


def test_outputs_that_cannot_be_sharpened_give_a_number_that_can_be_used() -> None:
    with np.errstate(all="raise", under="ignore"):
        nothing_to_tell = find_temperature(np.zeros((9, 4), np.float32))
        certain = find_temperature(np.array([[0.0, -1e30]] * 9, np.float32))
    assert 0 < nothing_to_tell <= 1e-3
    assert 100 <= certain < math.inf


def test_half_precision_labels_are_read_and_left_as_they_are() -> None:
    outputs = logits(1.0).astype(np.float16)
    outputs.setflags(write=False)
    assert find_temperature(outputs) == find_temperature(outputs.astype(np.float64))


class Said:
    """Collects what is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def teacher() -> Policy:
    return make_policy(seed=3)


@pytest.fixture
def observations() -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(101, VECTOR)).astype(np.float32)


@pytest.mark.parametrize(
    "terms",
    [
        {"kl": {}},
        {"kl": {"temperature": 0.5}},
        {"q_mse": {}},
        {"kl": {"temperature": 2.0}, "q_mse": {}},
        {"kl": {"temperature": {"start": 2.0, "end": 1.0}}, "feature": {}},
    ],
)
def test_what_is_not_auto_is_left_alone(
    terms: dict[str, Any], teacher: Policy, observations: npt.NDArray[np.float32]
) -> None:
    objective = ObjectiveConfig.model_validate(terms)
    said = Said()
    assert resolve_temperature(objective, teacher, observations, say=said) is objective
    assert said.lines == []


def test_auto_becomes_the_number_that_fits_the_teacher(
    teacher: Policy, observations: npt.NDArray[np.float32]
) -> None:
    terms: dict[str, Any] = {
        "kl": {"temperature": "auto", "student_temperature": 3.0, "weight": 0.5},
        "q_mse": {"q_scale": 2.0},
    }
    objective = ObjectiveConfig.model_validate(terms)
    resolved = resolve_temperature(objective, teacher, observations, say=Said())
    outputs = InferencePolicy(teacher)(observations).dist_inputs
    expected = find_temperature(outputs)
    assert slow_median_entropy(outputs, expected) == pytest.approx(TARGET_ENTROPY, abs=1e-6)
    terms["kl"]["temperature"] = expected
    assert resolved == ObjectiveConfig.model_validate(terms)
    assert objective.kl is not None
    assert objective.kl.temperature == "auto"


def test_the_number_is_told(teacher: Policy, observations: npt.NDArray[np.float32]) -> None:
    objective = ObjectiveConfig.model_validate({"kl": {"temperature": "auto"}})
    said = Said()
    resolved = resolve_temperature(objective, teacher, observations, say=said)
    assert resolved.kl is not None
    assert said.lines == [
        f"objective.kl.temperature = auto: {resolved.kl.temperature:.3g} for this teacher"
    ]


def test_all_terms_that_say_auto_get_the_number(
    teacher: Policy, observations: npt.NDArray[np.float32]
) -> None:
    terms: dict[str, Any] = {
        "kl": {"temperature": 2.0},
        "jsd": {"temperature": "auto"},
        "value": {"temperature": "auto"},
        "nll": {},
    }
    said = Said()
    objective = ObjectiveConfig.model_validate(terms)
    resolved = resolve_temperature(objective, teacher, observations, say=said)
    expected = find_temperature(InferencePolicy(teacher)(observations).dist_inputs)
    for name in ("jsd", "value"):
        terms[name]["temperature"] = expected
    assert resolved == ObjectiveConfig.model_validate(terms)
    assert said.lines == [
        f"objective.jsd.temperature, objective.value.temperature = auto: {expected:.3g} for this "
        f"teacher"
    ]
