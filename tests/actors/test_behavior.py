from typing import get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from actors.behavior import BehaviorConfig, Dagger, Mixed, StudentDriven, TeacherDriven

BEHAVIORS = get_args(get_args(BehaviorConfig)[0])


@pytest.mark.parametrize("behavior", BEHAVIORS, ids=lambda behavior: behavior.__name__)
def test_a_behavior_is_chosen_by_name_and_tells_a_share(behavior):
    name = behavior.model_fields["name"].default
    chosen = TypeAdapter(BehaviorConfig).validate_python({"name": name})
    assert type(chosen) is behavior
    shares = [chosen.teacher_share(progress / 20) for progress in range(21)]
    assert all(0.0 <= share <= 1.0 for share in shares)
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize(
    ("behavior", "shares"),
    [
        (Dagger(), [1.0, 0.5, 0.0, 0.0]),
        (Dagger(anneal_fraction=1.0), [1.0, 0.95, 0.9, 0.0]),
        (Dagger(anneal_fraction=0.0), [0.0, 0.0, 0.0, 0.0]),
        (TeacherDriven(), [1.0, 1.0, 1.0, 1.0]),
        (StudentDriven(), [0.0, 0.0, 0.0, 0.0]),
        (Mixed(share=0.3), [0.3, 0.3, 0.3, 0.3]),
    ],
)
def test_shares_of_teacher_episodes(behavior, shares):
    found = [behavior.teacher_share(progress) for progress in (0.0, 0.05, 0.1, 1.0)]
    assert found == pytest.approx(shares)


@pytest.mark.parametrize(
    "values",
    [
        {"name": "mixed", "share": 1.1},
        {"name": "dagger", "anneal_fraction": -0.1},
        {"name": "teacher", "teacher_epsilon": 2.0},
        {"name": "student", "student_epsilon": -1.0},
        {"name": "student", "share": 0.5},
        {"name": "nobody"},
    ],
)
def test_what_is_no_behavior_is_refused(values):
    with pytest.raises(ValidationError):
        TypeAdapter(BehaviorConfig).validate_python(values)
