import base64
import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cluster.report.cards import MOST_ACTIONS, MOST_ENTRIES, cards_of
from cluster.report.disagreements import (
    SHOWN,
    Example,
    TaskDisagreements,
    find_disagreements,
    read_disagreements,
)
from common.policies.policy import Policy, policy_from_state
from learners.objectives import ObjectiveConfig
from tests.builders import SIZE, STACK, VECTOR, make_policy
from tests.cartpole import GAINS, cartpole_teacher

KL = ObjectiveConfig.model_validate({"kl": {}})


def pusher(*gains: float, scale: float = 1.0) -> Policy:
    """Push by the sign of gains · observation, with logits of `scale`."""
    state = {
        "layers.0.weight": torch.tensor([gains, [-gain for gain in gains]], dtype=torch.float32),
        "layers.0.bias": torch.zeros(2),
        "head.weight": scale * torch.tensor([[-1.0, 1.0], [1.0, -1.0]]),
        "head.bias": torch.zeros(2),
    }
    return policy_from_state(cartpole_teacher().spec, state, source="pusher")


def test_the_observations_on_which_both_differ_most_are_found() -> None:
    """The teacher looks at the first entry alone, the student at the second alone."""
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(2_000, 4)).astype(np.float32)
    teacher, student = pusher(1, 0, 0, 0, scale=3), pusher(0, 1, 0, 0, scale=3)
    found = find_disagreements(seen, teacher, student, KL)
    p, own = (1 / (1 + np.exp(6 * seen[:, i].astype(np.float64))) for i in (0, 1))
    assert found.observations == 2_000
    assert found.mean_difference == pytest.approx(np.abs(p - own).mean(), rel=1e-3)
    assert len(found.examples) == SHOWN
    assert found.examples[0].difference == pytest.approx(np.abs(p - own).max(), rel=1e-4)
    for example in found.examples:
        assert (example.vector[0] > 0) != (example.vector[1] > 0)
        assert sum(example.teacher) == pytest.approx(1, abs=1e-3)
    assert found.mean == pytest.approx(seen.mean(0), rel=1e-3, abs=1e-5)


def test_observations_that_look_alike_are_shown_once() -> None:
    seen = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    seen[:40] = (3.0, -3.0, 0.0, 0.0)
    found = find_disagreements(seen, pusher(1, 0, 0, 0), pusher(0, 1, 0, 0), KL)
    assert [e.vector[:2] for e in found.examples].count((3.0, -3.0)) == 1


def test_policies_that_are_alike_disagree_nowhere() -> None:
    seen = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    found = find_disagreements(seen, pusher(*GAINS.tolist()), pusher(*GAINS.tolist()), KL)
    assert (found.mean_difference, found.examples) == (0.0, ())


def test_frames_become_pictures_of_the_stack() -> None:
    seen = np.random.default_rng(0).integers(256, size=(30, STACK, SIZE, SIZE), dtype=np.uint8)
    found = find_disagreements(seen, make_policy("frames"), make_policy("frames", seed=1), KL)
    png = found.examples[0].png
    assert png is not None
    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        assert picture.size == (STACK * SIZE + (STACK - 1) * 2, SIZE)
        first = np.asarray(picture)[:, :SIZE]
    assert any((first == stack[0]).all() for stack in seen)


def test_box_actions_are_compared_by_their_means() -> None:
    box = {"num_actions": None, "action_box": {"low": (-2.0,), "high": (2.0,)}}
    own, other = (make_policy(seed=s, dist="gaussian", **box) for s in (0, 1))
    seen = np.random.default_rng(0).normal(size=(40, VECTOR)).astype(np.float32)
    found = find_disagreements(
        seen, own, other, ObjectiveConfig.model_validate({"gaussian_kl": {}})
    )
    assert found.continuous
    assert found.teacher_temperature is None
    example = found.examples[0]
    assert len(example.teacher) == 1
    assert example.difference == pytest.approx(
        abs(example.teacher[0] - example.student[0]), rel=1e-3
    )


def test_what_cannot_be_asked_about_has_its_reason() -> None:
    memory = make_policy(
        network={"name": "lstm", "torso": {"name": "mlp", "hidden": (8,)}, "hidden": 8}
    )
    seen = np.zeros((3, VECTOR), np.float32)
    found = find_disagreements(seen, make_policy(), memory, KL)
    assert found.reason is not None
    assert "memory" in found.reason
    nothing = find_disagreements(seen[:0], make_policy(), make_policy(), KL)
    assert nothing.reason == "the evaluation kept no observations"


def test_what_was_written_is_read_again() -> None:
    seen = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    found = find_disagreements(seen, pusher(1, 0, 0, 0), pusher(0, 1, 0, 0), KL)
    tree = {"tasks": {"toy": found.model_dump(mode="json", exclude_defaults=True)}}
    assert read_disagreements(tree) == {"toy": found}


@pytest.mark.parametrize("tree", [None, [], {}, {"tasks": 3}, {"tasks": {"toy": {"examples": 3}}}])
def test_something_else_is_nothing(tree: Any) -> None:
    assert read_disagreements(tree) == {}


def of_actions(teacher: list[float], student: list[float], **changes: Any) -> TaskDisagreements:
    example = Example(difference=0.5, teacher=tuple(teacher), student=tuple(student), **changes)
    return TaskDisagreements(examples=(example,))


def test_a_card_says_what_each_would_do_and_sums_up_the_rest() -> None:
    teacher = [0.0] * 17 + [1.0]
    (card,) = cards_of(of_actions(teacher, teacher[::-1]))
    assert card.sentence == "Teacher: action 17 (100 %); student: action 0 (100 %)."
    assert len(card.actions) == MOST_ACTIONS + 1
    assert card.actions[-1].name == "10 others"
    assert sum(row.teacher.width for row in card.actions) == 100.0


def test_a_card_shows_the_most_unusual_numbers() -> None:
    values = tuple(float(index) for index in range(40))
    found = of_actions([1.0, 0.0], [0.0, 1.0], vector=values)
    found = found.model_copy(update={"mean": (0.0,) * 40, "std": (100.0,) * 39 + (0.0,)})
    (card,) = cards_of(found)
    assert len(card.entries) == MOST_ENTRIES
    assert card.left_out == 40 - MOST_ENTRIES
    assert card.entries[-1].name == "entry 38"
    assert card.entries[-1].unusual.text == "+0.4 σ"
