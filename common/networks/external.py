"""A network that is a program of its own runtime: asked, never looked into or trained.

Its only state is the file's bytes, so it is saved and travels like weights do. It is opened where
it is first asked, and computes in float32 on the CPU, whatever surrounds it.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field, PositiveInt
from torch import nn
from torch.nn import functional as F

from common.config import StrictModel
from common.networks.base import NetworkOutput, PolicyNetwork
from common.networks.inputs import Layout, Precision
from common.programs import Program, Runtime, open_program


class ExternalSpec(StrictModel):
    """What is needed to ask a program."""

    name: Literal["external"] = "external"
    runtime: Runtime
    num_bytes: PositiveInt
    """Of its file."""
    num_parameters: int = Field(ge=0)
    """Weights and biases, as far as its file tells."""
    dist_inputs: str
    """Name of the output [B, A] with logits or Q-values."""
    value: str | None = None
    """Name of the output [B] or [B, 1] with state values."""
    input_dtype: Literal["uint8", "float32"] = "float32"
    batch_size: PositiveInt | None = None
    """The number of observations that it takes at once; None: any number."""


class ExternalNetwork(PolicyNetwork):
    """Observations [B, *shape] → program → outputs."""

    program: torch.Tensor
    """[num_bytes] the file, byte by byte."""

    def build(self) -> None:
        """Make room for the program."""
        spec: ExternalSpec = self.spec
        self.register_buffer("program", torch.zeros(spec.num_bytes, dtype=torch.uint8))
        self._scale = 1.0
        self._opened: Program | None = None

    def forward(self, observation: torch.Tensor, *, input_scale: float = 1.0) -> NetworkOutput:
        """Ask the program about observations [B, *shape], times `input_scale`.

        Raises:
            PolicyFileError: the program cannot be opened.
        """
        program = self._open()
        scale = self._scale * input_scale
        scaled = observation if scale == 1.0 else observation * scale
        given = scaled.to("cpu", getattr(torch, self.spec.input_dtype)).contiguous()
        size = self.spec.batch_size or max(1, len(given))
        parts = [self._ask(program, part, size) for part in torch.split(given, size)]
        values = [part.value for part in parts if part.value is not None]
        return NetworkOutput(
            torch.cat([part.dist_inputs for part in parts]).to(observation.device),
            torch.cat(values).to(observation.device) if values else None,
        )

    @property
    def num_parameters(self) -> int:
        """Weights and biases of the program."""
        count: int = self.spec.num_parameters
        return count

    @property
    def num_features(self) -> int:
        """None: a program shows its outputs only (`objective.feature` refuses it)."""
        return 0

    def first_layers(self) -> list[nn.Module]:
        """Return none: nothing can be folded into a program."""
        return []

    def fold_scale(self, scale: float) -> None:
        """Scale the observations on their way into the program."""
        self._scale = scale

    def layouts(self) -> tuple[Layout, ...]:
        """Return that frames come as they are."""
        return ("contiguous",)

    def precisions(self) -> tuple[Precision, ...]:
        """Return that a program computes as it was written."""
        return ("float32",)

    def set_precision(self, dtype: torch.dtype) -> None:
        """Do nothing: a program computes as it was written."""

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Take another program over; it is opened when it is asked."""
        self._opened = None
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    def __deepcopy__(self, memo: dict[int, Any]) -> "ExternalNetwork":
        """Return a network with the same program, not opened: runtimes cannot be copied."""
        copy = ExternalNetwork(
            self.spec,
            observation_shape=self.observation_shape,
            num_actions=self.num_actions,
            has_value=self.has_value,
        )
        copy.load_state_dict(self.state_dict())
        copy.fold_scale(self._scale)
        copy.normalizer = self.normalizer
        return copy.train(self.training)

    def _open(self) -> Program:
        if self._opened is None:
            content = self.program.cpu().numpy().tobytes()
            self._opened = open_program(self.spec.runtime, content, source="program")
        return self._opened

    def _ask(self, program: Program, observations: torch.Tensor, size: int) -> NetworkOutput:
        """Ask about at most `size` observations; a program of a fixed size gets it filled up."""
        count = len(observations)
        if self.spec.batch_size is not None and count < size:
            fill = [0, 0] * (observations.dim() - 1) + [0, size - count]
            observations = F.pad(observations, fill)
        outputs = program(observations)
        value = None
        if self.spec.value is not None:
            value = outputs[self.spec.value].float().flatten()[:count]
        return NetworkOutput(outputs[self.spec.dist_inputs].float()[:count], value)
