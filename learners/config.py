"""The recipe's `[learner]` table."""

from typing import Literal

from pydantic import Field

from common.config import StrictModel


class LearnerConfig(StrictModel):
    """Gradient steps: how large, how fast, in which precision; and what is saved when."""

    batch_size: int = Field(default=128, ge=1)
    micro_batch_size: int = Field(default=128, ge=1)
    """Samples of one forward and backward pass; gradients add up to a batch."""
    learning_rate: float = Field(default=5e-4, gt=0)
    final_learning_rate_fraction: float = Field(default=0.1, ge=0, le=1)
    """The rate falls along a cosine to this fraction at the end of the run."""
    max_grad_norm: float | None = Field(default=None, gt=0)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the student's forward and backward pass; auto: bfloat16 for frames where the CPU or GPU
    has it."""
    num_cpus: float = Field(default=0.5, gt=0)
    """CPUs that Ray reserves for the learner."""
    num_gpus: float = Field(default=0.0, ge=0)
    """GPUs that Ray reserves for the learner."""
    publish_interval_steps: int = Field(default=50, ge=1)
    """Gradient steps between two versions of the weights."""
    checkpoint_interval_s: float = Field(default=60.0, gt=0)
    checkpoints_kept: int = Field(default=2, ge=1)
    max_restarts: int = Field(default=3, ge=0)
    """Restarts of the learner before the run gives up."""
    max_bad_steps: int = Field(default=10, ge=1)
    """Steps with NaN or infinite gradients in a row (each is skipped) before the newest
    checkpoint is restored."""
