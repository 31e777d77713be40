"""The recipe's `[dataset]`: what it is, what it asks of the other tables, what it fills in."""

from typing import TYPE_CHECKING

from pydantic import Field

from actors.placement import RunnerPlacement
from common.config import StrictModel, Tree
from common.dataset import open_dataset

if TYPE_CHECKING:
    from cluster.recipe.config import RunConfig


class DatasetConfig(StrictModel):
    """Distil from a recorded dataset: chunks are read where env runners would sample them."""

    path: str
    """A folder that `stillhouse record` wrote; in a recipe, relative to the recipe's folder. Or a
    URI."""
    trust: bool = False
    """Whether its teacher may hold a program that could do more than compute."""
    holdout: float = Field(default=0.05, gt=0, lt=1)
    """Share of the sequences that the student never learns from and is scored on."""


def check_tables(config: "RunConfig") -> None:
    """Refuse tables that do not go with a dataset, or do not go without one.

    Raises:
        ValueError: with the key and what to do.
    """
    play, evaluation = config.evaluation.play, config.evaluation
    if config.dataset is None:
        if play is False:
            raise ValueError(
                "evaluation.play = false: works with a [dataset], whose held-out sequences are "
                "then all that the student is scored on"
            )
        return
    if play is False and evaluation.required_share is not None:
        raise ValueError(
            f"evaluation.required_share = {evaluation.required_share:g}: a share of the "
            f"teacher's return needs evaluation.play = true"
        )
    if config.stop.share_of_teacher is not None:
        raise ValueError(
            f"stop.share_of_teacher = {config.stop.share_of_teacher:g}: is estimated on the "
            f"student's episodes in training, and with a [dataset] it plays none"
        )
    if config.objective.on_policy:
        raise ValueError(
            f"objective.{config.objective.on_policy[0]}: learns from the student's own fresh "
            f"actions, and a [dataset] has none; leave it out"
        )
    if config.objective.follows_share_of_teacher:
        raise ValueError(
            "objective: a schedule goes by share_of_teacher, which is estimated on student "
            "episodes, and with a [dataset] there are none; use by = 'progress'"
        )
    if config.actors.scaling is not None:
        raise ValueError("actors.scaling: works without a [dataset], whose readers share it out")
    if not isinstance(config.actors.inference, RunnerPlacement):
        raise ValueError(
            f"actors.inference.placement = {config.actors.inference.placement!r}: the labels "
            f"come with the [dataset]; leave it out"
        )


def with_dataset(tree: Tree) -> Tree:
    """Return a recipe's tree with what its dataset tells: environment, and size of chunks.

    What the recipe says itself holds.

    Raises:
        DatasetError: there is no dataset that can be read.
    """
    table = tree.get("dataset")
    if not isinstance(table, dict) or not isinstance(table.get("path"), str):
        return tree
    env, actors = tree.get("env", {}), tree.get("actors", {})
    if not isinstance(env, dict) or not isinstance(actors, dict):
        return tree
    if "id" in env and {"unroll_length", "num_envs_per_runner"} <= actors.keys():
        return tree
    told = open_dataset(table["path"]).manifest
    sizes = {"unroll_length": told.unroll_length, "num_envs_per_runner": told.num_envs}
    return tree | {
        "env": env if "id" in env else told.environment | env,
        "actors": sizes | actors,
    }
