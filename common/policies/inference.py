"""Running a policy: batches of observations in, NumPy arrays out.

Frames are cast to the compute type in their own layout (casting them to channels-last costs more
than the convolutions gain), and the observation's scale is folded into the first layer, so that
bytes 0 to 255 enter a bfloat16 network exactly.
"""

import copy
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from common.policies.policy import Policy
from common.policies.spec import DistKind

Precision = Literal["float32", "bfloat16"]
CPU = torch.device("cpu")
_DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class PolicyOutputs(NamedTuple):
    """What a policy says about B observations."""

    dist_inputs: npt.NDArray[np.float32]
    """[B, A] logits or Q-values."""
    value: npt.NDArray[np.float32] | None
    """[B] where the policy has a value head."""


class InferencePolicy:
    """A copy of a policy for acting, in the precision and on the device asked for."""

    def __init__(
        self, policy: Policy, *, precision: Precision = "float32", device: torch.device = CPU
    ) -> None:
        self.spec = policy.spec
        self._device = device
        self._dtype = _DTYPES[precision]
        self._network = copy.deepcopy(policy.network).eval().requires_grad_(False)
        self.load(policy.network.state_dict())

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take over new weights (float32, as they are published)."""
        network = self._network.to(CPU, torch.float32)
        network.load_state_dict(state)
        with torch.no_grad():
            for layer in network.first_layers():
                assert isinstance(layer.weight, torch.Tensor)
                layer.weight.mul_(self.spec.observation.scale)
        network.to(self._device, self._dtype)

    @torch.inference_mode()
    def __call__(self, observations: npt.NDArray[np.uint8 | np.float32]) -> PolicyOutputs:
        """Return the outputs for observations [B, *shape]."""
        # Bytes travel to a GPU as bytes and are cast there.
        inputs = torch.from_numpy(observations).to(self._device).to(self._dtype)
        output = self._network(inputs)
        value = None if output.value is None else output.value.float().cpu().numpy()
        return PolicyOutputs(output.dist_inputs.float().cpu().numpy(), value)


def hardware_has_bfloat16() -> bool:
    """Whether this CPU computes in bfloat16 natively."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def log_probabilities(
    dist_inputs: npt.NDArray[np.float32], dist: DistKind, *, epsilon: float, mode: str
) -> npt.NDArray[np.float32]:
    """Return log-probabilities [B, A] of each action under ε-greedy or ε-sampled acting.

    Args:
        dist_inputs: [B, A] logits or Q-values.
        dist: which of the two; Q-values are only ever acted on greedily.
        epsilon: share of uniformly random actions.
        mode: "greedy" or "sample".
    """
    num_actions = dist_inputs.shape[-1]
    if mode == "sample" and dist == "logits":
        shifted = np.exp(dist_inputs - dist_inputs.max(-1, keepdims=True))
        probabilities = shifted / shifted.sum(-1, keepdims=True)
    else:
        probabilities = np.zeros_like(dist_inputs)
        np.put_along_axis(probabilities, dist_inputs.argmax(-1)[:, None], 1.0, axis=-1)
    mixed = (1.0 - epsilon) * probabilities + epsilon / num_actions
    with np.errstate(divide="ignore"):
        logs: npt.NDArray[np.float32] = np.log(mixed).astype(np.float32)
    return logs
