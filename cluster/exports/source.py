"""What is exported: a policy, and where it plays, as far as that is known.

Of a run directory the recipe tells the environment, of a policy file its specification, or the
command.
"""

from dataclasses import dataclass

from actors.environments import EnvConfig, EnvironmentSpec, VectorEnvironment, make_environment
from cluster.players import one_task
from cluster.policy_files import kept_student, load_policy_file
from cluster.recipe.config import RunConfig, load_recipe
from cluster.run_directory import RunDirectory
from cluster.scene import Scene
from common.errors import ConfigError, MismatchError, UserError
from common.policies.policy import Policy
from common.policies.spec import PolicySpec
from common.storage import Location, locate
from learners.export import refuse_program


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
    scene: Scene
    """Where a policy file plays, as the command says."""

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
        return self.scene.entry(str(self.path), self.policy, self.scene.config()).env


def open_source(source: str, scene: Scene) -> Source:
    """Read what a run directory or a policy file holds.

    Args:
        source: its path.
        scene: which task, and where a policy file plays.

    Raises:
        PolicyFileError: there is no policy, or it cannot be read.
        RunDirectoryError: the run has no student yet.
        MismatchError: it has no such task, or is a program of another runtime.
        ConfigError: it is of several tasks, and none is named; or a run is to play elsewhere.
    """
    path = locate(source)
    directory = RunDirectory(path) if path.is_dir() else None
    if directory is None:
        policy = load_policy_file(path, trust=scene.trust)
    else:
        path, policy = directory.student, kept_student(directory)
    refuse_program(policy)
    # Where there is a recipe, the task can be one of its own alone.
    of_one = not policy.spec.heads and (scene.task is None or scene.recipe is not None)
    if not of_one:
        policy = one_task(policy, scene.task, path)
    config = None if directory is None else _recipe(directory, scene.task)
    if config is not None and scene.is_named:
        raise ConfigError(f"{source}: has a recipe of its own; leave --env and --recipe out")
    return Source(
        path=path,
        policy=policy,
        task=None if of_one else scene.task,
        directory=directory,
        config=config,
        scene=scene,
    )


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
