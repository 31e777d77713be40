"""Whether a run can go on with a recipe that was changed, found before anything is written."""

from typing import Any

from cluster.next_command import next_command
from cluster.prepare import Preparation
from cluster.recipe.config import RunConfig
from cluster.run_directory import RunDirectory
from common.errors import ConfigError
from learners.checkpoint import load_newest_checkpoint
from learners.identity import check_same_identity, identity_of


def check_goes_on(preparation: Preparation, directory: RunDirectory, former: RunConfig) -> None:
    """Refuse a recipe of another student than that of the run's newest checkpoint, or of an end
    that lies behind it.

    Where the run has not trained its teacher yet, there is no checkpoint either.

    Args:
        preparation: the changed recipe.
        directory: of the run.
        former: the recipe that lies there.

    Raises:
        ConfigError: the run cannot go on with it.
        StorageError: the checkpoints cannot be reached.
    """
    if preparation.teacher is None:
        return
    if (found := load_newest_checkpoint(directory.checkpoints)) is None:
        return
    config, student = preparation.config, preparation.new_student(preparation.teacher)
    own = identity_of(student.spec, config.objective, config.learner.optimizer)
    check_same_identity(own, found.state["student"])
    if config.total_env_steps != former.total_env_steps:
        _check_end(config.total_env_steps, found.state, directory)


def _check_end(total_env_steps: int, state: dict[str, Any], directory: RunDirectory) -> None:
    """Refuse an end that was passed: the run would only be scored again, by other rules."""
    if total_env_steps <= (done := state["counters"]["env_steps"]):
        raise ConfigError(
            f"total_env_steps = {total_env_steps}: {done:,} env steps are done already; give "
            f"more to train longer, or score the student that is there with: "
            f"{next_command(directory, 'evaluate')}"
        )
