"""The recipe's `[learner]` table."""

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from common.config import StrictModel
from common.networks.inputs import Layout
from learners.optimizers import OptimizerName


class LearnerConfig(StrictModel):
    """Gradient steps: how large, how fast, in which precision; and what is saved when."""

    num_ranks: int = Field(default=1, ge=1)
    """Processes that take every gradient step together, each with its share of shards, window
    and batch, and its own CPUs and GPU."""
    batch_size: int = Field(default=128, ge=1)
    """Samples of a gradient step, all ranks together."""
    sequence_length: int = Field(default=1, ge=1)
    """Rows of one env copy, one after the other, that are drawn together: more than 1 for terms
    that look along time and for networks with memory. It must divide `actors.unroll_length`."""
    burn_in: int = Field(default=0, ge=0)
    """Rows at the start of every sequence that only fill the memory of a student that has one,
    which is zeros before; nothing learns from them, and they are no samples."""
    micro_batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Samples of one forward and backward pass; gradients add up to a batch. auto: measured."""
    layout: Layout | Literal["auto"] = "auto"
    """How frames enter the student; auto: measured."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the student's forward and backward pass; auto: bfloat16 for frames where the CPU or GPU
    has it."""
    compile: bool = False
    """Compile the student with torch.compile, with CUDA graphs on a GPU (takes minutes at first,
    and a C++ compiler on a CPU)."""
    optimizer: OptimizerName = "adam"
    weight_decay: float = Field(default=0.0, ge=0)
    learning_rate: float = Field(default=5e-4, gt=0)
    learning_rate_scaling: Literal["none", "linear", "sqrt"] = "none"
    """How the rate, which is for `reference_batch_size`, grows with `batch_size` (Goyal et al.
    2017: linearly; Krizhevsky 2014: with the root)."""
    reference_batch_size: int = Field(default=128, ge=1)
    warmup_steps: int = Field(default=0, ge=0)
    """Gradient steps over which the rate rises from 0."""
    final_learning_rate_fraction: float = Field(default=0.1, ge=0, le=1)
    """The rate falls along a cosine to this fraction at the end of the run."""
    max_grad_norm: float | None = Field(default=None, gt=0)
    num_cpus: float = Field(default=0.5, gt=0)
    """CPUs that Ray reserves for each rank of the learner."""
    num_gpus: float = Field(default=0.0, ge=0)
    """GPUs that Ray reserves for each rank of the learner."""
    publish_interval_steps: int = Field(default=50, ge=1)
    """Gradient steps between two versions of the weights."""
    checkpoint_interval_s: float = Field(default=30.0, gt=0)
    checkpoints_kept: int = Field(default=2, ge=1)
    max_restarts: int = Field(default=3, ge=0)
    """Restarts of the learner before the run gives up."""
    max_bad_steps: int = Field(default=10, ge=1)
    """Steps with NaN or infinite gradients in a row (each is skipped) before the newest
    checkpoint is restored."""

    @model_validator(mode="after")
    def _equal_shares(self) -> "LearnerConfig":
        if self.batch_size % self.num_ranks:
            raise ValueError(
                f"batch_size = {self.batch_size} must be a multiple of num_ranks = "
                f"{self.num_ranks}: every rank takes an equal share of a step"
            )
        return self

    @model_validator(mode="after")
    def _whole_sequences(self) -> "LearnerConfig":
        if self.rank_batch_size % self.sequence_length:
            each = " for each rank" if self.num_ranks > 1 else ""
            raise ValueError(
                f"batch_size = {self.batch_size}: must be whole sequences of sequence_length = "
                f"{self.sequence_length} rows{each}"
            )
        if self.micro_batch_size != "auto" and self.micro_batch_size % self.sequence_length:
            raise ValueError(
                f"micro_batch_size = {self.micro_batch_size}: must be whole sequences of "
                f"sequence_length = {self.sequence_length} rows"
            )
        if self.burn_in >= self.sequence_length:
            raise ValueError(
                f"burn_in = {self.burn_in}: must leave some of a sequence's "
                f"sequence_length = {self.sequence_length} rows to learn from"
            )
        return self

    @property
    def rank_batch_size(self) -> int:
        """Samples of a gradient step on one rank."""
        return self.batch_size // self.num_ranks

    def rate(self, *, step: int, progress: float) -> float:
        """Return the learning rate of a gradient step.

        Args:
            step: gradient steps taken before it.
            progress: share of the run's transitions received, 0 to 1.
        """
        ratio = self.batch_size / self.reference_batch_size
        scale = {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[self.learning_rate_scaling]
        warmup = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        end = self.final_learning_rate_fraction
        cosine = end + (1 - end) * 0.5 * (1 + math.cos(math.pi * progress))
        return self.learning_rate * scale * warmup * cosine
