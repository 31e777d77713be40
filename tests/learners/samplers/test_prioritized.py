import numpy as np
import pytest
import torch

from common.replay.sampler_config import Prioritized
from learners.samplers.prioritized import PrioritizedSampler
from tests.learners.samplers.ring import CPU, Ring, drawn

LOSSES = torch.tensor([0.0, 0.5, 1.0, 2.0, 8.0])


def taught(losses: torch.Tensor = LOSSES, *, capacity: int = 20, **settings: float) -> Ring:
    """Return a ring whose rows have these losses."""
    sampler = PrioritizedSampler(Prioritized(**settings), capacity=capacity, device=CPU)
    ring = Ring(sampler, capacity)
    rows = ring.insert(len(losses))
    sampler.update(torch.tensor(rows), losses)
    return ring


def probabilities(losses: list[float], alpha: float, epsilon: float) -> list[float]:
    powers = [(loss + epsilon) ** alpha for loss in losses]
    return [power / sum(powers) for power in powers]


def shares(ring: Ring, draws: int = 100_000) -> list[float]:
    counts = np.bincount(drawn(ring.sampler, draws), minlength=len(ring.rows))
    found: list[float] = (counts / draws).tolist()
    return found


@pytest.mark.parametrize(("alpha", "epsilon"), [(0.6, 1e-3), (1.0, 0.1), (0.0, 1e-3), (2.0, 1.0)])
def test_frequencies_follow_priorities(alpha: float, epsilon: float):
    ring = taught(alpha=alpha, epsilon=epsilon)
    wanted = probabilities(LOSSES.tolist(), alpha, epsilon)
    assert shares(ring) == pytest.approx(wanted, abs=0.006)


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_importance_weights_by_hand(beta: float):
    ring = taught(alpha=0.6, beta=beta)
    draw = ring.sampler.draw(np.random.default_rng(0), 200)
    p = probabilities(LOSSES.tolist(), 0.6, 1e-3)
    assert draw.weights is not None or beta == 0
    if draw.weights is None:
        return
    raw = [(1 / (5 * p[row])) ** beta for row in draw.rows.tolist()]
    assert draw.weights.tolist() == pytest.approx([weight / max(raw) for weight in raw], rel=1e-5)
    assert len(set(raw)) > 3


def test_full_weights_take_the_bias_out():
    """With β = 1 the weighted mean of anything is its mean over all rows."""
    ring = taught(beta=1.0)
    draw = ring.sampler.draw(np.random.default_rng(0), 200_000)
    assert draw.weights is not None
    mean = (draw.weights * LOSSES[draw.rows]).sum() / draw.weights.sum()
    assert float(mean) == pytest.approx(float(LOSSES.mean()), rel=0.02)


def test_new_rows_get_the_largest_priority_so_far():
    ring = taught(capacity=7)
    rows = torch.arange(5)
    ring.sampler.update(rows, LOSSES / 100)  # the largest so far stays 8
    ring.insert(2)
    wanted = probabilities([*(LOSSES / 100).tolist(), 8.0, 8.0], 0.6, 1e-3)
    assert shares(ring) == pytest.approx(wanted, abs=0.006)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_before_the_first_update_all_rows_are_as_likely_and_then_as_urgent_as_the_worst(scale):
    sampler = PrioritizedSampler(Prioritized(epsilon=1e-9), capacity=6, device=CPU)
    ring = Ring(sampler, 6)
    ring.insert(3)
    ring.insert(3)
    assert shares(ring) == pytest.approx([1 / 6] * 6, abs=0.006)
    sampler.update(torch.tensor([0, 1]), scale * torch.tensor([1.0, 3.0]))
    wanted = probabilities([1.0, 3.0, 3.0, 3.0, 3.0, 3.0], 0.6, 0.0)
    assert shares(ring) == pytest.approx(wanted, abs=0.006)


def test_a_row_that_is_drawn_twice_has_one_priority():
    ring = taught()
    ring.sampler.update(torch.tensor([4, 4, 4]), torch.full((3,), 0.5))
    wanted = probabilities([0.0, 0.5, 1.0, 2.0, 0.5], 0.6, 1e-3)
    assert shares(ring) == pytest.approx(wanted, abs=0.006)


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -1e-7])
def test_a_loss_that_is_no_loss_counts_as_none(loss: float):
    ring = taught(torch.tensor([1.0, loss, 1.0]))
    assert shares(ring) == pytest.approx(probabilities([1.0, 0.0, 1.0], 0.6, 1e-3), abs=0.006)


def test_points_at_the_very_end_hit_the_last_row_that_is_there():
    class Highest(np.random.Generator):
        def random(self, size: int) -> np.ndarray:  # type: ignore[override]
            return np.full(size, np.nextafter(1.0, 0.0))

    ring = taught(torch.rand(13, generator=torch.Generator().manual_seed(0)))
    assert drawn(ring.sampler, 3, seed=Highest(np.random.PCG64())) == [12, 12, 12]
