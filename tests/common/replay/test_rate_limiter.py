import itertools

import numpy as np
import pytest

from common.replay.rate_limiter import RateLimiter, RateLimits


def random_limits(rng: np.random.Generator) -> tuple[RateLimits, int, int]:
    """Return limits, as tight as they may be a third of the time, and the sizes of both sides."""
    insert_size, sample_size = (int(size) for size in rng.integers(1, 200, size=2))
    ratio = float(rng.choice([0.1, 0.5, 1.0, 3.0, 8.0]))
    chunk_worth = max(1.0, ratio * insert_size)
    limits = RateLimits(
        samples_per_insert=ratio,
        min_size_to_sample=int(rng.integers(1, 1_000)),
        error_buffer=float(rng.choice([1.0, chunk_worth, rng.uniform(1.0, 4.0) * chunk_worth])),
    )
    return limits, insert_size, sample_size


@pytest.mark.parametrize("seed", range(40))
def test_random_interleavings_hold_the_bounds_and_never_deadlock(seed: int):
    rng = np.random.default_rng(seed)
    limits, insert_size, sample_size = random_limits(rng)
    limiter = RateLimiter(limits)
    offset = limits.samples_per_insert * limits.min_size_to_sample
    eagerness = rng.uniform(0.1, 0.9)
    for _ in range(600):
        may_insert, allowed = limiter.can_insert(), limiter.allowed(sample_size)
        assert may_insert or allowed, "inserts and samples wait for each other"
        assert 0 <= allowed <= sample_size
        if allowed and (not may_insert or rng.random() < eagerness):
            limiter.did_sample(allowed)
        else:
            limiter.did_insert(int(rng.integers(1, insert_size + 1)))
        surplus = limits.samples_per_insert * limiter.inserted - limiter.sampled
        assert surplus <= offset + limits.error_buffer + limits.samples_per_insert * insert_size
        if limiter.sampled:
            assert surplus >= offset - limits.error_buffer
            assert limiter.inserted >= limits.min_size_to_sample


@pytest.mark.parametrize("seed", range(5))
def test_in_the_long_run_the_ratio_is_kept(seed: int):
    rng = np.random.default_rng(seed)
    limits, insert_size, sample_size = random_limits(rng)
    limiter = RateLimiter(limits)
    for _ in range(20_000):
        if allowed := limiter.allowed(sample_size):
            limiter.did_sample(allowed)
        elif limiter.can_insert():
            limiter.did_insert(insert_size)
    wanted = limits.samples_per_insert * (limiter.inserted - limits.min_size_to_sample)
    tolerance = limits.error_buffer + limits.samples_per_insert * insert_size
    assert wanted > 20 * tolerance
    assert limiter.sampled == pytest.approx(wanted, abs=tolerance)


def test_nothing_is_sampled_below_the_minimum_size():
    limits = RateLimits(samples_per_insert=10.0, min_size_to_sample=100, error_buffer=5_000)
    limiter = RateLimiter(limits)
    limiter.did_insert(99)
    assert limiter.allowed(1) == 0
    limiter.did_insert(1)
    assert limiter.allowed(1) == 1


def test_inserts_alone_stop_at_the_upper_bound_and_samples_at_the_lower():
    limits = RateLimits(samples_per_insert=2.0, min_size_to_sample=10, error_buffer=40.0)
    limiter = RateLimiter(limits)
    inserted = next(n for n in itertools.count(0, 10) if not _go_on(limiter, n))
    assert inserted == 40  # 2 · 30 = 2 · 10 + 40 is still allowed before the insert
    while allowed := limiter.allowed(7):
        limiter.did_sample(allowed)
    assert limiter.sampled == 100  # 2 · 40 − 100 = 2 · 10 − 40


def _go_on(limiter: RateLimiter, inserted: int) -> bool:
    assert limiter.inserted == inserted
    if limiter.can_insert():
        limiter.did_insert(10)
        return True
    return False


def test_a_request_gets_what_is_allowed_where_that_is_less():
    limiter = RateLimiter(
        RateLimits(samples_per_insert=0.5, min_size_to_sample=10, error_buffer=4.0)
    )
    limiter.did_insert(15)
    assert limiter.allowed(5) == 5
    assert limiter.allowed(20) == 6  # 0.5 · 15 − 6 = 1.5, and 0.5 · 10 − 4 = 1
    limiter.did_sample(6)
    assert limiter.allowed(20) == 0
