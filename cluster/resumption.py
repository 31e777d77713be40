"""Whether a run can go on with a recipe that was changed, found before anything is written."""

from cluster.prepare import Preparation
from cluster.run_directory import RunDirectory
from learners.checkpoint import load_newest_checkpoint
from learners.identity import check_same_identity, identity_of


def check_goes_on(preparation: Preparation, directory: RunDirectory) -> None:
    """Refuse a recipe of another student than that of the run's newest checkpoint.

    Where the run has not trained its teacher yet, there is no checkpoint either.

    Raises:
        ConfigError: it is of another one.
        StorageError: the checkpoints cannot be reached.
    """
    if preparation.teacher is None:
        return
    if (found := load_newest_checkpoint(directory.checkpoints)) is None:
        return
    config, student = preparation.config, preparation.new_student(preparation.teacher)
    own = identity_of(student.spec, config.objective, config.learner.optimizer)
    check_same_identity(own, found.state["student"])
