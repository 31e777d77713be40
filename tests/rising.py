"""Teachers of rising return for CartPole: one small network while it learns to balance.

It imitates the feedback teacher of `tests.cartpole` by gradient steps, and is copied each time that
it plays as well as one of the returns asked for. The last is the feedback teacher itself, which
never fails, and whose network has another size.
"""

from functools import lru_cache

import gymnasium
import numpy as np
import torch
from torch.nn import functional as F

from common.networks.mlp import MLPSpec
from common.policies.policy import Policy, new_policy, policy_from_state
from tests.cartpole import cartpole_teacher

RETURNS = (15.0, 60.0, 150.0)
"""Mean greedy returns of those that learn; random play has 22, the last teacher 500."""

MAX_STEPS = 500
STEPS_BETWEEN = 5


@lru_cache(maxsize=1)
def rising_teachers() -> tuple[Policy, ...]:
    """Return four policies, each better than the one before."""
    spec = cartpole_teacher().spec.model_copy(
        update={"name": "learning", "network": MLPSpec(hidden=(32,))}
    )
    learning = new_policy(spec, seed=3)
    observations, actions = _imitated()
    optimizer = torch.optim.SGD(learning.network.parameters(), lr=0.05)
    rng = np.random.default_rng(0)
    found: list[Policy] = []
    for step in range(MAX_STEPS):
        rows = rng.integers(len(actions), size=64)
        loss = F.cross_entropy(learning.network(observations[rows]).dist_inputs, actions[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % STEPS_BETWEEN:
            continue
        if mean_return(learning, num_episodes=16) >= RETURNS[len(found)]:
            found.append(policy_from_state(spec, learning.network.state_dict(), source="learning"))
            if len(found) == len(RETURNS):
                return *found, cartpole_teacher()
    raise AssertionError(f"only {len(found)} of {RETURNS} reached")


def mean_return(policy: Policy, *, num_episodes: int, seed: int = 0) -> float:
    """Return the mean return of greedy episodes of CartPole-v1."""
    envs = gymnasium.make_vec("CartPole-v1", num_envs=num_episodes, vectorization_mode="sync")
    observations, _ = envs.reset(seed=seed)
    returns, running = np.zeros(num_episodes), np.ones(num_episodes, dtype=bool)
    while running.any():
        with torch.inference_mode():
            outputs = policy.network(torch.as_tensor(observations, dtype=torch.float32))
        actions = outputs.dist_inputs.argmax(-1).numpy()
        observations, rewards, terminated, truncated, _ = envs.step(actions)
        returns += rewards * running
        running &= ~(terminated | truncated)
    envs.close()
    return float(returns.mean())


def _imitated() -> tuple[torch.Tensor, torch.Tensor]:
    """Return states that differ widely, and what the feedback teacher does in them."""
    rng = np.random.default_rng(1)
    states = rng.normal(size=(4_000, 4)) * [1.0, 1.0, 0.1, 1.0]
    observations = torch.as_tensor(states, dtype=torch.float32)
    return observations, cartpole_teacher().network(observations).dist_inputs.argmax(-1)
