"""Policies of several tasks: a shared trunk, and a head a task.

The heads are rows of one linear layer, `head`, in the order of `PolicySpec.heads`: weights are one
state dict, and a task's policy is the same network with fewer rows.
"""

from collections.abc import Mapping

import torch

from common.errors import MismatchError
from common.policies.policy import Policy, policy_from_state
from common.policies.spec import PolicySpec, TaskHead

_OF_HEADS = ("head.weight", "head.bias")


def joined_spec(specs: Mapping[str, PolicySpec], *, name: str) -> PolicySpec:
    """Return what a policy is that does what these do, each in the task of its name.

    Raises:
        MismatchError: they do not see the same observations.
    """
    (first_task, first), *others = specs.items()
    for task, spec in others:
        if spec.observation != first.observation:
            raise MismatchError(
                f"tasks {first_task} and {task}: one student cannot see both {first.observation} "
                f"and {spec.observation}; use environments and preprocessing that agree"
            )
    heads = tuple(
        TaskHead(
            name=task,
            num_actions=spec.num_actions,
            action_box=spec.action_box,
            action_meanings=spec.action_meanings,
            dist=spec.dist,
            acting=spec.acting,
            environment=spec.environment,
        )
        for task, spec in specs.items()
    )
    teachers = {task: spec.provenance.get("teacher") for task, spec in specs.items()}
    return PolicySpec(
        name=name,
        network=first.network,
        observation=first.observation,
        heads=heads,
        provenance=first.provenance | {"teacher": teachers},
    )


def policy_of_task(policy: Policy, task: str) -> Policy:
    """Return a copy of a policy that has one of its tasks alone.

    Raises:
        MismatchError: it has no such task.
    """
    names = [head.name for head in policy.spec.heads]
    if task not in names:
        known = f"knows {', '.join(names)}" if names else "is of one task, which needs no name"
        raise MismatchError(f"task {task}: policy {policy.spec.name} {known}")
    state = state_of_task(policy.spec, policy.network.state_dict(), task)
    return policy_from_state(policy.spec.of_task(task), state, source=policy.spec.name)


def state_of_task(
    spec: PolicySpec, state: Mapping[str, torch.Tensor], task: str
) -> dict[str, torch.Tensor]:
    """Return the state dict of one task's network, from that of the whole."""
    rows = spec.outputs_of(task)
    return {name: value[rows] if name in _OF_HEADS else value for name, value in state.items()}
