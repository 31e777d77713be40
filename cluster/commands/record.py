"""`stillhouse record`: a teacher's play and labels, as a dataset that `run` can distil from."""

import math
import sys
from typing import Annotated

import typer

from cluster.backends import num_cpus_here, num_gpus_here, opened_backend
from cluster.commands.options import Address, Local, Overrides, Recipe
from cluster.interrupt import INTERRUPTED
from cluster.prepare import prepare
from cluster.progress import make_reporter
from cluster.recipe.config import load_recipe
from cluster.recipe.tasks import refuse_tasks
from cluster.record import check_new_dataset, recording_config
from cluster.record import record as record_dataset
from cluster.recording import RecordingJob
from cluster.screen import screen
from cluster.teaching.training import train_teacher_for
from common.errors import RunFailedError
from common.storage import locate

commands = typer.Typer()


@commands.command()
def record(
    recipe: Recipe,
    out: Annotated[str, typer.Option(help="The dataset: a new folder, or a URI.")],
    env_steps: Annotated[
        int | None,
        typer.Option(min=1, help="Transitions to record; by default the recipe's total_env_steps."),
    ] = None,
    overrides: Overrides = None,
    address: Address = None,
    local: Local = False,
) -> None:
    """Record what the teacher of a recipe does and says, to distil from it later."""
    config = recording_config(load_recipe(recipe, overrides or []))
    refuse_tasks(config, "record")
    place = locate(out)
    check_new_dataset(place)
    preparation = prepare(
        config,
        num_cpus=num_cpus_here() if address is None and not local else math.inf,
        num_gpus=num_gpus_here() if address is None else math.inf,
    )
    reporter = make_reporter(screen())
    for warning in preparation.warnings:
        reporter.say(f"note: {warning}")
    with opened_backend(address, local) as backend:
        teacher = preparation.teacher
        if teacher is None:
            teacher, interrupted = train_teacher_for(preparation, reporter)
            if interrupted:
                raise KeyboardInterrupt
        job = RecordingJob(
            preparation=preparation,
            teacher=teacher,
            out=place,
            num_transitions=env_steps or config.total_env_steps,
        )
        manifest, complete = record_dataset(job, backend, reporter)
    if not manifest.transitions:
        raise RunFailedError(f"{out}: stopped before there was anything to record")
    reporter.say(
        f"{out}: {manifest.transitions:,} transitions, {manifest.episodes:,} episodes ended, "
        f"{manifest.num_bytes:,} bytes in {len(manifest.parts)} parts"
    )
    if not complete:
        reporter.say("stopped early; the dataset is whole, and smaller than was asked for")
        sys.exit(INTERRUPTED)
