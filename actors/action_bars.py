"""What a policy says of its actions, as bars: for people who watch it play.

| outputs    | a bar is                                                                          |
|------------|-----------------------------------------------------------------------------------|
| logits     | an action's probability, from 0 to 1                                              |
| Q-values   | 1 for the best action, 0 for one that is as far below the best as any was so far  |
| of a Box   | the mean of an entry of the action, from the middle of its bounds                 |
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from common.policies.actions import Actions, mean_actions
from common.policies.spec import PolicySpec

MAX_BARS = 18
"""Atari's largest number of actions; of more, the likeliest are shown."""

PROBABILITIES = "action probabilities"


class Bar(NamedTuple):
    """An action, or an entry of an action within a Box."""

    name: str
    start: float
    """Where it starts, as a share of the width that bars have."""
    end: float
    label: str
    """Its number."""
    is_taken: bool
    """Whether it is the action that the policy takes."""


class ActionBars:
    """Makes bars of the outputs of one policy.

    Args:
        spec: what the policy is.
        meanings: what its actions are called; numbers where nobody says.
    """

    def __init__(self, spec: PolicySpec, meanings: tuple[str, ...] | None) -> None:
        self._spec = spec
        count = spec.num_actions if spec.action_box is None else spec.action_box.size
        assert count is not None
        self.names = meanings or tuple(str(number) for number in range(count))
        self.num_bars = min(count, MAX_BARS)
        self._widest_gap = 0.0

    @property
    def caption(self) -> str:
        """What the bars are."""
        if self._spec.action_box is not None:
            return "mean action"
        return "Q-values" if self._spec.dist == "q_values" else PROBABILITIES

    @property
    def widest(self) -> str:
        """The widest label that a bar may have."""
        return "100%" if self.caption == PROBABILITIES else "-0.00000"

    def __call__(self, dist_inputs: npt.NDArray[np.float32], actions: Actions) -> tuple[Bar, ...]:
        """Return the bars of one state.

        Args:
            dist_inputs: [1, width] of the policy.
            actions: [1] or [1, D] that it takes.
        """
        if self._spec.action_box is not None:
            return self._of_box(dist_inputs)
        outputs = dist_inputs[0].astype(np.float64)
        below = outputs - outputs.max()
        if self._spec.dist == "q_values":
            self._widest_gap = max(self._widest_gap, float(-below.min()))
            shares = 1.0 + below / self._widest_gap if self._widest_gap else np.ones_like(below)
            labels = [f"{value:.3g}" for value in outputs]
        else:
            weights = np.exp(below)
            shares = weights / weights.sum()
            labels = [f"{share:.0%}" for share in shares]
        likeliest = np.sort(np.argsort(-shares, kind="stable")[: self.num_bars])
        return tuple(
            Bar(self.names[i], 0.0, float(shares[i]), labels[i], i == int(actions[0]))
            for i in map(int, likeliest)
        )

    def _of_box(self, dist_inputs: npt.NDArray[np.float32]) -> tuple[Bar, ...]:
        box = self._spec.action_box
        assert box is not None
        units = mean_actions(self._spec.dist, dist_inputs)
        places = (0.5 + units[0] / 2).tolist()
        entries = zip(self.names, places, box.from_units(units)[0].tolist(), strict=True)
        bars = [
            Bar(name, min(0.5, place), max(0.5, place), f"{value:.2f}", True)
            for name, place, value in entries
        ]
        return tuple(bars[: self.num_bars])
