"""What comes after a step: returns, advantages and targets along sequences.

L = steps, S = sequences; every array is [L, S], time-major, and nothing here has a gradient. Row t
holds what was done at t and the reward and ends that followed. Three things can follow row t:

- the episode goes on: row t + 1 is its successor;
- it terminated: nothing follows, and what comes after is worth 0;
- it was truncated: row t + 1 is an autoreset row, which holds the episode's last observation, so
  that the state's value there is known and nothing after it belongs to this episode.

What follows the last row lies outside of the sequence: it is cut, and each function says what it
makes of that. This holds where the episode happened to terminate there, too: to learn from those
alone would make ends look likelier than they are.
"""

from typing import NamedTuple

import torch


class Ends(NamedTuple):
    """Where episodes end."""

    terminated: torch.Tensor  # [L, S] bool
    truncated: torch.Tensor  # [L, S] bool

    @property
    def cut(self) -> torch.Tensor:
        """[L, S] bool: the last rows."""
        cut = torch.zeros_like(self.terminated)
        cut[-1] = True
        return cut


@torch.no_grad()
def reward_to_go(
    rewards: torch.Tensor, values: torch.Tensor, ends: Ends, *, discount: float
) -> torch.Tensor:
    """Return R_t = r_t + γ R_{t+1}, where r_t is what the *next* row of the episode gives.

    R_t = 0 where the episode terminated. Where it was truncated, and on cut rows, no next row
    gives anything, and R_t is the state's value: such a row says nothing, and rows before it go on
    from its value.

    Args:
        rewards: r; entries of rows without a next one are not read.
        values: V of each row's state.
        ends: where episodes end.
        discount: γ.
    """
    returns = torch.where(ends.terminated & ~ends.cut, 0.0, values)
    for t in range(len(returns) - 2, -1, -1):
        goes_on = ~(ends.terminated[t] | ends.truncated[t])
        returns[t] = torch.where(goes_on, rewards[t] + discount * returns[t + 1], returns[t])
    return returns


@torch.no_grad()
def gae(
    rewards: torch.Tensor, values: torch.Tensor, ends: Ends, *, discount: float, decay: float
) -> torch.Tensor:
    """Return generalised advantage estimates (Schulman et al. 2016, eq. 16); 0 on cut rows.

    Args:
        rewards: r, the environment's.
        values: V of each row's state.
        ends: where episodes end.
        discount: γ.
        decay: λ.
    """
    errors = _td_errors(rewards, values, ends, discount)
    ended = ends.terminated | ends.truncated
    for t in range(len(errors) - 2, -1, -1):
        errors[t] += torch.where(ended[t], 0.0, discount * decay * errors[t + 1])
    return errors


class VTrace(NamedTuple):
    """Targets of a critic and advantages of an actor."""

    targets: torch.Tensor
    advantages: torch.Tensor


@torch.no_grad()
def vtrace(
    rewards: torch.Tensor,
    values: torch.Tensor,
    log_ratios: torch.Tensor,
    ends: Ends,
    *,
    discount: float,
    clip: float,
) -> VTrace:
    """Return V-trace targets v and advantages ρ (r + γ v' − V) (Espeholt et al. 2018, eq. 1).

    On cut rows v = V and the advantage is 0.

    Args:
        rewards: r, the environment's.
        values: V of each row's state.
        log_ratios: log π(a) − log μ(a), μ being who acted.
        ends: where episodes end.
        discount: γ.
        clip: ρ̄ and c̄.
    """
    ratios = log_ratios.exp().clamp(max=clip)
    above = ratios * _td_errors(rewards, values, ends, discount)  # becomes v − V
    ended = ends.terminated | ends.truncated
    for t in range(len(above) - 2, -1, -1):
        above[t] += torch.where(ended[t], 0.0, discount * ratios[t] * above[t + 1])
    targets = values + above
    after = torch.zeros_like(values)
    after[:-1] = torch.where(ends.truncated[:-1], values[1:], targets[1:])
    after = torch.where(ends.terminated, 0.0, after)
    advantages = ratios * (rewards + discount * after - values)
    return VTrace(targets, torch.where(ends.cut, 0.0, advantages))


@torch.no_grad()
def n_step(
    rewards: torch.Tensor, values: torch.Tensor, ends: Ends, *, discount: float, num_steps: int
) -> torch.Tensor:
    """Return Σ_{k<m} γᵏ r_{t+k} + γᵐ V(s_{t+m}), the latter only where the episode goes on.

    m is `num_steps`, or fewer where the episode or the sequence ends before; on cut rows, where it
    is 0, the target is V.

    Args:
        rewards: r, the environment's.
        values: V of each row's state, for example of a target network.
        ends: where episodes end.
        discount: γ.
        num_steps: m at most.
    """
    targets = values
    for _ in range(num_steps):
        after = torch.zeros_like(values)
        after[:-1] = torch.where(ends.truncated[:-1], values[1:], targets[1:])
        after = torch.where(ends.terminated, 0.0, after)
        targets = torch.where(ends.cut, values, rewards + discount * after)
    return targets


def _td_errors(
    rewards: torch.Tensor, values: torch.Tensor, ends: Ends, discount: float
) -> torch.Tensor:
    """Return r + γ V' − V, 0 on cut rows."""
    after = torch.zeros_like(values)
    after[:-1] = values[1:]
    after = torch.where(ends.terminated, 0.0, after)
    return torch.where(ends.cut, 0.0, rewards + discount * after - values)
