"""Finds everything that can be wrong with a recipe before any actor starts."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from actors.environments import EnvironmentSpec
from actors.placement import SharedPlacement
from cluster.assembly import build_environment
from cluster.offline import decide_play, open_checked, recorded_spaces
from cluster.recipe.config import RunConfig
from cluster.recipe.teacher_checks import check_teacher, provenance_warnings
from common.dataset import Dataset
from common.errors import MismatchError, PolicyMissingError, ResourceError
from common.policies.policy import Policy, new_policy
from common.policies.spec import ActingSpec, DistKind, PolicySpec
from common.policies.tasks import joined_spec
from common.replay.rate_limiter import RateLimits
from common.teachers import load_teacher
from common.teachers.ensemble import combined
from learners.teacher_search import teacher_spec


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Preparation:
    """A recipe that was found good, with what was loaded to find out."""

    config: RunConfig
    environment: EnvironmentSpec
    teacher: Policy | None
    """None where the recipe trains one first."""
    dataset: Dataset | None
    """Where the recipe names one; it was found whole."""
    limits: RateLimits
    """Of every replay shard."""
    warnings: tuple[str, ...]
    parts: tuple["Preparation", ...] = ()
    """Of a recipe of several tasks, one a task; `environment` and `teacher` are the first one's."""

    @property
    def tasks(self) -> tuple["Preparation", ...]:
        """One preparation a task."""
        return self.parts or (self,)

    def teachers(self, taught: Policy) -> tuple[Policy, ...]:
        """Return the tasks' teachers; `taught` is that of a recipe that trains one first."""
        return tuple(part.teacher or taught for part in self.tasks)

    def teacher_dists(self, taught: Policy) -> tuple[DistKind, ...]:
        """Return what the tasks' teachers say, as `teachers` does."""
        return tuple(teacher.spec.dist for teacher in self.teachers(taught))

    def new_student(self, taught: Policy) -> Policy:
        """Build the student of all tasks with fresh weights; for `taught` see `teachers`.

        Raises:
            MismatchError: network or objective do not fit a task, or tasks each other.
        """
        teachers = self.teachers(taught)
        students = {
            part.config.task_name: new_student(part.config, part.environment, teacher.spec)
            for part, teacher in zip(self.tasks, teachers, strict=True)
        }
        if not self.parts:
            return next(iter(students.values()))
        specs = {task: student.spec for task, student in students.items()}
        spec = joined_spec(specs, name=f"{self.config.name}-student")
        return new_policy(spec, seed=self.config.seed)

    def with_task(self, name: str) -> "Preparation":
        """Return the same with one of several tasks.

        Raises:
            MismatchError: there is no such task.
        """
        if not (parts := tuple(part for part in self.parts if part.config.task_name == name)):
            raise MismatchError(f"task {name}: the recipe's is called {self.config.task_name}")
        return replace(self, parts=parts)

    def with_config(self, config: RunConfig, *of_parts: RunConfig) -> "Preparation":
        """Return the same with other recipes, in which only details were resolved."""
        pairs = zip(self.parts, of_parts, strict=True)
        parts = tuple(part.with_config(own) for part, own in pairs)
        return replace(self, config=config, parts=parts)


def prepare(
    config: RunConfig, *, num_cpus: float, num_gpus: float, teacher: Policy | None = None
) -> Preparation:
    """Check a recipe against the environment, the teacher's file and the machine.

    Args:
        config: the recipe.
        num_cpus: CPUs that the run may use.
        num_gpus: GPUs that the run may use.
        teacher: the recipe's teacher, where the run directory holds it; its file is not read then.

    Raises:
        UserError: what is wrong, in one line.
    """
    if len(config.tasks) > 1:
        return _prepare_tasks(config, num_cpus=num_cpus, num_gpus=num_gpus)
    warnings: list[str] = []
    if (dataset := open_checked(config)) is not None:
        environment = recorded_spaces(dataset)
        config, warnings = decide_play(config, environment, dataset.manifest.environment)
        teacher = dataset.teacher(trust=config.dataset is not None and config.dataset.trust)
        check_teacher(teacher, environment, config)
    else:
        env = build_environment(config, num_envs=1)
        environment = env.spec
        env.close()
    if config.teacher is not None:
        if teacher is None:
            teacher = _load(config, say=warnings.append)
        if config.teacher.acting is not None:
            spec = teacher.spec.model_copy(update={"acting": config.teacher.acting})
            teacher = Policy(spec, teacher.network)
        check_teacher(teacher, environment, config)
        warnings += provenance_warnings(teacher.spec, config)
    outline = teacher or untrained_teacher(config, environment)
    student = new_student(config, environment, outline.spec)
    if student.num_parameters >= outline.num_parameters:
        warnings.append(
            f"the student ({student.num_parameters:,} parameters) is not smaller than its "
            f"teacher ({outline.num_parameters:,})"
        )
    limits = config.replay.limits(insert_size=config.actors.chunk_size)
    check_resources(config, num_cpus=num_cpus, num_gpus=num_gpus)
    return Preparation(
        config=config,
        environment=environment,
        teacher=teacher,
        dataset=dataset,
        limits=limits,
        warnings=tuple(warnings),
    )


def _prepare_tasks(config: RunConfig, *, num_cpus: float, num_gpus: float) -> Preparation:
    parts = tuple(prepare(part, num_cpus=math.inf, num_gpus=math.inf) for part in config.of_tasks())
    check_resources(config, num_cpus=num_cpus, num_gpus=num_gpus)
    warnings = [
        f"{part.config.task_name}: {warning}" for part in parts for warning in part.warnings
    ]
    whole = replace(parts[0], config=config, warnings=tuple(warnings), parts=parts)
    assert parts[0].teacher is not None
    whole.new_student(parts[0].teacher)  # which says what does not go together
    return whole


def new_student(config: RunConfig, environment: EnvironmentSpec, teacher: PolicySpec) -> Policy:
    """Build the student with fresh weights.

    Raises:
        MismatchError: its network or objective does not fit environment or teacher.
    """
    config.objective.check_teacher(teacher)
    observation = environment.observation
    if config.student.normalizer == "teacher" and teacher.observation.normalizer is not None:
        changes = {"normalizer": teacher.observation.normalizer}
        observation = observation.model_copy(update=changes)
    spec = PolicySpec(
        name=f"{config.name}-student",
        network=config.student.network,
        observation=observation,
        num_actions=environment.num_actions,
        action_box=environment.action_box,
        action_meanings=environment.action_meanings,
        dist=config.objective.student_dist(teacher),
        has_value=config.objective.needs_value,
        acting=ActingSpec(mode="sample") if config.objective.on_policy else teacher.acting,
        environment=config.env.model_dump(mode="json", exclude={"trust"}),
        provenance={"teacher": teacher.name, "distilled_by": "stillhouse", "recipe": config.name},
    )
    return new_policy(spec, seed=config.seed)


def _load(config: RunConfig, *, say: Callable[[str], None]) -> Policy:
    given = config.teacher
    assert given is not None
    read = partial(
        load_teacher, format=given.format, trust=given.trust, normalizer=given.normalizer, say=say
    )
    try:
        first = read(given.path)
    except PolicyMissingError as error:
        key = f"tasks.{config.task_name}.teacher.path" if config.tasks else "teacher.path"
        raise PolicyMissingError(f"{key} = {error} with --set {key}=FILE") from None
    teachers = [first, *map(read, given.members)]
    teacher = combined(teachers, given.combine) if given.members else teachers[0]
    # It may have been a later version in another run.
    return Policy(teacher.spec.model_copy(update={"teacher_version": 0}), teacher.network)


def taught_spec(config: RunConfig, environment: EnvironmentSpec) -> PolicySpec:
    """Return the specification of the teacher that `[teach]` will train.

    Raises:
        MismatchError: no teacher can be trained in this environment.
    """
    assert config.teach is not None
    return teacher_spec(
        config.teach,
        observation=environment.observation,
        num_actions=environment.num_actions,
        action_meanings=environment.action_meanings,
        environment=config.env.model_dump(mode="json", exclude={"trust"}),
        name=f"{config.name}-teacher",
    )


def untrained_teacher(config: RunConfig, environment: EnvironmentSpec) -> Policy:
    """Return the teacher that `[teach]` will train, with fresh weights.

    Raises:
        MismatchError: no teacher can be trained in this environment.
    """
    assert config.teach is not None
    return new_policy(taught_spec(config, environment), seed=config.teach.seed)


def check_resources(config: RunConfig, *, num_cpus: float, num_gpus: float) -> None:
    """Hold what the recipe reserves against what there is.

    Raises:
        ResourceError: it reserves more.
    """
    actors, learner, shared = config.actors, config.learner, config.actors.inference
    ranks = learner.num_ranks
    needed = actors.num_env_runners * actors.num_cpus_per_runner + ranks * learner.num_cpus
    learners = "learner" if ranks == 1 else f"{ranks} learner ranks with"
    parts = (
        f"{actors.num_env_runners} env runners with {actors.num_cpus_per_runner:g} each, "
        f"{learners} {learner.num_cpus:g}" + (" each" if ranks > 1 else "")
    )
    for_teacher = 0.0
    if isinstance(shared, SharedPlacement):
        needed += shared.num_actors * shared.num_cpus
        parts += f", {shared.num_actors} shared inference with {shared.num_cpus:g} each"
        for_teacher = shared.num_actors * shared.num_gpus
    if needed > num_cpus:
        raise ResourceError(
            f"the recipe asks for {needed:g} CPUs ({parts}) and there are {num_cpus:g}; lower "
            f"actors.num_env_runners"
        )
    if ranks * learner.num_gpus > num_gpus:
        each = f" for each of {ranks} ranks" if ranks > 1 else ""
        raise ResourceError(
            f"learner.num_gpus = {learner.num_gpus:g}{each}, and there are {num_gpus:g}; "
            f"set it to 0 to train on the CPU"
        )
    if ranks * learner.num_gpus + for_teacher > num_gpus:
        raise ResourceError(
            f"actors.inference asks for {for_teacher:g} GPUs and learner.num_gpus for "
            f"{ranks * learner.num_gpus:g}, and there are {num_gpus:g}; set "
            f"actors.inference.num_gpus to 0 to run the teacher on the CPU"
        )
