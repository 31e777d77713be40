"""Policies for runtimes that scale observations in their own way, or not at all."""

from common.policies.policy import Policy, policy_from_state


def with_scale(policy: Policy, scale: float) -> Policy:
    """Return a copy in float32 on the CPU that says the same, and sees `scale` · observation.

    What its observations were multiplied by beyond that is in the weights that see them.
    """
    given = policy.spec.observation
    observation = given.model_copy(update={"scale": scale})
    spec = policy.spec.model_copy(update={"observation": observation})
    copy = policy_from_state(spec, policy.network.state_dict(), source=policy.spec.name)
    copy.network.fold_scale(given.scale / scale)
    return copy
