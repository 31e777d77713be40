"""Policies against the environment that they shall play in, and teachers against their recipe."""

import numpy as np

from actors.environments import EnvironmentSpec
from cluster.recipe.config import RunConfig
from common.errors import MismatchError
from common.policies.policy import Policy
from common.policies.spec import ObservationSpec, PolicySpec


def check_teacher(policy: Policy, environment: EnvironmentSpec, config: RunConfig) -> None:
    """Hold a teacher against the environment, and one with a memory against the recipe.

    Raises:
        MismatchError: they do not go together.
    """
    teacher = policy.spec
    name = f"teacher {teacher.name}"
    if teacher.heads:
        tasks = ", ".join(head.name for head in teacher.heads)
        raise MismatchError(f"{name} is of several tasks ({tasks}); give a teacher of one")
    if policy.network.memory_shape is not None:
        _check_memory(name, config)
    seen = environment.seen_by_teacher
    hint = ", or say in teacher.view what it sees" if len(seen.shape) == 3 else ""
    check_spaces(name, teacher, environment, seen=seen, env_id=config.env.id, hint=hint)


def check_spaces(
    name: str,
    policy: PolicySpec,
    environment: EnvironmentSpec,
    *,
    seen: ObservationSpec,
    env_id: str,
    hint: str = "",
) -> None:
    """Hold what a policy sees and does against an environment.

    Args:
        name: what to call the policy.
        policy: what it is.
        environment: where it shall play.
        seen: what it is shown there.
        env_id: what to call the environment.
        hint: what else to do about observations that do not fit.

    Raises:
        MismatchError: they do not go together.
    """
    expected = policy.observation
    if expected.shape != seen.shape or expected.dtype != seen.dtype:
        raise MismatchError(
            f"{name} sees {expected.dtype} observations of shape {expected.shape}, but "
            f"env.id = {env_id!r} gives {seen.dtype} of shape {seen.shape}; use the "
            f"environment that it was trained in{hint}"
        )
    if not _same_actions(policy, environment):
        actions = [
            f"{space.num_actions} actions" if space.action_box is None else str(space.action_box)
            for space in (policy, environment)
        ]
        raise MismatchError(
            f"{name} has {actions[0]}, but env.id = {env_id!r} has {actions[1]}; use the "
            f"environment that it was trained in"
        )
    meanings = (policy.action_meanings, environment.action_meanings)
    if None not in meanings and meanings[0] != meanings[1]:
        raise MismatchError(f"{name} has the actions {meanings[0]}, the environment {meanings[1]}")


def refuse_memory(teacher: Policy, what: str) -> None:
    """Refuse a teacher with a memory.

    Raises:
        MismatchError: it has one.
    """
    if teacher.network.memory_shape is not None:
        raise MismatchError(
            f"{what}: teacher {teacher.spec.name} has a memory ({teacher.spec.network.name}); give "
            f"a feed-forward teacher"
        )


def _check_memory(name: str, config: RunConfig) -> None:
    """Refuse what asks a teacher about states out of their order."""
    placement = config.actors.inference.placement
    refused = {
        f"actors.inference.placement = {placement!r}": placement != "runner",
        "teacher.refresh": config.refresh is not None,
        "objective.feature": config.objective.needs_features,
        "temperature = 'auto'": bool(config.objective.wanting_temperature()),
    }
    for setting, wanted in refused.items():
        if wanted:
            raise MismatchError(
                f"{setting}: {name} has a memory, and must see every episode in order; use "
                f"placement 'runner', no teacher.refresh, no objective.feature, and a number for "
                f"the temperature"
            )


def _same_actions(teacher: PolicySpec, environment: EnvironmentSpec) -> bool:
    """Whether both have as many discrete actions, or a Box of the same bounds."""
    ours, theirs = teacher.action_box, environment.action_box
    if ours is None or theirs is None:
        return (ours, teacher.num_actions) == (theirs, environment.num_actions)
    same_size = ours.size == theirs.size
    return same_size and np.allclose([ours.low, ours.high], [theirs.low, theirs.high], rtol=1e-5)


def provenance_warnings(teacher: PolicySpec, config: RunConfig) -> list[str]:
    """Compare what the teacher's file says of its environment with the recipe's, as it sees it."""
    recipe = config.seen_by_teacher().env.model_dump(mode="json")
    return [
        f"teacher {teacher.name} was made for {key} = {value!r}, the recipe has {recipe[key]!r}"
        for key, value in teacher.environment.items()
        if key in recipe and recipe[key] != value
    ]
