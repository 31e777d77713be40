"""`RunConfig`: the whole recipe, composed of what each folder owns."""

from pathlib import Path
from typing import Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_serializer,
    model_serializer,
    model_validator,
)

from actors.behavior import BehaviorConfig, Dagger
from actors.config import ActorsConfig, EvaluationConfig
from actors.environments import EnvConfig
from actors.environments.atari import AtariConfig
from actors.placement import SharedPlacement
from cluster.recipe.dataset import DatasetConfig, check_tables, with_dataset
from cluster.recipe.objective_checks import check_memory, check_on_policy, check_over_time
from cluster.recipe.refresh import RefreshConfig, check_refresh
from cluster.recipe.tasks import (
    NAME,
    OF_TASKS,
    TaskConfig,
    TeacherConfig,
    check_tasks,
    with_first_task,
    with_name,
)
from cluster.recipe.teacher_view import check_views, view_of_teacher
from common.config import StrictModel, Tree, apply_overrides, read_toml, validate
from common.credentials import refuse_credentials
from common.networks import NetworkSpec
from common.replay.config import ReplayConfig
from common.storage import Named, locate
from common.teachers.factory_format import names_factory
from learners.config import LearnerConfig
from learners.feed import QUEUE_SIZE
from learners.objectives import ObjectiveConfig
from learners.teach_config import TeachConfig
from learners.teach_defaults import with_atari_defaults


class StudentConfig(StrictModel):
    """The recipe's `[student]`: what to make."""

    network: NetworkSpec
    normalizer: Literal["teacher", "none"] = "teacher"
    """Whether the student normalises observations as its teacher does, where that does."""


class StopConfig(StrictModel):
    """The recipe's `[stop]`: when to end before `total_env_steps`."""

    share_of_teacher: float | None = None
    """Estimated on the last student episodes of training."""
    max_duration_s: float | None = Field(default=None, gt=0)
    """Seconds of distillation."""


class SupervisionConfig(StrictModel):
    """The recipe's `[supervision]`: what is taken for broken on a Ray cluster, and when to give up.

    How often env runners and learner are started again is in their own tables.
    """

    silence_s: float = Field(default=60.0, gt=0)
    """Seconds without an answer after which an actor is taken for frozen and started again."""
    max_shard_restarts: int = Field(default=10, ge=0)
    """Restarts of replay shards, all together, before the run gives up."""
    wait_for_resources_s: int = Field(default=300, ge=1)
    """Seconds that a run waits for the CPUs and GPUs that it cannot start without."""


class WatchdogConfig(StrictModel):
    """The recipe's `[watchdog]`."""

    after_s: float = Field(default=60.0, gt=0)
    """Seconds after which a stage that stands still is named; more than a chunk or a learner step
    takes."""


class RunConfig(StrictModel):
    """A recipe."""

    name: str = Field(default="", pattern=NAME)
    """By default the environment's id, or the names of `[[tasks]]`."""
    seed: int = Field(default=0, ge=0)
    total_env_steps: int = Field(ge=1)
    """Transitions (agent steps, not frames) to collect and train on."""
    env: EnvConfig
    teacher: TeacherConfig | None = None
    tasks: tuple[TaskConfig, ...] = ()
    """Of a student of several; `env` and `teacher` are the first one's then."""
    teach: TeachConfig | None = None
    """Trains the teacher first, where `[teacher]` names no file."""
    dataset: DatasetConfig | None = None
    """Distils from a recording, which has its teacher in it; `[env]` may be left out then."""
    student: StudentConfig
    behavior: BehaviorConfig = Dagger()
    objective: ObjectiveConfig
    actors: ActorsConfig = ActorsConfig()
    replay: ReplayConfig = ReplayConfig()
    learner: LearnerConfig = LearnerConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    stop: StopConfig = StopConfig()
    supervision: SupervisionConfig = SupervisionConfig()
    watchdog: WatchdogConfig = WatchdogConfig()

    @model_validator(mode="before")
    @classmethod
    def _first_task(cls, tree: Any) -> Any:
        return _with_teach_defaults(with_name(with_first_task(tree)))

    @model_serializer(mode="wrap")
    def _as_given(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what a recipe with tasks, or without, does not have."""
        tree: dict[str, Any] = dump(self)
        idle = OF_TASKS if self.tasks else ("tasks",)
        return {key: value for key, value in tree.items() if key not in idle}

    @model_validator(mode="after")
    def _tasks_are_kept_apart(self) -> "RunConfig":
        check_tasks(self)
        check_refresh(self)
        check_views(self)
        return self

    @model_validator(mode="after")
    def _one_teacher(self) -> "RunConfig":
        given = [key for key in ("teacher", "teach", "dataset") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(
                "teacher: give either [teacher] with a path, or [teach] to train one, or "
                f"[dataset] with one in it, not {('neither', '', 'both', 'all')[len(given)]}"
            )
        check_tables(self)
        if self.replay.num_shards > self.actors.num_env_runners:
            raise ValueError(
                f"replay.num_shards = {self.replay.num_shards}: more than the "
                f"{self.actors.num_env_runners} env runners that could fill them"
            )
        scaling = self.actors.scaling
        if scaling is not None and scaling.min_env_runners < self.replay.num_shards:
            raise ValueError(
                f"actors.scaling.min_env_runners = {scaling.min_env_runners}: fewer than the "
                f"replay.num_shards = {self.replay.num_shards} that they must fill"
            )
        shared, runners = self.actors.inference, self.actors.num_env_runners
        if isinstance(shared, SharedPlacement) and shared.num_actors > runners:
            raise ValueError(
                f"actors.inference.num_actors = {shared.num_actors}: more than the {runners} env "
                f"runners that could ask them"
            )
        if self.actors.unroll_length % self.learner.sequence_length:
            raise ValueError(
                f"learner.sequence_length = {self.learner.sequence_length}: must divide "
                f"actors.unroll_length = {self.actors.unroll_length}, because a sequence lies "
                f"within one chunk"
            )
        ranks = self.learner.num_ranks
        if self.replay.num_shards % ranks:
            raise ValueError(
                f"replay.num_shards = {self.replay.num_shards}: must be a multiple of "
                f"learner.num_ranks = {ranks}, each of which reads shards of its own"
            )
        if self.replay.checkpoint and ranks > 1:
            raise ValueError(
                f"replay.checkpoint = true: works with learner.num_ranks = 1, not {ranks}; leave "
                f"it out, and a resumed run starts with an empty replay"
            )
        if self.replay.capacity // ranks < 2 * self.actors.chunk_size:
            raise ValueError(
                f"replay.capacity = {self.replay.capacity}: must hold two chunks of "
                f"actors.unroll_length x actors.num_envs_per_runner = {self.actors.chunk_size}"
                + (f" for each of {ranks} ranks" if ranks > 1 else "")
            )
        if self.replay.window_size() // ranks < 2 * self.actors.chunk_size:
            raise ValueError(
                f"replay.window = {self.replay.window_size()}: must hold two chunks of "
                f"actors.unroll_length x actors.num_envs_per_runner = {self.actors.chunk_size}"
                + (f" for each of {ranks} ranks" if ranks > 1 else "")
            )
        return self

    @model_validator(mode="after")
    def _terms_get_what_they_need(self) -> "RunConfig":
        check_over_time(self.objective, self.learner)
        check_memory(self.student.network, self.learner)
        check_on_policy(
            self.objective,
            behavior=self.behavior,
            actors=self.actors,
            replay=self.replay,
            learner=self.learner,
        )
        return self

    @model_validator(mode="after")
    def _share_is_estimated(self) -> "RunConfig":
        if self.objective.follows_share_of_teacher and self.behavior.teacher_share(1.0) == 1.0:
            raise ValueError(
                f"objective: a schedule goes by share_of_teacher, which is estimated on student "
                f"episodes, and behavior.name = {self.behavior.name!r} plays none; use "
                f"by = 'progress', or another behavior"
            )
        return self

    @field_serializer("teach", mode="wrap")
    def _readable(self, teach: TeachConfig | None, dump: SerializerFunctionWrapHandler) -> Any:
        """Leave the idle algorithm's table out, which `TeachConfig` refuses to read."""
        idle = {"dqn", "ppo"} - {teach.algorithm} if teach is not None else set()
        tree = dump(teach)
        return tree and {key: value for key, value in tree.items() if key not in idle}

    @property
    def task_name(self) -> str:
        """What the recipe's task is called; of several, all their names."""
        return "+".join(task.name for task in self.tasks) or self.env.id

    @property
    def teacher_view(self) -> AtariConfig | None:
        """The environment as the teacher sees it, where it sees something else than the student."""
        return view_of_teacher(self.env, self.teacher)

    def seen_by_teacher(self) -> "RunConfig":
        """Return the recipe with what the teacher sees as its environment."""
        if self.teacher is None or self.teacher.view is None:
            return self
        alike = self.teacher.model_copy(update={"view": None})
        return self.model_copy(update={"env": self.teacher_view or self.env, "teacher": alike})

    def of_tasks(self) -> tuple["RunConfig", ...]:
        """Return a recipe of one task for each."""
        if len(self.tasks) < 2:
            return (self,)
        return tuple(
            self.model_copy(update={"tasks": (task,), "env": task.env, "teacher": task.teacher})
            for task in self.tasks
        )

    @property
    def refresh(self) -> RefreshConfig | None:
        """Where newer versions of the teacher come from, where it changes during the run."""
        return None if self.teacher is None else self.teacher.refresh

    @property
    def learner_asks_teacher(self) -> bool:
        """Whether the teacher computes in the learner's processes."""
        needs_labels = not self.actors.labels_chunks or self.refresh is not None
        return needs_labels or self.objective.needs_features

    @property
    def samples_per_request(self) -> int:
        """Samples that a rank asks a shard for at once: two requests a chunk, or more.

        Half a chunk, or half of the samples that a chunk is worth where these are fewer; in whole
        batches where it is one. A larger batch is put together from several requests, so that the
        coupling of training to data is as close as with a small one.
        """
        batch = self.learner.rank_batch_size
        half = int(min(1.0, self.replay.samples_per_insert) * self.actors.chunk_size / 2)
        return max(1, half - half % batch if half >= batch else half)

    @property
    def answers_ready(self) -> int:
        """Answers of shards that the learner holds ready: a batch, so that env runners go on
        collecting the next one while the learner is busy with a large one."""
        return max(QUEUE_SIZE, -(-self.learner.rank_batch_size // self.samples_per_request))


def _with_teach_defaults(tree: Any) -> Any:
    """Return a recipe's tree with what `[teach]` means on Atari."""
    env, teach = (tree.get(key) if isinstance(tree, dict) else None for key in ("env", "teach"))
    if not isinstance(env, dict) or not isinstance(teach, dict) or env.get("family") != "atari":
        return tree
    return tree | {"teach": with_atari_defaults(teach)}


def load_recipe(path: Named, overrides: list[str]) -> RunConfig:
    """Read a recipe.

    Paths in a file on this disk are relative to its folder, all others to the working directory.

    Raises:
        ConfigError: something is wrong with it, or it holds credentials.
    """
    location = locate(path)
    folder = Path(location.path).parent if location.is_local else Path.cwd()
    tree = _with_absolute_paths(_without_credentials(read_toml(location)), folder)
    tree = _without_credentials(apply_overrides(tree, overrides))
    tree = with_dataset(_with_absolute_paths(tree, Path.cwd()))
    changed = " as --set changes it" if overrides else ""
    return validate(RunConfig, tree, f"{location}{changed}")


def _without_credentials(tree: Tree) -> Tree:
    refuse_credentials("", tree)
    return tree


def _with_absolute_paths(tree: Tree, base: Path) -> Tree:
    if isinstance(tasks := tree.get("tasks"), list):
        whole = [
            _with_absolute_paths(task, base) if isinstance(task, dict) else task for task in tasks
        ]
        tree = tree | {"tasks": whole}
    for key in ("teacher", "dataset"):
        table = tree.get(key)
        if not isinstance(table, dict) or not isinstance(table.get("path"), str):
            continue
        table = table | {"path": _absolute(table["path"], base)}
        if "normalizer" in table:
            table["normalizer"] = _absolute(table["normalizer"], base)
        if isinstance(members := table.get("members"), list):
            table["members"] = [_absolute(path, base) for path in members]
        if isinstance(refresh := table.get("refresh"), dict) and "path" in refresh:
            table["refresh"] = refresh | {"path": _absolute(refresh["path"], base)}
        tree = tree | {key: table}
    return tree


def _absolute(path: Any, base: Path) -> Any:
    if not isinstance(path, str) or "://" in path or names_factory(path):
        return path
    return str((base / path).resolve())
