import json
from typing import Any

import pytest

from common.config import validate
from common.errors import ConfigError
from learners.objectives import Moment, ObjectiveConfig
from learners.objectives.schedule import Schedule, present


@pytest.mark.parametrize(
    ("where", "value"),
    [(0.0, 3.0), (0.2, 2.2), (0.5, 1.0), (0.75, 1.0), (1.0, 1.0)],
)
def test_a_schedule_is_linear_until_its_end(where: float, value: float) -> None:
    schedule = Schedule(start=3.0, end=1.0, until=0.5)
    assert schedule.value(Moment(where, share_of_teacher=0.9)) == pytest.approx(value)


@pytest.mark.parametrize(
    ("share", "value"), [(-4.0, 0.0), (0.0, 0.0), (0.6, 1.0), (1.2, 2.0), (9.0, 2.0)]
)
def test_a_schedule_can_go_by_what_the_student_reaches(share: float, value: float) -> None:
    schedule = Schedule(start=0.0, end=2.0, until=1.2, by="share_of_teacher")
    assert schedule.value(Moment(progress=0.3, share_of_teacher=share)) == pytest.approx(value)


def test_an_end_is_met_exactly() -> None:
    schedule = Schedule(start=0.1, end=0.7, until=0.3)
    assert schedule.value(Moment(0.3, 0.0)) == 0.7
    assert schedule.value(Moment(0.0, 0.0)) == 0.1


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (-1.0, "kl.weight = -1.0: must be 0 or more"),
        ({"start": 1.0}, "kl.weight.end: missing; this key is required"),
        (
            {"start": -1.0, "end": 0.0},
            "kl.weight.start = -1.0: must be 0 or more",
        ),
        (
            {"start": 1.0, "end": 0.0, "untill": 0.5},
            "kl.weight.untill: unknown key; did you mean until?",
        ),
        (
            {"start": 1.0, "end": 0.0, "until": 0.0},
            "kl.weight.until = 0.0: must be greater than 0",
        ),
        (
            {"start": 1.0, "end": 0.0, "until": 1.5},
            "kl.weight: until = 1.5: progress is a share of the run, 1 at its end",
        ),
        (
            {"start": 1.0, "end": 0.0, "by": "luck"},
            "kl.weight.by = 'luck': expected 'progress' or 'share_of_teacher'",
        ),
    ],
)
def test_a_schedule_that_means_nothing_is_refused_in_one_clause(weight: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(ObjectiveConfig, {"kl": {"weight": weight}}, "recipe")
    assert str(caught.value) == f"recipe: {message}"


@pytest.mark.parametrize(
    ("temperature", "message"),
    [
        (0.0, "kl.temperature = 0.0: must be greater than 0"),
        ("hot", "kl.temperature = 'hot': expected 'auto'"),
        (
            {"start": 1.0, "end": 0.0},
            "kl.temperature: start = 1, end = 0: give both above 0",
        ),
    ],
)
def test_a_temperature_is_never_zero(temperature: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(ObjectiveConfig, {"kl": {"temperature": temperature}}, "recipe")
    assert str(caught.value) == f"recipe: {message}"


def test_a_schedule_is_the_same_after_it_was_written_and_read() -> None:
    tree = {
        "kl": {"weight": {"start": 1.0, "end": 0.0, "until": 0.9, "by": "share_of_teacher"}},
        "jsd": {"temperature": "auto", "student_temperature": {"start": 2.0, "end": 1.0}},
    }
    objective = ObjectiveConfig.model_validate(tree)
    written = json.dumps(objective.model_dump(mode="json"))
    assert ObjectiveConfig.model_validate_json(written) == objective
    assert ObjectiveConfig.model_validate_json(objective.model_dump_json()) == objective


def test_a_schedule_does_not_pass_for_a_number() -> None:
    assert present(0.5) == 0.5
    for value in (Schedule(start=1.0, end=0.0), "auto"):
        with pytest.raises(AssertionError, match="not resolved"):
            present(value)
