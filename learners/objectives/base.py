"""What every term of an objective is.

Notation: p = teacher's action distribution, π = student's, τ = temperature.
"""

from abc import abstractmethod
from typing import ClassVar

import torch
from pydantic import Field

from common.config import StrictModel
from common.networks import NetworkOutput
from common.policies.spec import DistKind
from learners.batch import DistillBatch


class Term(StrictModel):
    """Hyperparameters of a term; calling it computes the loss of every sample."""

    teachers: ClassVar[tuple[DistKind, ...]] = ("logits", "q_values")
    """Kinds of teachers that the term can learn from."""

    weight: float = Field(default=1.0, ge=0)
    """Factor in the objective's sum."""

    @abstractmethod
    def __call__(self, batch: DistillBatch, output: NetworkOutput) -> torch.Tensor:
        """Return losses [B] of the student's float32 outputs on a batch."""
