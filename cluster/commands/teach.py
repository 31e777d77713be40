"""`stillhouse teach`: the teacher that a recipe describes, trained and saved."""

import sys
from typing import Annotated

import typer

from cluster.backends import num_cpus_here, num_gpus_here, opened_backend
from cluster.commands.options import Overrides, Recipe
from cluster.interrupt import INTERRUPTED
from cluster.prepare import prepare
from cluster.progress import make_reporter
from cluster.run_directory import save_recipe
from cluster.screen import screen
from cluster.teaching.directory import TeachDirectory, open_training
from cluster.teaching.training import train_teacher_for
from cluster.teaching.version_writer import VersionWriter
from common.policies.policy import save_policy
from common.storage import locate
from learners.teach_checkpoint import newest_training

commands = typer.Typer()


@commands.command()
def teach(
    recipe: Recipe,
    out: Annotated[str, typer.Option(help="Folder or URI for the teacher and its training.")],
    overrides: Overrides = None,
    versions: Annotated[
        str | None,
        typer.Option(help="Folder or URI for every better policy of the training and its curve."),
    ] = None,
    go_on: Annotated[
        bool, typer.Option("--resume", help="Go on with the training in --out where there is one.")
    ] = False,
) -> None:
    """Train the teacher of a recipe's teach table with RLlib, and save it."""
    directory = TeachDirectory(out)
    config = open_training(directory, recipe, overrides or [], go_on=go_on)
    resumed = newest_training(directory.checkpoints) if go_on else None
    writer = None
    if versions is not None:
        after = 0 if resumed is None else resumed.env_steps
        writer = VersionWriter(locate(versions), after=after if go_on else None)
    preparation = prepare(config, num_cpus=num_cpus_here(), num_gpus=num_gpus_here())
    save_recipe(directory, config)
    reporter = make_reporter(screen())
    with opened_backend(None, local=False):
        teacher, interrupted = train_teacher_for(
            preparation, reporter, directory=directory, resumed=resumed, versions=writer
        )
    save_policy(teacher, directory.teacher)
    reporter.say(
        f"{directory.teacher}: mean greedy return {teacher.spec.measured['mean_return']:.1f} over "
        f"{teacher.spec.measured['episodes']} episodes"
    )
    if interrupted:
        reporter.say(
            f"stopped; that is the best so far; go on with: stillhouse teach {recipe} --out {out} "
            f"--resume"
        )
        sys.exit(INTERRUPTED)
