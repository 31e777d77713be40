"""The recipe's `[actors.inference]` table: where the teacher computes.

Only the teacher moves. The student is small by definition and changes with every version of its
weights, so it always computes in the env runner.
"""

from typing import Annotated, Literal

from pydantic import Field

from common.config import StrictModel


class RunnerPlacement(StrictModel):
    """Every env runner computes its own copy of the teacher."""

    placement: Literal["runner"] = "runner"


class SharedPlacement(StrictModel):
    """Actors of their own compute the teacher, each for several env runners at once."""

    placement: Literal["shared"] = "shared"
    num_actors: int = Field(default=1, ge=1)
    """Copies of the teacher; the env runners are shared out among them."""
    num_cpus: float = Field(default=0.1, gt=0)
    """CPUs that Ray reserves for each; as many whole ones compute, at least one. Few by default:
    on a small machine it works while env runners wait for it, and they no longer do its work."""
    num_gpus: float = Field(default=0.0, ge=0, le=1)
    """GPUs that Ray reserves for each; above 0 the teacher computes there."""
    max_batch_size: int = Field(default=128, ge=1)
    """Observations in one forward pass."""
    max_wait_ms: float = Field(default=2.0, ge=0)
    """How long a question waits for those of other env runners, in milliseconds."""


class AtSamplingPlacement(StrictModel):
    """Chunks travel without labels, and the learner labels them as it takes them in."""

    placement: Literal["at_sampling"] = "at_sampling"
    micro_batch_size: int = Field(default=128, ge=1)
    """Observations in one forward pass."""


InferenceConfig = Annotated[
    RunnerPlacement | SharedPlacement | AtSamplingPlacement, Field(discriminator="placement")
]
