import numpy as np
import pytest
from pydantic import ValidationError

from common.policies.box import BoxActions

BOX = BoxActions(low=(-2.0, 0.0), high=(2.0, 10.0))


def test_units_are_halves_of_the_range_from_the_middle():
    units = np.array([[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0], [0.5, -0.5]], np.float32)
    wanted = [[-2.0, 0.0], [0.0, 5.0], [2.0, 10.0], [1.0, 2.5]]
    np.testing.assert_array_equal(BOX.from_units(units), wanted)
    assert BOX.from_units(units).dtype == np.float32


def test_what_is_outside_is_clipped():
    units = np.array([[-7.0, 3.0]], np.float32)
    np.testing.assert_array_equal(BOX.from_units(units), [[-2.0, 10.0]])


def test_a_box_says_what_it_is():
    assert str(BOX) == "vectors of 2 within -2 to 2, 0 to 10"
    assert str(BoxActions(low=(-1.0,) * 3, high=(1.0,) * 3)) == "vectors of 3 within -1 to 1"


@pytest.mark.parametrize(
    ("low", "high", "reason"),
    [
        ((), (), "at least 1 item"),
        ((0.0,), (1.0, 2.0), "1 lower bounds and 2 upper ones"),
        ((0.0,), (0.0,), "bounds 0 to 0: they must be in order"),
        ((0.0,), (float("inf"),), "a finite number"),
        ((float("nan"),), (1.0,), "a finite number"),
    ],
)
def test_bounds_that_are_none_are_refused(low, high, reason):
    with pytest.raises(ValidationError, match=reason):
        BoxActions(low=low, high=high)
