import pytest
from pydantic import ValidationError

from common.replay.config import ReplayConfig
from common.replay.sampler_config import FreshFirst, Prioritized, Uniform


@pytest.mark.parametrize(("num_shards", "each"), [(1, 100), (3, 34), (7, 15)])
def test_shards_hold_the_capacity_together(num_shards: int, each: int):
    assert ReplayConfig(capacity=100, num_shards=num_shards).shard_capacity() == each


def test_limits_are_those_of_one_shard():
    config = ReplayConfig(
        num_shards=3, min_size_to_sample=100, samples_per_insert=2.0, error_buffer=500.0
    )
    limits = config.limits(insert_size=100)
    assert limits.samples_per_insert == 2.0
    assert limits.min_size_to_sample == 34
    assert limits.error_buffer == 500.0


@pytest.mark.parametrize(
    ("ratio", "insert_size", "buffer"), [(2.0, 100, 200), (0.3, 7, 2.1), (1e-6, 2_048, 1)]
)
def test_the_default_buffer_is_what_a_chunk_is_worth_and_a_sample_at_least(
    ratio, insert_size, buffer
):
    limits = ReplayConfig(samples_per_insert=ratio).limits(insert_size=insert_size)
    assert limits.error_buffer == pytest.approx(buffer)


@pytest.mark.parametrize(
    ("capacity", "window", "size", "revisits"),
    [
        (1_000, None, 1_000, False),
        (100_000, None, 100_000, False),
        (1_000_000, None, 100_000, True),
        (1_000, 500, 500, True),
        (1_000, 1_000, 1_000, False),
        (1_000, 2_000, 2_000, False),
    ],
)
def test_the_window_is_the_capacity_up_to_a_hundred_thousand(capacity, window, size, revisits):
    config = ReplayConfig(capacity=capacity, window=window)
    assert config.window_size() == size
    assert config.revisits_chunks == revisits
    assert not config.model_copy(update={"revisits": 0}).revisits_chunks


@pytest.mark.parametrize(("num_shards", "each"), [(1, 100), (3, 34), (7, 15)])
def test_shards_share_the_window(num_shards: int, each: int):
    assert ReplayConfig(window=100, num_shards=num_shards).shard_window() == each


@pytest.mark.parametrize(("num_shards", "each"), [(1, 100), (3, 33), (200, 1)])
def test_shards_together_hold_no_more_bytes_than_allowed(num_shards: int, each: int):
    assert ReplayConfig(max_bytes=100, num_shards=num_shards).shard_max_bytes() == each
    assert ReplayConfig(num_shards=num_shards).shard_max_bytes() is None


@pytest.mark.parametrize(
    ("tree", "sampler"),
    [
        ({}, Uniform()),
        ({"sampler": {"name": "uniform"}}, Uniform()),
        ({"sampler": {"name": "prioritized", "alpha": 0.5}}, Prioritized(alpha=0.5)),
        ({"sampler": {"name": "fresh_first"}}, FreshFirst()),
    ],
)
def test_the_sampler_is_chosen_by_name(tree, sampler):
    assert ReplayConfig.model_validate(tree).sampler == sampler


@pytest.mark.parametrize(
    ("sampler", "reason"),
    [
        ({"name": "priority"}, "'uniform', 'prioritized', 'fresh_first'"),
        ({"name": "uniform", "alpha": 0.5}, "Extra inputs"),
        ({"name": "prioritized", "alpha": -0.5}, "greater than or equal to 0"),
        ({"name": "prioritized", "beta": -0.5}, "greater than or equal to 0"),
        ({"name": "prioritized", "epsilon": 0.0}, "greater than 0"),
    ],
)
def test_samplers_that_mean_nothing_are_refused(sampler, reason):
    with pytest.raises(ValidationError, match=reason):
        ReplayConfig.model_validate({"sampler": sampler})


@pytest.mark.parametrize(
    "values",
    [
        {"num_shards": 0},
        {"capacity": 0},
        {"max_bytes": 0},
        {"window": 0},
        {"revisits": -1},
        {"samples_per_insert": 0.0},
        {"min_size_to_sample": 0},
        {"error_buffer": 0.5},
    ],
)
def test_values_that_mean_nothing_are_refused(values):
    with pytest.raises(ValidationError, match="greater than"):
        ReplayConfig(**values)
