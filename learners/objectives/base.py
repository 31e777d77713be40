"""What every term of an objective is.

Notation: p = teacher's action distribution, π = student's, τ = temperature.
"""

from abc import abstractmethod

import torch
from pydantic import Field

from common.config import StrictModel
from common.networks import NetworkOutput
from learners.batch import DistillBatch


class Term(StrictModel):
    """Hyperparameters of a term; calling it computes the loss of every sample."""

    weight: float = Field(default=1.0, ge=0)
    """Factor in the objective's sum."""

    @abstractmethod
    def __call__(self, batch: DistillBatch, output: NetworkOutput) -> torch.Tensor:
        """Return losses [B] of the student's float32 outputs on a batch."""
