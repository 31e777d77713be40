"""Actions that are vectors of D numbers within bounds (Gymnasium's Box), and their units.

Policies, chunks and the learner speak of such actions in units: −1 is the lower bound of an entry,
1 the upper. Only what hands an action to the outside (an environment, an exported file) turns it
into the Box's own numbers, and clips it then, as Stable-Baselines3 does; a Gaussian's draw is kept
as it was drawn, so that its density is known.
"""

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from common.config import StrictModel

FloatArray = npt.NDArray[np.float32]


class BoxActions(StrictModel):
    """Bounds of every entry of an action."""

    low: tuple[float, ...] = Field(min_length=1)
    high: tuple[float, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _ordered(self) -> "BoxActions":
        if len(self.low) != len(self.high):
            raise ValueError(f"{len(self.low)} lower bounds and {len(self.high)} upper ones")
        for low, high in zip(self.low, self.high, strict=True):
            if low >= high:
                raise ValueError(f"bounds {low:g} to {high:g}: they must be in order")
        return self

    def __str__(self) -> str:
        bounds = (f"{low:g} to {high:g}" for low, high in zip(self.low, self.high, strict=True))
        return f"vectors of {self.size} within {', '.join(dict.fromkeys(bounds))}"

    @property
    def size(self) -> int:
        """D."""
        return len(self.low)

    @property
    def center(self) -> FloatArray:
        """[D] action of 0 units."""
        center: FloatArray = (np.add(self.low, self.high) / 2).astype(np.float32)
        return center

    @property
    def half_range(self) -> FloatArray:
        """[D] size of a unit."""
        half: FloatArray = (np.subtract(self.high, self.low) / 2).astype(np.float32)
        return half

    def from_units(self, actions: FloatArray) -> FloatArray:
        """Return actions [B, D] in the Box's own numbers, clipped to its bounds."""
        inside: FloatArray = self.center + self.half_range * np.clip(actions, -1.0, 1.0)
        return inside
