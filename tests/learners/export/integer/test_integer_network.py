"""The arithmetic of networks in whole numbers, against torch's and against plain fractions."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from learners.export.integer.integer_network import CURVE_POINTS, FloatEntry, IntegerLayer

MOST = 2**31 - 1


def layer(*shape: int, **changes) -> IntegerLayer:
    rng = np.random.default_rng(0)
    given = {
        "weights": rng.integers(-127, 128, shape).astype(np.int8),
        "biases": rng.integers(-(10**6), 10**6, shape[0]).astype(np.int32),
        "multipliers": rng.integers(2**30, 2**31, shape[0]).astype(np.int32),
        "shifts": rng.integers(31, 45, shape[0]).astype(np.uint8),
        "limit": MOST,
    }
    return IntegerLayer(**given | changes)


@pytest.mark.parametrize(("stride", "kernel"), [(1, 3), (2, 4), (3, 2)])
def test_convolutions_add_up_what_torchs_do(stride: int, kernel: int) -> None:
    own = layer(5, 3, kernel, kernel, stride=stride)
    x = np.random.default_rng(1).integers(-32767, 32768, (4, 3, 11, 10))
    weights, biases = torch.tensor(own.weights).double(), torch.tensor(own.biases).double()
    wanted = F.conv2d(torch.tensor(x).double(), weights, biases, stride)
    np.testing.assert_array_equal(own.sums(x), wanted.numpy().astype(np.int64))


def test_sums_are_scaled_to_the_nearest_whole_number_and_end_at_the_limit() -> None:
    own = layer(3, 1, limit=1000)
    sums = np.random.default_rng(2).integers(-MOST, MOST, (200, 3))
    sums[:40] //= 10**6
    sums[0] = -MOST
    for row, found in zip(sums, own.scaled(sums), strict=True):
        for output, (value, scaled) in enumerate(zip(row.tolist(), found.tolist(), strict=True)):
            shift, multiplier = int(own.shifts[output]), int(own.multipliers[output])
            exact = abs(Fraction(value * multiplier, 2**shift))
            nearest = min(1000, (2 * exact + 1) // 2)  # halves away from 0
            assert scaled == (nearest if value > 0 else -nearest)


def test_a_curve_is_straight_between_its_points_and_reaches_its_ends() -> None:
    points = np.rint(np.linspace(-30_000, 30_000, CURVE_POINTS)).astype(np.int16)
    bent = layer(1, 1, curve=points)
    x = np.arange(-(2**15), 2**15)
    np.testing.assert_allclose(bent.curved(x), (x / 2**15) * 30_000, atol=1.01)
    assert bent.curved(np.array([-(2**15)]))[0] == -30_000


def test_entries_of_floats_are_rounded_and_what_is_no_number_is_the_middle() -> None:
    center, factor = np.array([1.0], np.float32), np.array([256 * 100.0], np.float32)
    entry = FloatEntry(center=center, factor=factor, limit=300)
    told = {1.0: 0, 1.004: 0, 1.006: 1, 0.994: -1, 3.9: 290, 9.0: 300, -3e38: -300, np.nan: 0}
    told |= {np.inf: 300, -np.inf: -300}
    found = entry(np.array(list(told), np.float32)[:, None])
    assert found[:, 0].tolist() == list(told.values())
