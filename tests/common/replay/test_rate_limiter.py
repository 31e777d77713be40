import itertools

import numpy as np
import pytest

from common.errors import ConfigError
from common.replay.rate_limiter import RateLimiter, RateLimits


def random_limits(rng: np.random.Generator) -> tuple[RateLimits, int, int]:
    """Return limits that `check` passes, as tight as it allows half the time, and both sizes."""
    insert_size, sample_size = (int(size) for size in rng.integers(1, 200, size=2))
    ratio = float(rng.choice([0.1, 0.5, 1.0, 3.0, 8.0]))
    slack = float(rng.choice([1.0, rng.uniform(1.0, 4.0)]))
    limits = RateLimits(
        samples_per_insert=ratio,
        min_size_to_sample=int(rng.integers(1, 1_000)),
        error_buffer=slack * max(ratio * insert_size, sample_size),
    )
    limits.check(insert_size=insert_size, sample_size=sample_size)
    return limits, insert_size, sample_size


@pytest.mark.parametrize("seed", range(40))
def test_random_interleavings_hold_the_bounds_and_never_deadlock(seed: int):
    rng = np.random.default_rng(seed)
    limits, insert_size, sample_size = random_limits(rng)
    limiter = RateLimiter(limits)
    offset = limits.samples_per_insert * limits.min_size_to_sample
    eagerness = rng.uniform(0.1, 0.9)
    for _ in range(600):
        may_insert, may_sample = limiter.can_insert(), limiter.can_sample(sample_size)
        assert may_insert or may_sample, "inserts and samples wait for each other"
        if may_sample and (not may_insert or rng.random() < eagerness):
            limiter.did_sample(sample_size)
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
        if limiter.can_sample(sample_size):
            limiter.did_sample(sample_size)
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
    assert not limiter.can_sample(1)
    limiter.did_insert(1)
    assert limiter.can_sample(1)


def test_inserts_alone_stop_at_the_upper_bound_and_samples_at_the_lower():
    limits = RateLimits(samples_per_insert=2.0, min_size_to_sample=10, error_buffer=40.0)
    limiter = RateLimiter(limits)
    inserted = next(n for n in itertools.count(0, 10) if not _go_on(limiter, n))
    assert inserted == 40  # 2 · 30 = 2 · 10 + 40 is still allowed before the insert
    while limiter.can_sample(5):
        limiter.did_sample(5)
    assert limiter.sampled == 100  # 2 · 40 − 100 = 2 · 10 − 40


def _go_on(limiter: RateLimiter, inserted: int) -> bool:
    assert limiter.inserted == inserted
    if limiter.can_insert():
        limiter.did_insert(10)
        return True
    return False


@pytest.mark.parametrize(
    ("ratio", "insert_size", "sample_size", "needed"),
    [(1.0, 100, 50, 100), (4.0, 100, 50, 400), (0.5, 100, 128, 128)],
)
def test_check_refuses_a_buffer_smaller_than_one_insert_or_request(
    ratio, insert_size, sample_size, needed
):
    def limits(error_buffer: float) -> RateLimits:
        return RateLimits(samples_per_insert=ratio, min_size_to_sample=1, error_buffer=error_buffer)

    limits(needed).check(insert_size=insert_size, sample_size=sample_size)
    with pytest.raises(ConfigError) as caught:
        limits(needed - 1).check(insert_size=insert_size, sample_size=sample_size)
    message = str(caught.value)
    assert message.startswith(f"replay.error_buffer = {needed - 1} would deadlock")
    assert message.endswith(f"at least {needed}")


def test_what_check_refuses_can_deadlock():
    """With a buffer of less than half a request."""
    limiter = RateLimiter(
        RateLimits(samples_per_insert=1.0, min_size_to_sample=10, error_buffer=4.0)
    )
    while limiter.can_insert():
        limiter.did_insert(1)
    assert not limiter.can_sample(20)
