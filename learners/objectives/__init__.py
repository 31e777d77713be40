"""What the learner minimises: a weighted sum of terms. A new term is one file and one line here.

The recipe names terms as tables: `[objective.kl]`, `temperature = 1.0`.
"""

from typing import NamedTuple

import torch
from pydantic import model_validator

from common.config import StrictModel
from common.networks import NetworkOutput
from common.policies.spec import DistKind
from learners.batch import DistillBatch
from learners.objectives.base import Term
from learners.objectives.kl import KL
from learners.objectives.q_mse import QMSE

__all__ = ["ObjectiveConfig", "ObjectiveValue", "Term"]


class ObjectiveValue(NamedTuple):
    """What an objective says of a batch."""

    loss: torch.Tensor
    """[] to minimise: mean over the batch of the sum of terms, by their weights and the batch's."""
    terms: dict[str, torch.Tensor]
    """[] each: mean of every term, without any weight."""
    losses: torch.Tensor
    """[B] sum of the terms by their weights, without the batch's."""


class ObjectiveConfig(StrictModel):
    """The recipe's `[objective]`: the terms to sum, by name."""

    kl: KL | None = None
    q_mse: QMSE | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> "ObjectiveConfig":
        if not self.terms():
            raise ValueError(
                f"no term is named; give one of {', '.join(type(self).model_fields)}, for "
                f"example [objective.kl]"
            )
        return self

    def terms(self) -> dict[str, Term]:
        """Return the terms that the recipe names."""
        named = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: term for name, term in named.items() if term is not None}

    def student_dist(self) -> DistKind:
        """Return what the student's first output means under these terms."""
        return "q_values" if self.q_mse is not None else "logits"

    def with_temperature(self, temperature: float) -> "ObjectiveConfig":
        """Return the same with a number in the place of `temperature = "auto"`."""
        if self.kl is None or self.kl.temperature != "auto":
            return self
        kl = self.kl.model_copy(update={"temperature": temperature})
        return self.model_copy(update={"kl": kl})

    def __call__(self, batch: DistillBatch, output: NetworkOutput) -> ObjectiveValue:
        """Compute loss, terms and the samples' losses; only the loss has a gradient."""
        terms = self.terms()
        each = {name: term(batch, output) for name, term in terms.items()}
        means = {name: batch.mean(losses) for name, losses in each.items()}
        minimised = means
        if batch.weights is not None:
            weights = batch.weights
            minimised = {name: batch.mean(weights * losses) for name, losses in each.items()}
        weighted = [terms[name].weight * mean for name, mean in minimised.items()]
        total = sum(terms[name].weight * losses.detach() for name, losses in each.items())
        assert isinstance(total, torch.Tensor)
        return ObjectiveValue(
            loss=torch.stack(weighted).sum(),
            terms={name: mean.detach() for name, mean in means.items()},
            losses=total,
        )
