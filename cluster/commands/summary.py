"""What `stillhouse check` tells of a recipe that it finds good."""

from collections.abc import Iterator

from actors.environments import EnvironmentSpec
from cluster.prepare import Preparation, untrained_teacher
from common.policies.policy import Policy
from common.policies.spec import ObservationSpec


def summary(preparation: Preparation) -> Iterator[str]:
    """Yield a line for each task and its teacher, and one for the student."""
    first = preparation.tasks[0]
    taught = preparation.teacher or untrained_teacher(first.config, first.environment)
    teachers = preparation.teachers(taught)
    for part, teacher in zip(preparation.tasks, teachers, strict=True):
        known = teacher.spec.name if part.teacher is not None else "to be trained"
        yield (
            f"{part.config.task_name}: {_spaces(part.environment)}; "
            f"teacher: {known}, {_size(teacher)}"
        )
    yield f"student: {_size(preparation.new_student(taught))}"


def _spaces(environment: EnvironmentSpec) -> str:
    seen, by_teacher = environment.observation, environment.seen_by_teacher
    told = f"observations: {_shape(seen)}"
    if by_teacher.shape != seen.shape:
        told += f" (its teacher's: {_shape(by_teacher)})"
    if environment.action_box is not None:
        return f"{told}; actions: a Box of {len(environment.action_box.low)}"
    return f"{told}; actions: {environment.num_actions}"


def _shape(observation: ObservationSpec) -> str:
    return f"{' × '.join(map(str, observation.shape))} {observation.dtype}"


def _size(policy: Policy) -> str:
    return f"{policy.spec.network.name} of {policy.num_parameters:,} parameters"
