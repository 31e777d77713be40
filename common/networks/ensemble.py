"""Several networks that answer as one: teachers of one task, combined.

State names are those of the members behind `members.0.`, `members.1.` and so on.
"""

import math
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from common.config import StrictModel
from common.networks.base import NetworkOutput, PolicyNetwork
from common.networks.mlp import MLP, MLPSpec
from common.networks.nature_cnn import NatureCNN, NatureCNNSpec

Combine = Literal["mean", "product"]
"""Of K members' distributions p_k over the same actions:

| combine   | of probabilities                    | of Q-values |
|-----------|-------------------------------------|-------------|
| `mean`    | p = Σ p_k / K                       | their mean  |
| `product` | p ∝ Π p_k                           | refused     |
"""
MemberSpec = Annotated[NatureCNNSpec | MLPSpec, Field(discriminator="name")]
MEMBERS: dict[str, type[PolicyNetwork]] = {"nature_cnn": NatureCNN, "mlp": MLP}


class EnsembleSpec(StrictModel):
    """The members' architectures, and how their answers become one."""

    name: Literal["ensemble"] = "ensemble"
    members: tuple[MemberSpec, ...] = Field(min_length=2)
    says: Literal["logits", "q_values"]
    """What the members' first outputs are."""
    combine: Combine

    @model_validator(mode="after")
    def _can_be_combined(self) -> "EnsembleSpec":
        if self.combine == "product" and self.says == "q_values":
            raise ValueError("combine = 'product' is for probabilities; Q-values take 'mean'")
        return self


class Ensemble(PolicyNetwork):
    """Observations → all members → log-probabilities or Q-values of all together, mean value."""

    def build(self) -> None:
        """Make the members."""
        spec: EnsembleSpec = self.spec
        self._says, self._combine = spec.says, spec.combine
        self.members = nn.ModuleList(
            MEMBERS[member.name](
                member,
                observation_shape=self.observation_shape,
                num_actions=self.num_actions,
                has_value=self.has_value,
            )
            for member in spec.members
        )

    def forward(self, observation: torch.Tensor, *, input_scale: float = 1.0) -> NetworkOutput:
        """Ask all members about observations [B, *shape], times `input_scale`."""
        outputs = [member(observation, input_scale=input_scale) for member in self.members]
        values = [output.value.float() for output in outputs if output.value is not None]
        return NetworkOutput(
            self._combined(torch.stack([output.dist_inputs.float() for output in outputs])),
            torch.stack(values).mean(0) if values else None,
        )

    def first_layers(self) -> list[nn.Module]:
        """Return those of all members."""
        return [layer for member in self._networks() for layer in member.first_layers()]

    @property
    def num_features(self) -> int:
        """None: the members have features of their own (`objective.feature` refuses it)."""
        return 0

    @property
    def block(self) -> int | None:
        """Side of the squares that all members can take, or None."""
        blocks = {member.block for member in self._networks()}
        return blocks.pop() if len(blocks) == 1 else None

    def set_precision(self, dtype: torch.dtype) -> None:
        """Let the members compute in `dtype`; what they say is put together in float32."""
        for member in self._networks():
            member.set_precision(dtype)

    def _combined(self, each: torch.Tensor) -> torch.Tensor:
        """Return what members' outputs [K, B, A] are together, [B, A]."""
        if self._says == "q_values":
            return each.mean(0)
        logs = each.log_softmax(-1)
        if self._combine == "mean":
            return logs.logsumexp(0) - math.log(len(logs))
        return logs.sum(0).log_softmax(-1)

    def _networks(self) -> list[Any]:
        return list(self.members)
