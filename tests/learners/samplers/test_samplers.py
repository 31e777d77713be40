"""What every sampler promises, over the table."""

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from common.replay.sampler_config import SamplerConfig
from learners.samplers import SAMPLERS, Draw, Sampler, make_sampler
from learners.samplers.uniform import UniformSampler
from tests.learners.samplers.ring import CPU, Ring, drawn

CAPACITY = 60

each_sampler = pytest.mark.parametrize("name", SAMPLERS)


def sampler_of(name: str, capacity: int = CAPACITY, **settings: float) -> Sampler:
    adapter: TypeAdapter[SamplerConfig] = TypeAdapter(SamplerConfig)
    config = adapter.validate_python({"name": name, **settings})
    return make_sampler(config, capacity=capacity, device=CPU)


def train(sampler: Sampler, rng: np.random.Generator, num_rows: int) -> Draw:
    """Draw, and tell of random losses as a learner does."""
    draw = sampler.draw(rng, num_rows)
    sampler.update(draw.rows, torch.from_numpy(rng.exponential(size=num_rows)).float())
    return draw


def test_every_sampler_of_the_recipe_is_in_the_table():
    schema = TypeAdapter(SamplerConfig).json_schema()
    assert set(schema["discriminator"]["mapping"]) == SAMPLERS.keys()


@each_sampler
@pytest.mark.parametrize("seed", range(5))
def test_only_rows_that_are_there_are_drawn_over_many_laps(name: str, seed: int):
    rng = np.random.default_rng(seed)
    ring = Ring(sampler_of(name), CAPACITY)
    for _ in range(100):
        ring.insert(int(rng.integers(0, 25)), revisited=bool(rng.random() < 0.3))
        if ring.rows:
            draw = train(ring.sampler, rng, int(rng.integers(1, 40)))
            assert set(draw.rows.tolist()) <= ring.rows


@each_sampler
@pytest.mark.parametrize("revisited", [False, True])
def test_every_row_is_reachable(name: str, revisited: bool):
    rng = np.random.default_rng(0)
    ring = Ring(sampler_of(name), CAPACITY)
    for size in (20, 25, 7, 30):
        ring.insert(size, revisited=revisited)
    found: set[int] = set()
    for _ in range(300):
        found.update(train(ring.sampler, rng, 16).rows.tolist())
    assert found == ring.rows


@each_sampler
def test_rows_and_weights_are_of_the_types_and_sizes_that_a_learner_takes(name: str):
    ring = Ring(sampler_of(name), CAPACITY)
    ring.insert(3)
    for num_rows in (1, 2, 3, 50):
        draw = train(ring.sampler, np.random.default_rng(0), num_rows)
        assert (draw.rows.dtype, draw.rows.shape) == (torch.int64, (num_rows,))
        if draw.weights is not None:
            assert (draw.weights.dtype, draw.weights.shape) == (torch.float32, (num_rows,))
            assert 0 < float(draw.weights.min()) <= float(draw.weights.max()) == 1.0


@each_sampler
def test_the_generator_decides_what_is_drawn(name: str):
    def draws(seed: int) -> list[list[int]]:
        rng = np.random.default_rng(seed)
        ring = Ring(sampler_of(name), CAPACITY)
        found = []
        for size in (20, 25, 30, 30):
            ring.insert(size)
            found += [train(ring.sampler, rng, 12).rows.tolist() for _ in range(4)]
        return found

    assert draws(1) == draws(1) != draws(2)


@each_sampler
def test_a_generator_put_back_draws_the_same_again(name: str):
    """As a learner's that goes on from a checkpoint, with an empty window."""
    rng = np.random.default_rng(0)
    first = Ring(sampler_of(name), CAPACITY)
    first.insert(20)
    train(first.sampler, rng, 16)
    state, found = rng.bit_generator.state, []
    for _ in range(2):
        rng.bit_generator.state = state
        ring = Ring(sampler_of(name), CAPACITY)
        ring.insert(20)
        found.append([train(ring.sampler, rng, 16).rows.tolist() for _ in range(3)])
    assert found[0] == found[1]


@each_sampler
@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -1.0, 0.0])
def test_losses_that_say_nothing_leave_every_row_reachable(name: str, loss: float):
    rng = np.random.default_rng(0)
    ring = Ring(sampler_of(name), CAPACITY)
    ring.insert(8)
    for _ in range(3):
        draw = ring.sampler.draw(rng, 16)
        ring.sampler.update(draw.rows, torch.full((16,), loss))
    assert set(drawn(ring.sampler, 500)) == ring.rows


@pytest.mark.parametrize("weighted", [False, True])
def test_a_draw_is_split_into_parts_that_belong_together(weighted: bool):
    rows = torch.arange(7)
    draw = Draw(rows, rows / 10 if weighted else None)
    parts = draw.split(3)
    assert [part.rows.tolist() for part in parts] == [[0, 1, 2], [3, 4, 5], [6]]
    for part in parts:
        assert (part.weights is not None) == weighted
        if part.weights is not None:
            torch.testing.assert_close(part.weights, part.rows / 10)


def test_uniform_is_uniform_over_what_is_there():
    ring = Ring(sampler_of("uniform"), CAPACITY)
    for size in (20, 25, 7, 30):
        ring.insert(size)
    rows, counts = np.unique(drawn(ring.sampler, 400 * len(ring.rows)), return_counts=True)
    assert set(rows.tolist()) == ring.rows
    assert abs(counts - 400).max() < 5 * 400**0.5


def test_uniform_notices_a_chunk_that_leaves_out_of_turn():
    sampler = sampler_of("uniform")
    assert isinstance(sampler, UniformSampler)
    sampler.insert(0, 5, revisited=False)
    sampler.insert(5, 9, revisited=False)
    with pytest.raises(AssertionError, match="not the oldest chunk"):
        sampler.remove(5, 9)
