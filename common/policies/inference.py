"""Running a policy: batches of observations in, NumPy arrays out.

The observation's scale is folded into the first layer, so that bytes 0 to 255 enter a network of 16
bits exactly; heads stay in float32. In which type and layout a policy runs fastest, and whether it
then still takes the same actions, is measured by `common.policies.compute`.
"""

import copy
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from common.networks import NetworkOutput
from common.networks.inputs import DTYPES, Layout, Precision, cast_frames, cut_stacks
from common.policies.policy import Policy
from common.policies.tasks import policy_of_task, state_of_task

Observations = npt.NDArray[np.uint8 | np.float32]
"""[B, *shape], as the policy's specification says."""
CPU = torch.device("cpu")


class PolicyOutputs(NamedTuple):
    """What a policy says about B observations."""

    dist_inputs: npt.NDArray[np.float32]
    """[B, A] as the policy's `dist` says."""
    value: npt.NDArray[np.float32] | None
    """[B] where the policy has a value head."""
    version: int = 0
    """Of the policy that said so, where newer ones replace it (`common.policies.refreshable`)."""


class InputForm(NamedTuple):
    """What a network takes."""

    dtype: torch.dtype
    layout: Layout
    block: int | None
    """Side of the squares, for blocks."""
    device: torch.device

    def cast(self, observations: Observations) -> torch.Tensor:
        """Return the network's input for observations [B, *shape]."""
        if observations.dtype != np.uint8:
            return torch.from_numpy(observations).to(self.device, self.dtype)
        frames: npt.NDArray[np.uint8] = observations.view(np.uint8)
        if self.block is not None:
            frames = cut_stacks(frames, self.block)
        # Bytes travel to a GPU as bytes and are cast there.
        return cast_frames(torch.from_numpy(frames).to(self.device), self.dtype, self.layout)


class Inputs:
    """Casts observations for the policies that share it; the array of the last call only once.

    For an env runner, whose teacher and student look at the same arrays and nobody writes to them.

    Args:
        form: of the networks' inputs.
    """

    def __init__(self, form: "InputForm") -> None:
        self.form = form
        self._last: tuple[Observations, torch.Tensor] | None = None

    def __call__(self, observations: Observations) -> torch.Tensor:
        """Return the network's input for observations [B, *shape]."""
        if self._last is None or self._last[0] is not observations:
            self._last = observations, self.form.cast(observations)
        return self._last[1]


class InferencePolicy:
    """A copy of a policy for acting.

    Args:
        policy: the policy; it is left as it was.
        precision: what to compute in.
        layout: how frames enter the network; one of `policy.network.layouts()`.
        refine_below: rows whose two largest outputs lie closer than this are computed again in
            float32: rounding must not decide between actions that are nearly equal.
        device: where to compute.
        inputs: shared with a policy that sees the same arrays; used where both want the same form.
        task: which head to act with, of a policy of several tasks.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        precision: Precision = "float32",
        layout: Layout = "contiguous",
        refine_below: float = 0.0,
        device: torch.device = CPU,
        inputs: Inputs | None = None,
        task: str | None = None,
    ) -> None:
        self._whole, self._task = policy.spec, task
        weights = policy.network.state_dict()
        if task is not None:
            policy = policy_of_task(policy, task)
        self.spec = policy.spec
        self._dtype = DTYPES[precision]
        self._device = device
        self._network = copy.deepcopy(policy.network).eval().requires_grad_(False)
        self._network.set_layout(layout)
        self._form = InputForm(
            dtype=self._dtype,
            layout=layout,
            block=self._network.block if layout == "blocks" else None,
            device=device,
        )
        self._inputs = inputs if inputs is not None and inputs.form == self._form else None
        # Between actions of a Box nothing is decided by rounding.
        refine_below = refine_below if policy.spec.action_box is None else 0.0
        self._refine_below = refine_below
        self._exact = InferencePolicy(policy, device=device) if refine_below > 0 else None
        self.load(weights)

    def shared_inputs(self) -> Inputs:
        """Return what policies that see the same arrays can share with this one."""
        if self._inputs is None:
            self._inputs = Inputs(self._form)
        return self._inputs

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take over new weights (float32, as they are published, with the heads of all tasks)."""
        if self._task is not None:
            state = state_of_task(self._whole, state, self._task)
        network = self._network.to(CPU, torch.float32)
        network.load_state_dict(state)
        network.fold_scale(self.spec.observation.scale)
        network.set_precision(self._dtype)
        network.to(self._device)
        if self._exact is not None:
            self._exact.load(state)

    @property
    def memory_shape(self) -> tuple[int, ...] | None:
        """Shape of what the policy remembers of an env copy, or None."""
        return self._network.memory_shape

    @torch.inference_mode()
    def remember(
        self, observations: Observations, memory: npt.NDArray[np.float32]
    ) -> tuple[PolicyOutputs, npt.NDArray[np.float32]]:
        """Return outputs and new memory of a policy that has one.

        Args:
            observations: [B, *shape], one of each of B env copies.
            memory: [B, *memory_shape] of these copies; zeros where an episode starts.
        """
        remembered = torch.from_numpy(memory).to(self._device)
        output = self._network(self._form.cast(observations), memory=remembered)
        assert output.memory is not None
        return _as_arrays(output), output.memory.cpu().numpy()

    @torch.inference_mode()
    def __call__(self, observations: Observations) -> PolicyOutputs:
        """Return the outputs for observations [B, *shape], each the first of an episode to a policy
        with a memory."""
        if self._inputs is not None:
            output = self._network(self._inputs(observations))
        else:
            output = self._network(self._form.cast(observations))
        outputs = _as_arrays(output)
        if self._exact is not None:
            self._refine(outputs, observations, self._exact)
        return outputs

    def _refine(
        self, outputs: PolicyOutputs, observations: Observations, exact: "InferencePolicy"
    ) -> None:
        """Replace rows whose greedy action is in doubt."""
        close = np.flatnonzero(lead_of_the_best(outputs.dist_inputs) < self._refine_below)
        if close.size:
            better = exact(observations[close])
            outputs.dist_inputs[close] = better.dist_inputs
            if outputs.value is not None and better.value is not None:
                outputs.value[close] = better.value


def _as_arrays(output: NetworkOutput) -> PolicyOutputs:
    value = None if output.value is None else output.value.float().cpu().numpy()
    return PolicyOutputs(output.dist_inputs.float().cpu().numpy(), value)


def lead_of_the_best(dist_inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return by how much the largest output of each row [B, A] exceeds the second, [B]."""
    largest = np.partition(dist_inputs, -2, axis=-1)
    lead: npt.NDArray[np.float32] = largest[:, -1] - largest[:, -2]
    return lead


def hardware_has_bfloat16() -> bool:
    """Whether this CPU computes in bfloat16 natively."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
