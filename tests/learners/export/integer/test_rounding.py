"""Rounding that looks at all inputs together loses less than rounding each for itself."""

import numpy as np
import pytest

from learners.export.integer.rounding import Moments, rounded


def some_layer(count: int = 40) -> tuple[np.ndarray, np.ndarray, Moments]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 5)) @ rng.normal(size=(5, count)) + rng.normal(size=count)
    x += 0.1 * rng.normal(size=x.shape)
    covariance = np.cov(x.T, bias=True)
    moments = Moments(x.mean(0), np.diag(covariance), covariance)
    return rng.normal(size=(6, count)), x, moments


def errors(weights: np.ndarray, x: np.ndarray, moments: Moments, bits: int = 8) -> np.ndarray:
    """Return by how much the sums are wrong, after the mean is made good, [M, O]."""
    found = rounded(weights, bits, least=np.zeros(len(weights)), inputs=moments)
    assert np.abs(found.weights.astype(int)).max() <= 2 ** (bits - 1) - 1
    wrong = x @ (found.weights * found.units[:, None] - weights).T
    np.testing.assert_allclose(wrong.mean(0), found.mean_errors, atol=1e-9)
    return wrong - found.mean_errors


def test_inputs_that_go_together_take_each_others_errors_away() -> None:
    weights, x, moments = some_layer()
    together = errors(weights, x, moments).std()
    alone = errors(weights, x, moments._replace(covariance=None)).std()
    assert together < 0.5 * alone


@pytest.mark.parametrize("bits", [4, 12])
def test_it_is_as_fine_as_its_bits(bits: int) -> None:
    weights, x, moments = some_layer()
    ratio = errors(weights, x, moments, bits).std() / errors(weights, x, moments).std()
    assert ratio == pytest.approx(2.0 ** (8 - bits), rel=0.6)


def test_whole_numbers_stay_what_they_are() -> None:
    rng = np.random.default_rng(1)
    weights = rng.integers(-127, 128, (4, 10)) * 0.25
    weights[:, 0] = 127 * 0.25
    moments = Moments(np.ones(10), np.ones(10), np.eye(10))
    found = rounded(weights, 8, least=np.zeros(4), inputs=moments)
    np.testing.assert_allclose(found.units, 0.25)
    np.testing.assert_array_equal(found.weights, weights * 4)
    coarse = rounded(weights, 8, least=np.full(4, 2.0), inputs=moments)
    assert (coarse.units >= 2.0).all()
