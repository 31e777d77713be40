"""`[teacher.view]`: a teacher that sees other pictures of the games than its student.

`[env]` says what the games are, and what the student sees. Of the keys in `AtariView` the teacher
may have its own. Env runners and evaluations then show each policy what it sees of the same games;
chunks hold what the student sees, beside the teacher's labels.
"""

from typing import TYPE_CHECKING

from actors.environments import EnvConfig
from actors.environments.atari import AtariConfig
from cluster.recipe.tasks import TeacherConfig
from common.errors import ConfigError

if TYPE_CHECKING:
    from cluster.recipe.config import RunConfig


def view_of_teacher(env: EnvConfig, teacher: TeacherConfig | None) -> AtariConfig | None:
    """Return the environment as the teacher sees it, or None where it sees what the student does.

    Raises:
        ValueError: there are no views of such an environment.
    """
    if teacher is None or teacher.view is None:
        return None
    if not isinstance(env, AtariConfig):
        raise ValueError(
            f"teacher.view: is for env.family = 'atari', not {env.family!r}; leave it out"
        )
    seen = teacher.view.of(env)
    return None if seen == env else seen


def check_views(config: "RunConfig") -> None:
    """Refuse a view where nobody could show it to the teacher.

    Raises:
        ValueError: there are none of such an environment, or the learner would ask the teacher,
            and it has only what the student sees.
    """
    views = [view_of_teacher(task.env, task.teacher) for task in config.tasks]
    if config.teacher_view is None and not any(views):
        return
    asks = {
        "actors.inference.placement = 'at_sampling'": not config.actors.labels_chunks,
        "objective.feature": config.objective.needs_features,
    }
    for setting, wanted in asks.items():
        if wanted:
            raise ValueError(
                f"{setting}: the learner would ask the teacher, and it has what the student sees, "
                f"not teacher.view; leave it out"
            )


def refuse_view(config: "RunConfig", what: str) -> None:
    """Refuse a teacher that sees something else than its student.

    Raises:
        ConfigError: it does.
    """
    if config.teacher_view is not None:
        raise ConfigError(
            f"teacher.view: {what} works with a teacher that sees what the student sees; leave it "
            f"out, and let [env] be what the teacher sees"
        )
