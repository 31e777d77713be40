import numpy as np
import pytest

from actors.action_bars import MAX_BARS, ActionBars, Bar
from common.policies.spec import PolicySpec
from tests.builders import make_spec

NAMES = ("NOOP", "LEFT", "RIGHT")


def bars_of(
    spec: PolicySpec,
    outputs: list[float],
    action: float = 0.0,
    names: tuple[str, ...] | None = None,
) -> tuple[Bar, ...]:
    return ActionBars(spec, names)(np.array([outputs], np.float32), np.array([action]))


def test_logits_are_shown_as_probabilities() -> None:
    bars = bars_of(make_spec(), [0.0, np.log(3.0), np.log(6.0)], 2, NAMES)
    assert [bar.name for bar in bars] == list(NAMES)
    assert [bar.end for bar in bars] == pytest.approx([0.1, 0.3, 0.6])
    assert [bar.label for bar in bars] == ["10%", "30%", "60%"]
    assert [bar.start for bar in bars] == [0.0] * 3
    assert [bar.is_taken for bar in bars] == [False, False, True]


def test_actions_without_names_are_numbers() -> None:
    assert [bar.name for bar in bars_of(make_spec(), [0.0, 0.0, 0.0])] == ["0", "1", "2"]


def test_q_values_are_shown_below_the_best_by_the_widest_gap_so_far() -> None:
    bars = ActionBars(make_spec(dist="q_values"), None)
    assert bars.caption == "Q-values"
    action = np.array([1])

    def ends(*values: float) -> list[float]:
        return [bar.end for bar in bars(np.array([values], np.float32), action)]

    assert ends(5.0, 5.0, 5.0) == [1.0, 1.0, 1.0]
    assert ends(1.0, 3.0, 2.0) == [0.0, 1.0, 0.5]
    assert ends(10.0, 10.5, 10.0) == [0.75, 1.0, 0.75]
    (first, *_) = bars(np.array([[-0.1234567, 3.0, 2.0]], np.float32), action)
    assert first.label == "-0.123"


def test_of_many_actions_the_likeliest_are_shown_in_their_order() -> None:
    logits = [float(number % 50) for number in range(100)]
    bars = bars_of(make_spec(num_actions=100), logits)
    assert len(bars) == MAX_BARS
    assert [bar.name for bar in bars] == [str(n) for n in (*range(41, 50), *range(91, 100))]


def test_box_actions_are_shown_from_the_middle_in_their_own_numbers() -> None:
    box = {"low": (-2.0, 0.0), "high": (2.0, 1.0)}
    spec = make_spec(num_actions=None, action_box=box, dist="gaussian")
    right, left = bars_of(spec, [0.5, -3.0, 0.0, 0.0])
    assert (right.start, right.end, right.label) == (0.5, 0.75, "1.00")
    assert (left.start, left.end, left.label) == (0.0, 0.5, "0.00")  # beyond the bound
    assert ActionBars(spec, None).caption == "mean action"
