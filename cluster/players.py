"""Who plays to be watched, and in which environment, as each sees it.

| named by              | plays in                                                            |
|-----------------------|---------------------------------------------------------------------|
| a run directory       | its recipe's environment                                            |
| a policy and a recipe | the recipe's environment, in the view that fits what the policy sees |
| a policy and an id    | that environment, preprocessed as the policy's specification says   |
| a policy              | the environment that its specification names                        |
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ale_py import roms

from actors.environments import ENV_CONFIGS, EnvConfig, RenderedEnvironment, make_rendered
from actors.environments.atari import AtariConfig, AtariView
from actors.playback import Player
from cluster.policy_files import kept_student, load_policy_file, naming_trust
from cluster.prepare import prepare
from cluster.recipe.config import RunConfig
from cluster.recipe.teacher_checks import check_spaces
from cluster.run_directory import RunDirectory, kept_teacher
from common.config import validate
from common.errors import ConfigError, MismatchError, RunDirectoryError
from common.policies.inference import InferencePolicy
from common.policies.policy import Policy
from common.policies.tasks import policy_of_task
from common.storage import Named, locate


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entry:
    """A policy, and where it plays."""

    title: str
    policy: Policy
    env: EnvConfig
    """As the policy sees it."""
    teacher_view: AtariConfig | None = None
    """Of a student whose teacher sees something else: games are then played as evaluations do."""


def load_entry_policy(source: str, *, task: str | None, trust: bool) -> Policy:
    """Read a policy of any format; of several tasks, that of one.

    Raises:
        UserError: it cannot be read, or `task` is none of its own.
    """
    policy = load_policy_file(source, trust=trust)
    return one_task(policy, task, source) if policy.spec.heads else policy


def one_task(policy: Policy, task: str | None, source: Named) -> Policy:
    """Return one task of a policy.

    Raises:
        UserError: none is named, or it is none of the policy's.
    """
    if task is None:
        names = ", ".join(head.name for head in policy.spec.heads)
        raise ConfigError(f"{source}: of several tasks; name one with --task: {names}")
    return policy_of_task(policy, task)


def title_of(source: str) -> str:
    """Return what a policy's file is called on its panel."""
    return source if "/" not in source and ":" in source else locate(source).with_suffix("").name


def part_of(config: RunConfig, task: str | None) -> RunConfig:
    """Return the recipe of one task, where it has several.

    Raises:
        ConfigError: none of them is named.
    """
    if len(config.tasks) < 2:
        return config
    parts = {part.task_name: part for part in config.of_tasks()}
    if task not in parts:
        problem = "the recipe has several tasks" if task is None else f"--task {task}: unknown"
        raise ConfigError(f"{problem}; name one with --task: {', '.join(parts)}")
    return parts[task]


def student_of_run(directory: RunDirectory, config: RunConfig, task: str | None) -> Entry:
    """Return a run's student; `config` is the recipe of its task.

    Raises:
        UserError: there is none yet, or it cannot be read.
    """
    policy = kept_student(directory)
    return student_entry(config, policy if task is None else policy_of_task(policy, task))


def teacher_of_run(directory: RunDirectory, config: RunConfig) -> Entry:
    """Return a run's teacher, acting as it did there.

    Raises:
        UserError: it is not there, or does not fit its environment.
    """
    # Nothing is reserved for watching.
    preparation = prepare(
        config, num_cpus=math.inf, num_gpus=math.inf, teacher=kept_teacher(directory, config)
    )
    if preparation.teacher is None:
        raise RunDirectoryError(f"{directory.path}: has no {directory.teacher.name} to show")
    return teacher_entry(preparation.config, preparation.teacher)


def teacher_entry(config: RunConfig, teacher: Policy) -> Entry:
    """Return the teacher of a recipe of one task."""
    return Entry(title="teacher", policy=teacher, env=config.seen_by_teacher().env)


def student_entry(config: RunConfig, student: Policy) -> Entry:
    """Return the student of a recipe of one task; `student` is of that task alone."""
    view = config.teacher_view
    return Entry(title="student", policy=student, env=config.env, teacher_view=view)


def entry_in_recipe(title: str, policy: Policy, config: RunConfig) -> Entry:
    """Return a policy in a recipe's environment: as the teacher, where only its view fits."""
    view, shape = config.teacher_view, policy.spec.observation.shape
    by_view = view is not None and view.observation().shape == shape
    by_student = isinstance(config.env, AtariConfig) and config.env.observation().shape == shape
    entry = teacher_entry if by_view and not by_student else student_entry
    return replace(entry(config, policy), title=title)


def entry_alone(
    title: str, policy: Policy, *, env_id: str | None, trust: bool, beside: Entry | None = None
) -> Entry:
    """Return a policy in the environment that is named, or that its specification tells of.

    Args:
        title: what to call the policy.
        policy: the policy.
        env_id: the environment, where it is named.
        trust: whether a module that `env_id` names may be imported.
        beside: whose environment it is, where nothing else says so.

    Raises:
        ConfigError: nothing says enough.
    """
    told = dict(policy.spec.environment)
    if env_id is None and beside is not None and "id" not in told:
        env_id = beside.env.id
    if env_id is not None:
        family = "atari" if env_id in roms.get_all_rom_ids() else "gymnasium"
        if family != told.get("family") or (family == "gymnasium" and env_id != told.get("id")):
            told = {"family": family}
        told["id"] = env_id
    family, shape = str(told.get("family")), policy.spec.observation.shape
    if family not in ENV_CONFIGS or "id" not in told:
        raise ConfigError(
            f"{title}: does not say where it plays; name an environment with --env, or a recipe "
            f"with --recipe"
        )
    if family == "gymnasium":
        told |= {"trust": trust, "vectorization": "sync"}
    elif len(shape) == 3:
        told = {"frame_stack": shape[0], "frame_size": shape[1]} | told
    model = ENV_CONFIGS[family]
    known = {key: value for key, value in told.items() if key in model.model_fields}
    with naming_trust():
        return Entry(title=title, policy=policy, env=validate(model, known, f"{title}: env"))


def in_the_game_of(first: Entry, second: Entry) -> Entry:
    """Return `second` in the environment of `first`, of which it keeps its own view.

    Raises:
        MismatchError: they play different games.
    """
    if (first.env.family, first.env.id) != (second.env.family, second.env.id):
        raise MismatchError(
            f"{first.title} plays {first.env.id}, {second.title} plays {second.env.id}; name one "
            f"environment with --env, or a recipe with --recipe"
        )
    if not isinstance(first.env, AtariConfig):
        return replace(second, env=first.env)
    own = {key: getattr(second.env, key) for key in AtariView.model_fields}
    return replace(second, env=AtariView(**own).of(first.env))


def told_apart(entries: Sequence[Entry]) -> list[Entry]:
    """Return entries with numbers in their titles, where these are the same."""
    if len({entry.title for entry in entries}) == len(entries):
        return list(entries)
    return [
        replace(entry, title=f"{entry.title} {number}") for number, entry in enumerate(entries, 1)
    ]


@contextmanager
def players_of(entries: Sequence[Entry]) -> Iterator[list[Player]]:
    """Make an environment for each; close them in the end.

    Raises:
        ConfigError: an environment cannot be made, or has no pictures.
        MismatchError: a policy does not fit its environment.
    """
    made: list[RenderedEnvironment] = []
    try:
        for entry in entries:
            env = make_rendered(entry.env, num_envs=1, teacher_view=entry.teacher_view)
            made.append(env)
            spec, name = entry.policy.spec, f"policy {entry.policy.spec.name}"
            check_spaces(name, spec, env.spec, seen=env.spec.observation, env_id=entry.env.id)
        yield [
            Player(title=entry.title, policy=InferencePolicy(entry.policy), env=env)
            for entry, env in zip(entries, made, strict=True)
        ]
    finally:
        for env in made:
            env.close()
