import copy

import pytest
import torch

from learners.config import LearnerConfig
from learners.optimizers import OPTIMIZERS


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_every_optimiser_goes_downhill_and_goes_on_from_its_state(name):
    target = torch.tensor([[1.0, -2.0, 0.5]])

    def start() -> tuple[torch.nn.Parameter, torch.optim.Optimizer]:
        weight = torch.nn.Parameter(torch.full((1, 3), 3.0))
        return weight, OPTIMIZERS[name]([weight], 0.05 if name != "lars" else 20.0, 0.0)

    def step(weight: torch.nn.Parameter, optimizer: torch.optim.Optimizer) -> float:
        optimizer.zero_grad()
        loss = (weight - target).square().mean()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    weight, optimizer = start()
    losses = [step(weight, optimizer) for _ in range(40)]
    assert min(losses[-5:]) < 0.5 * losses[0]
    again, resumed = start()
    with torch.no_grad():
        again.copy_(weight)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for _ in range(3):
        step(weight, optimizer)
        step(again, resumed)
    torch.testing.assert_close(again, weight)


@pytest.mark.parametrize(("scaling", "factor"), [("none", 1.0), ("linear", 16.0), ("sqrt", 4.0)])
def test_the_rate_grows_with_the_batch(scaling, factor):
    config = LearnerConfig(
        batch_size=2_048,
        reference_batch_size=128,
        learning_rate=0.01,
        learning_rate_scaling=scaling,
    )
    assert config.rate(step=0, progress=0.0) == pytest.approx(0.01 * factor)


def test_the_rate_warms_up_in_equal_steps():
    config = LearnerConfig(learning_rate=0.1, warmup_steps=4, final_learning_rate_fraction=1.0)
    rates = [config.rate(step=step, progress=0.0) for step in range(6)]
    assert rates == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1])
