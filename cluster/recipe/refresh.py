"""The recipe's `[teacher.refresh]` table: a teacher that improves while the run goes on."""

from typing import TYPE_CHECKING

from pydantic import Field

from common.config import StrictModel

if TYPE_CHECKING:
    from cluster.recipe.config import RunConfig


class RefreshConfig(StrictModel):
    """Where newer versions of the teacher come from, and when one is taken.

    Another program writes them while the run goes on: `stillhouse teach --versions`, any trainer.
    """

    path: str
    """Folder or URI that is watched; it may appear later. In a recipe, relative to its folder."""
    pattern: str = "*.safetensors"
    """Which of its files are versions; they follow each other by name, numbers in it by size."""
    interval_s: float = Field(default=10.0, gt=0)
    """Seconds between two looks."""
    num_episodes: int = Field(default=20, ge=1)
    """Full episodes that a version plays. It is taken where its mean return is above that of the
    present one."""


def check_refresh(config: "RunConfig") -> None:
    """Hold a recipe against its `[teacher.refresh]`.

    Raises:
        ValueError: it asks for what does not work with a teacher that changes.
    """
    if len(config.tasks) > 1:
        for task in config.tasks:
            if task.teacher.refresh is not None:
                raise ValueError(
                    f"task {task.name}: teacher.refresh: works with one task, not "
                    f"{len(config.tasks)}; leave it out"
                )
    if (teacher := config.teacher) is None or teacher.refresh is None:
        return
    objective, ranks = config.objective, config.learner.num_ranks
    refused = {
        "teacher.members": bool(teacher.members),
        "teacher.normalizer": teacher.normalizer is not None,
        "teacher.view": config.teacher_view is not None,
        f"learner.num_ranks = {ranks}": ranks > 1,
        "objective.feature": objective.needs_features,
        "temperature = 'auto'": bool(objective.wanting_temperature()),
    }
    for setting, wanted in refused.items():
        if wanted:
            raise ValueError(
                f"{setting}: does not work with [teacher.refresh], whose teacher changes; leave "
                f"one of them out"
                + ("; give a number" if setting.startswith("temperature") else "")
            )
