"""What is exported: a policy, and where it plays, as far as that is known.

Of a run directory the recipe tells the environment, of a policy file its specification.
"""

from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from actors.environments import EnvConfig, EnvironmentSpec, VectorEnvironment, make_environment
from cluster.policy_files import load_policy_file
from cluster.recipe.config import RunConfig, load_recipe
from cluster.run_directory import RunDirectory, kept_student
from common.errors import ConfigError, MismatchError, UserError
from common.policies.policy import Policy
from common.policies.spec import PolicySpec
from common.policies.tasks import policy_of_task
from common.storage import Location, locate
from learners.export import refuse_program

_ENV: TypeAdapter[EnvConfig] = TypeAdapter(EnvConfig)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """A policy of one task, and what is known of it."""

    path: Location
    """Of its file."""
    policy: Policy
    task: str | None
    """Its name, of a policy of several."""
    directory: RunDirectory | None
    config: RunConfig | None
    """The run's recipe, of this task, where there is one that can be read."""

    def environment(self, num_envs: int) -> VectorEnvironment:
        """Make copies of the environment in which the policy plays.

        Raises:
            ConfigError: it is not known, or cannot be made.
            MismatchError: it is not one for this policy.
        """
        spec = self.policy.spec
        env = make_environment(self._env_config(), num_envs=num_envs)
        told, given = spec.observation, env.spec.observation
        found = (given.shape, given.dtype, env.spec.num_actions, env.spec.action_box)
        if found != (told.shape, told.dtype, spec.num_actions, spec.action_box):
            env.close()
            raise MismatchError(
                f"{self.path}: takes {told.dtype} {told.shape} and has {_actions(spec)}; its "
                f"environment gives {given.dtype} {given.shape} and has {_actions(env.spec)}"
            )
        return env

    @property
    def env_id(self) -> str | None:
        """The environment's name, where it is known."""
        try:
            return self._env_config().id
        except UserError:
            return None

    def _env_config(self) -> EnvConfig:
        if self.config is not None:
            return self.config.env
        try:
            return _ENV.validate_python(self.policy.spec.environment)
        except ValidationError:
            raise ConfigError(
                f"{self.path}: its specification names no environment to play in"
            ) from None


def open_source(source: str, task: str | None) -> Source:
    """Read what a run directory or a policy file holds.

    Raises:
        PolicyFileError: there is no policy, or it cannot be read.
        RunDirectoryError: the run has no student yet.
        MismatchError: it has no such task, or is a program of another runtime.
        ConfigError: it is of several tasks, and none is named.
    """
    path = locate(source)
    directory = RunDirectory(path) if path.is_dir() else None
    if directory is None:
        policy = load_policy_file(path)
    else:
        path, policy = directory.student, kept_student(directory)
    refuse_program(policy)
    if task is not None:
        policy = policy_of_task(policy, task)
    elif policy.spec.heads:
        names = ", ".join(head.name for head in policy.spec.heads)
        raise ConfigError(f"{path}: of several tasks; name one with --task: {names}")
    config = None if directory is None else _recipe(directory, task)
    return Source(path=path, policy=policy, task=task, directory=directory, config=config)


def _recipe(directory: RunDirectory, task: str | None) -> RunConfig | None:
    """Return the run's recipe, or None where its policy's specification must do."""
    try:
        config = load_recipe(directory.recipe, [])
    except UserError:  # it is not there, or its dataset has gone
        return None
    of_task = [own for own in config.of_tasks() if task in (None, own.task_name)]
    return of_task[0]


def _actions(spec: PolicySpec | EnvironmentSpec) -> str:
    box = spec.action_box
    return f"{spec.num_actions} actions" if box is None else f"actions in {box}"
