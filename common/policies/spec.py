"""What a policy is, apart from its weights: `PolicySpec`, the JSON beside every `.safetensors`."""

from typing import Any, Literal

from pydantic import Field, PositiveInt, model_validator

from common.config import StrictModel
from common.networks import AnyNetworkSpec
from common.networks.external import ExternalSpec

DistKind = Literal["logits", "q_values"]


class ObservationSpec(StrictModel):
    """What the policy sees of one environment copy."""

    shape: tuple[PositiveInt, ...]
    dtype: Literal["uint8", "float32"]
    scale: float = Field(default=1.0, gt=0)
    """The network sees scale times the observation (1/255 for frames)."""


class ActingSpec(StrictModel):
    """How an action is taken from the policy's outputs."""

    mode: Literal["greedy", "sample"] = "greedy"
    epsilon: float = Field(default=0.0, ge=0.0, le=1.0)


class PolicySpec(StrictModel):
    """Everything that is needed to run a policy, and where it comes from."""

    format: Literal["stillhouse/policy"] = "stillhouse/policy"
    version: Literal[1] = 1
    name: str
    network: AnyNetworkSpec
    observation: ObservationSpec
    num_actions: int = Field(ge=2)
    action_meanings: tuple[str, ...] | None = None
    dist: DistKind = "logits"
    """What the network's first output is: logits of a softmax, or one Q-value an action."""
    has_value: bool = False
    """Whether the network has a state-value head (Q-policies have values without one)."""
    acting: ActingSpec = ActingSpec()
    environment: dict[str, Any] = Field(default_factory=dict)
    """The environment and preprocessing that the policy was made for."""
    measured: dict[str, Any] = Field(default_factory=dict)
    provenance: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> "PolicySpec":
        meanings = self.action_meanings
        if meanings is not None and len(meanings) != self.num_actions:
            raise ValueError(
                f"action_meanings names {len(meanings)} actions: {len(meanings)} != num_actions "
                f"{self.num_actions}"
            )
        program = self.network if isinstance(self.network, ExternalSpec) else None
        if program is not None and self.has_value != (program.value is not None):
            raise ValueError(f"has_value = {self.has_value}, but network.value = {program.value!r}")
        return self
