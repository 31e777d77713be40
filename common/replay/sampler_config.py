"""The recipe's `[replay.sampler]` table: how the learner chooses rows of its window.

`learners.samplers` does what these settings say; a new sampler is one file and one line there, and
one class here.
"""

from typing import Annotated, Literal

from pydantic import Field

from common.config import StrictModel


class Uniform(StrictModel):
    """Every row with the same probability."""

    name: Literal["uniform"] = "uniform"


class Prioritized(StrictModel):
    """Rows with a large loss more often (Schaul et al. 2016, proportional variant)."""

    name: Literal["prioritized"] = "prioritized"
    alpha: float = Field(default=0.6, ge=0)
    """A row's probability grows with (loss + epsilon)^alpha; 0 is uniform."""
    beta: float = Field(default=0.4, ge=0)
    """Of the importance weights (1 / (N·p))^beta; 1 takes the bias of the draws out again."""
    epsilon: float = Field(default=1e-3, gt=0)
    """Added to every loss, so that a row without any is still drawn."""


class FreshFirst(StrictModel):
    """Rows that were never drawn before, newest chunk first; uniformly where there are none."""

    name: Literal["fresh_first"] = "fresh_first"


SamplerConfig = Annotated[Uniform | Prioritized | FreshFirst, Field(discriminator="name")]

UNIFORM = Uniform()
"""What a recipe gets that names none."""
