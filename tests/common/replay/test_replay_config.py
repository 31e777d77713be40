import pytest
from pydantic import ValidationError

from common.errors import ConfigError
from common.replay.config import ReplayConfig


@pytest.mark.parametrize(("num_shards", "each"), [(1, 100), (3, 34), (7, 15)])
def test_shards_hold_the_capacity_together(num_shards: int, each: int):
    assert ReplayConfig(capacity=100, num_shards=num_shards).shard_capacity() == each


def test_limits_are_those_of_one_shard():
    config = ReplayConfig(
        num_shards=3, min_size_to_sample=100, samples_per_insert=2.0, error_buffer=500.0
    )
    limits = config.limits(insert_size=100, sample_size=64)
    assert limits.samples_per_insert == 2.0
    assert limits.min_size_to_sample == 34
    assert limits.error_buffer == 500.0


@pytest.mark.parametrize(
    ("ratio", "insert_size", "sample_size", "buffer"),
    [(2.0, 100, 64, 800), (0.5, 100, 64, 256)],
)
def test_the_default_buffer_is_four_chunks_or_requests(ratio, insert_size, sample_size, buffer):
    limits = ReplayConfig(samples_per_insert=ratio).limits(
        insert_size=insert_size, sample_size=sample_size
    )
    assert limits.error_buffer == buffer


def test_a_buffer_that_would_deadlock_is_refused():
    with pytest.raises(ConfigError, match=r"replay.error_buffer = 10 would deadlock"):
        ReplayConfig(error_buffer=10.0).limits(insert_size=100, sample_size=64)


@pytest.mark.parametrize(
    "values",
    [
        {"num_shards": 0},
        {"capacity": 0},
        {"samples_per_insert": 0.0},
        {"min_size_to_sample": 0},
        {"error_buffer": 0.0},
    ],
)
def test_values_that_mean_nothing_are_refused(values):
    with pytest.raises(ValidationError, match="greater than"):
        ReplayConfig(**values)
