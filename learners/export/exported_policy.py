"""What an exported program computes, whatever runs it.

It takes what the environment gives, raw observations in the dtype of the spec, so that whoever
deploys it cannot get the scaling wrong:

    observation [batch, *shape] → dist_inputs [batch, A] float32, action [batch] int64 (greedy),
                                  value [batch] float32 where the policy has one

Actions of a Box are [batch, D] float32, the policy's mean in the Box's own numbers, within its
bounds.

A policy with a memory takes memory [batch, *memory_shape] float32 too, zeros where an episode
starts, and gives next_memory, which goes in with the next observation.
"""

import copy
from typing import Any

import torch
from torch import nn

from common.errors import MismatchError
from common.networks import NetworkOutput
from common.networks.external import ExternalNetwork
from common.policies.policy import Policy
from common.programs import PROGRAMS
from learners.gaussian import taken_actions

BATCH_AXIS = "batch"
"""The axis of all inputs and outputs that takes any size."""


class ExportedPolicy(nn.Module):
    """Scaling, network, greedy action.

    Args:
        policy: on any device and in any float type; it is left as it was.
        dtype: what the network computes in. Normalisation, heads, memory and actions are in
            float32, as where a policy acts (`PolicyNetwork.set_precision`).

    Raises:
        MismatchError: the policy is a program of another runtime.
    """

    center: torch.Tensor
    half_range: torch.Tensor

    def __init__(self, policy: Policy, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        refuse_program(policy)
        # A copy, because the policy may be in training, on a GPU, or in bfloat16.
        self.network = copy.deepcopy(policy.network).to("cpu", torch.float32)
        self.normalizer, self.network.normalizer = self.network.normalizer, None
        self.network.set_precision(dtype)
        self.dtype = dtype
        self.scale = policy.spec.observation.scale
        self.dist = policy.spec.dist
        self.box = policy.spec.action_box
        if self.box is not None:
            self.register_buffer("center", torch.from_numpy(self.box.center))
            self.register_buffer("half_range", torch.from_numpy(self.box.half_range))
        self.eval()

    def forward(
        self, observation: torch.Tensor, memory: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Map raw observations [batch, *shape] to the outputs, in the order of `output_names`."""
        remembered: dict[str, Any] = {} if memory is None else {"memory": memory}
        scaled = observation.to(torch.float32) * self.scale
        if self.normalizer is not None:
            scaled = self.normalizer(scaled)
        output: NetworkOutput = self.network(scaled.to(self.dtype), **remembered).float32()
        if self.box is None:
            action = output.dist_inputs.argmax(dim=1)
        else:
            action = self.center + self.half_range * taken_actions(self.dist, output.dist_inputs)
        given = {
            "dist_inputs": output.dist_inputs,
            "action": action,
            "value": output.value,
            "next_memory": output.memory,
        }
        return {name: part for name, part in given.items() if part is not None}


def refuse_program(policy: Policy) -> None:
    """Refuse a policy that is a program of another runtime already.

    Raises:
        MismatchError: it is.
    """
    if isinstance(policy.network, ExternalNetwork):
        raise MismatchError(
            f"policy {policy.spec.name} is {PROGRAMS[policy.network.spec.runtime].description}, "
            f"which brings its own runtime; distil it, and export the student"
        )


def output_names(policy: Policy) -> list[str]:
    """Return the names of what the program gives for this policy, in their order."""
    names = ["dist_inputs", "action"]
    names += ["value"] if policy.spec.has_value else []
    return names + (["next_memory"] if policy.network.memory_shape is not None else [])


def example_inputs(policy: Policy) -> dict[str, torch.Tensor]:
    """Return inputs of the program by name, of zeros, for whoever traces it."""
    observation = policy.spec.observation
    # Two observations, because torch takes a size of one for a constant.
    example = {
        "observation": torch.zeros(2, *observation.shape, dtype=getattr(torch, observation.dtype))
    }
    if policy.network.memory_shape is not None:
        example["memory"] = torch.zeros(2, *policy.network.memory_shape)
    return example
