"""`[teacher]` and `[[tasks]]`: whom to learn from, and in which environments.

A recipe without `[[tasks]]` has one task, its `[env]` and `[teacher]`. With `[[tasks]]` one student
learns all of them, and what would mix them up is refused here.
"""

import re
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from actors.environments import EnvConfig
from actors.environments.atari import AtariView
from actors.placement import AtSamplingPlacement, SharedPlacement
from cluster.recipe.refresh import RefreshConfig
from common.config import StrictModel
from common.errors import ConfigError
from common.networks.ensemble import Combine
from common.policies.spec import ActingSpec

if TYPE_CHECKING:
    from cluster.recipe.config import RunConfig

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
"""What a run and a task may be called: their folders have these names, too."""

UNNAMED = "run"
"""Where nothing in a recipe has a name."""

_IN_NO_NAME = re.compile(r"[^A-Za-z0-9_.-]+")

OF_TASKS = ("env", "teacher")
"""The recipe's tables that each of `[[tasks]]` has for itself."""


class TeacherConfig(StrictModel):
    """The recipe's `[teacher]`: whom to learn from."""

    path: str
    """A policy file or a checkpoint's folder; in a recipe, relative to the recipe's folder. Or the
    URI of a policy that Stillhouse wrote, or a function that makes one, as `module:function`."""
    format: Literal[
        "auto",
        "safetensors",
        "sb3",
        "cleanrl",
        "rllib",
        "onnx",
        "torchscript",
        "torch_export",
        "factory",
    ] = "auto"
    trust: bool = False
    """Whether what can run code when it is read may do so: a factory, a TorchScript archive, a
    `.pt2` archive."""
    normalizer: str | None = None
    """Of a Stable-Baselines3 zip that was trained in VecNormalize: the file that VecNormalize's
    `save` wrote, where it is not beside the zip as `vecnormalize.pkl`; in a recipe, relative to the
    recipe's folder. Of `members` too."""
    members: tuple[str, ...] = ()
    """Paths of further teachers of the same task, whose answers and that of `path` become one."""
    combine: Combine = "mean"
    """How they become one: the mean of their probabilities or Q-values, or the product."""
    acting: ActingSpec | None = None
    """How the teacher acts, where the file's own answer should not hold."""
    refresh: RefreshConfig | None = None
    """Where newer versions of it come from while the run goes on."""
    view: AtariView | None = None
    """What the teacher sees of the games, where that is not what `[env]` shows the student."""


class TaskConfig(StrictModel):
    """One of the recipe's `[[tasks]]`."""

    name: str = Field(pattern=NAME)
    """In evaluations, metrics and on the command line."""
    env: EnvConfig
    teacher: TeacherConfig


def with_first_task(tree: Any) -> Any:
    """Return a recipe's tree in which `env` and `teacher` are the first task's.

    Raises:
        ValueError: they are given beside `[[tasks]]`.
    """
    if not isinstance(tree, dict) or not tree.get("tasks"):
        return tree
    for key in OF_TASKS:
        if tree.get(key) is not None:
            raise ValueError(f"{key}: give it in each of [[tasks]], not beside them")
    first = tree["tasks"][0] if isinstance(tree["tasks"], list | tuple) else None
    if not isinstance(first, dict):
        return tree
    return tree | {key: first[key] for key in OF_TASKS if key in first}


def with_name(tree: Any) -> Any:
    """Return a recipe's tree with a name: its own, that of its environment, or those of its tasks.

    What no name may hold becomes a hyphen.
    """
    if not isinstance(tree, dict) or "name" in tree:
        return tree
    tasks = tree.get("tasks")
    if isinstance(tasks, list | tuple) and tasks:
        tables, key = list(tasks), "name"
    else:
        tables, key = [tree.get("env")], "id"
    told = [str(table.get(key, "")) for table in tables if isinstance(table, dict)]
    name = _IN_NO_NAME.sub("-", "-".join(told)).strip("-._")
    return tree | {"name": name or UNNAMED}


def check_tasks(config: "RunConfig") -> None:
    """Hold a recipe against its `[[tasks]]`.

    Raises:
        ValueError: it asks for what does not work with several.
    """
    placement = config.actors.inference
    several = config.teacher is not None and config.teacher.members
    if several and placement.placement != "runner":
        raise ValueError(
            f"teacher.members: work with actors.inference.placement = 'runner', not "
            f"{placement.placement!r}"
        )
    names = [task.name for task in config.tasks]
    if len(set(names)) < len(names):
        raise ValueError(f"tasks: names must differ: {', '.join(names)}")
    if config.tasks and config.teach is not None:
        raise ValueError("teach: trains one task's teacher; give a teacher in each of [[tasks]]")
    if config.tasks and config.dataset is not None:
        raise ValueError("dataset: is of one task; leave it or [[tasks]] out")
    if (count := len(names)) < 2:
        return
    scaling, runners = config.actors.scaling, config.actors.num_env_runners
    fewest = runners if scaling is None else min(runners, scaling.min_env_runners)
    if fewest < count:
        raise ValueError(
            f"actors.num_env_runners = {fewest}: fewer than the {count} [[tasks]], each of which "
            f"needs one"
        )
    batch_size, window = config.learner.batch_size, config.replay.window_size()
    if batch_size % count:
        raise ValueError(
            f"learner.batch_size = {batch_size}: must be a multiple of the {count} [[tasks]], "
            f"which share each batch equally"
        )
    if window // count < 2 * config.actors.chunk_size:
        raise ValueError(
            f"replay.window = {window}: must hold two chunks of actors.unroll_length x "
            f"actors.num_envs_per_runner = {config.actors.chunk_size} for each of {count} [[tasks]]"
        )
    objective = config.objective
    one_only = {
        f"learner.num_ranks = {config.learner.num_ranks}": config.learner.num_ranks > 1,
        "replay.checkpoint = true": config.replay.checkpoint,
        f"actors.inference.placement = {placement.placement!r}": isinstance(
            placement, SharedPlacement | AtSamplingPlacement
        ),
        f"learner.sequence_length = {config.learner.sequence_length}": (
            config.learner.sequence_length > 1
        ),
        "an objective with a target network": objective.target_interval is not None,
        "objective.value": objective.needs_value,
        "objective.feature": objective.needs_features,
        "temperature = 'auto'": bool(objective.wanting_temperature()),
        "student.network.gsde": getattr(config.student.network, "gsde", None) is not None,
    }
    for setting, wanted in one_only.items():
        if wanted:
            raise ValueError(f"{setting}: works with one task, not {count}; leave it out")


def refuse_tasks(config: "RunConfig", what: str) -> None:
    """Refuse several tasks.

    Raises:
        ConfigError: the recipe has some.
    """
    if len(config.tasks) > 1:
        names = ", ".join(task.name for task in config.tasks)
        raise ConfigError(f"{what}: works with a recipe of one task, and this one has {names}")
