"""A network with a memory: torso, LSTM cell (Hochreiter & Schmidhuber 1997), heads.

State names are `torso.…` (those of the torso's own architecture, without its heads), `core.…`,
`head` and, with a value head, `value`. The memory of an env copy is [2, H]: what the cell says and
what it keeps. It is zeros where an episode starts.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import nn
from torch.nn import functional as F

from common.config import StrictModel
from common.networks.base import NetworkOutput, PolicyNetwork, Steps, apply_head
from common.networks.impala_cnn import ImpalaCNN, ImpalaCNNSpec
from common.networks.inputs import Layout
from common.networks.mlp import MLP, MLPSpec
from common.networks.nature_cnn import NatureCNN, NatureCNNSpec

TORSOS: dict[str, type[NatureCNN | ImpalaCNN | MLP]] = {
    "nature_cnn": NatureCNN,
    "impala_cnn": ImpalaCNN,
    "mlp": MLP,
}


class LSTMSpec(StrictModel):
    """The torso, and the width of the memory."""

    name: Literal["lstm"] = "lstm"
    torso: Annotated[NatureCNNSpec | ImpalaCNNSpec | MLPSpec, Field(discriminator="name")] = (
        MLPSpec()
    )
    hidden: int = Field(default=128, gt=0)
    """H."""

    @model_validator(mode="after")
    def _torso_without_heads(self) -> "LSTMSpec":
        if isinstance(self.torso, MLPSpec) and (self.torso.gsde or self.torso.value_hidden):
            raise ValueError("torso.gsde and torso.value_hidden are of heads; a torso has none")
        return self


class LSTM(PolicyNetwork):
    """Observations → torso → LSTM cell → head, value."""

    def build(self) -> None:
        """Make the layers."""
        spec: LSTMSpec = self.spec
        # With a head that nobody needs.
        torso = TORSOS[spec.torso.name](
            spec.torso, observation_shape=self.observation_shape, num_actions=1, has_value=False
        )
        width = torso.num_features
        torso.drop_heads()
        self.torso = torso
        self.core = nn.LSTMCell(width, spec.hidden)
        self.head = nn.Linear(spec.hidden, self.num_actions)
        self.value = nn.Linear(spec.hidden, 1) if self.has_value else None

    @property
    def memory_shape(self) -> tuple[int, int] | None:
        """(2, H)."""
        return 2, self.spec.hidden

    def forward(
        self,
        observation: torch.Tensor,
        *,
        input_scale: float = 1.0,
        memory: torch.Tensor | None = None,
        steps: Steps | None = None,
    ) -> NetworkOutput:
        """Map one observation of every env copy, or sequences of them, to outputs and memory."""
        features = self.torso.features(observation, input_scale=input_scale)
        width = self.spec.hidden
        num_steps = 1 if steps is None else steps.num_steps
        num_copies = features.shape[0] // num_steps
        if memory is None:
            memory = torch.zeros(num_copies, 2, width, device=features.device)
        said, kept = memory.unbind(1)
        core = self.core
        drive = F.linear(features.to(core.weight_ih.dtype), core.weight_ih, core.bias_ih)
        drive = drive.view(num_steps, num_copies, 4 * width)
        spoken = []
        for t in range(num_steps):
            if steps is not None:
                keeps = ~steps.starts[t].unsqueeze(-1)
                said, kept = said * keeps, kept * keeps
                if t == steps.burn_in:
                    said, kept = said.detach(), kept.detach()
            recurrent = F.linear(said.to(core.weight_hh.dtype), core.weight_hh, core.bias_hh)
            gates = (drive[t] + recurrent).float()
            enter, forget, candidate, leave = gates.chunk(4, dim=1)
            kept = forget.sigmoid() * kept + enter.sigmoid() * candidate.tanh()
            said = leave.sigmoid() * kept.tanh()
            spoken.append(said)
        hidden = spoken[0] if num_steps == 1 else torch.cat(spoken)
        value = apply_head(self.value, hidden).squeeze(-1) if self.value is not None else None
        after = torch.stack([said, kept], dim=1)
        return NetworkOutput(apply_head(self.head, hidden), value, hidden, after)

    def first_layers(self) -> list[nn.Module]:
        """Return the torso's."""
        return self.torso.first_layers()

    @property
    def num_features(self) -> int:
        """H."""
        return self.head.in_features

    @property
    def block(self) -> int | None:
        """The torso's."""
        return self.torso.block

    def layouts(self) -> tuple[Layout, ...]:
        """Return the torso's."""
        return self.torso.layouts()

    def set_precision(self, dtype: torch.dtype) -> None:
        """Compute the torso in `dtype`, in place; rounding would pile up in a memory."""
        self.to(torch.float32)
        self.torso.to(dtype)

    def initialise(self) -> None:
        """Draw fresh weights: a cell that keeps what it has, from square orthogonal parts."""
        super().initialise()
        width = self.spec.hidden
        for weight in (self.core.weight_ih, self.core.weight_hh):
            for part in weight.detach().chunk(4):
                nn.init.orthogonal_(part)
        for bias in (self.core.bias_ih, self.core.bias_hh):
            nn.init.zeros_(bias)
        with torch.no_grad():
            self.core.bias_ih[width : 2 * width] = 1.0  # of the forget gate
