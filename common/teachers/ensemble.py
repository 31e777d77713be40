"""Several teachers of one task, made one policy."""

from collections.abc import Sequence

from common.errors import MismatchError
from common.networks.ensemble import MEMBERS, Combine, EnsembleSpec
from common.policies.policy import Policy, policy_from_state
from common.policies.spec import PolicySpec

_OF_VALUE = ("value", "value_layers")
"""First parts of the names of what only the value is computed from."""


def combined(teachers: Sequence[Policy], combine: Combine) -> Policy:
    """Return the policy that answers for all of them; it acts as the first one does.

    It has a state value, the mean, where all of them have one.

    Raises:
        MismatchError: they do not go together.
    """
    first = teachers[0].spec
    for teacher in teachers:
        _check(teacher.spec, first)
    if combine == "product" and first.dist == "q_values":
        raise MismatchError(
            f"teacher.combine = 'product' is for probabilities, and {first.name} gives Q-values; "
            f"use 'mean'"
        )
    has_value = all(teacher.spec.has_value for teacher in teachers)
    members = [teacher.spec.network for teacher in teachers]
    fields = {name: getattr(first, name) for name in type(first).model_fields}
    spec = PolicySpec.model_validate(
        fields
        | {
            "name": "+".join(teacher.spec.name for teacher in teachers),
            "network": EnsembleSpec.model_validate(
                {"members": members, "says": first.dist, "combine": combine}
            ),
            "has_value": has_value,
            "measured": {},
            "provenance": {"members": [teacher.spec.provenance for teacher in teachers]},
        }
    )
    state = {
        f"members.{number}.{name}": tensor
        for number, teacher in enumerate(teachers)
        for name, tensor in teacher.network.state_dict().items()
        if has_value or name.partition(".")[0] not in _OF_VALUE
    }
    return policy_from_state(spec, state, source=spec.name)


def _check(spec: PolicySpec, first: PolicySpec) -> None:
    if spec.network.name not in MEMBERS:
        raise MismatchError(
            f"teacher.members: {spec.name} is a network of kind {spec.network.name}; only "
            f"{' and '.join(MEMBERS)} can be combined"
        )
    if spec.action_box is not None or spec.heads:
        raise MismatchError(
            f"teacher.members: {spec.name} does not choose among the discrete actions of one task; "
            f"only such teachers can be combined"
        )
    for name in ("observation", "num_actions", "action_meanings", "dist"):
        ours, theirs = getattr(first, name), getattr(spec, name)
        if ours != theirs:
            raise MismatchError(
                f"teacher.members: {name} of {spec.name} is {theirs}, and of {first.name} {ours}; "
                f"only teachers that agree can be combined"
            )
