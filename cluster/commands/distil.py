"""`stillhouse run | resume | check`: a recipe from its teacher to its student."""

import json
import math
import sys
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Annotated, NamedTuple

import typer

from cluster.backends import num_cpus_here, num_gpus_here, opened_backend
from cluster.board import RunStatus
from cluster.commands.options import Address, AsJson, Detach, Local, Overrides, Recipe
from cluster.commands.summary import summary
from cluster.control import BoardReporter, Control
from cluster.finished import finished_evaluation, require_share, share_reached
from cluster.interrupt import INTERRUPTED
from cluster.next_command import next_command
from cluster.prepare import prepare
from cluster.progress import make_reporter
from cluster.recipe.config import RunConfig, load_recipe
from cluster.recipe.tasks import refuse_tasks
from cluster.run_directory import (
    RUNS,
    RunDirectory,
    check_new_directory,
    create_run_directory,
    kept_teacher,
    open_run_directory,
    save_recipe,
)
from cluster.screen import screen
from common.errors import ConfigError, RunDirectoryError
from common.policies.policy import Policy
from common.storage import Location, locate

commands = typer.Typer()


class Where(NamedTuple):
    """Where a run's work is done."""

    address: str | None
    local: bool
    detached: bool


@commands.command()
def run(
    recipe: Recipe,
    overrides: Overrides = None,
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    run_dir: Annotated[
        str | None,
        typer.Option(help="Where to write, a folder or a URI; by default runs/NAME-TIME."),
    ] = None,
    go_on: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --run-dir where there is one.")
    ] = False,
    address: Address = None,
    local: Local = False,
    detach: Detach = False,
) -> None:
    """Distil a teacher into a student: train, evaluate, export."""
    named = [] if name is None else [f'name="{name}"']
    config = load_recipe(recipe, [*(overrides or []), *named])
    if go_on and run_dir is None:
        raise ConfigError("--resume needs --run-dir: the run directory to go on with")
    if go_on and run_dir is not None and RunDirectory(run_dir).recipe.is_file():
        resume(run_dir, [*(overrides or []), *named], address, local, detach)
        return
    path = locate(run_dir or RUNS / f"{config.name}-{datetime.now():%Y%m%d-%H%M%S}")
    _refuse_former_run(RunDirectory(path))
    check_new_directory(path)
    _execute(config, path, Where(address, local, detach), resumed=None)


@commands.command()
def resume(
    run_dir: Annotated[str, typer.Argument(help="A run directory.", show_default=False)],
    overrides: Overrides = None,
    address: Address = None,
    local: Local = False,
    detach: Detach = False,
) -> None:
    """Go on with a run from its newest checkpoint; a finished one, where --set changes it."""
    directory, config = open_run_directory(run_dir, overrides or [])
    former = open_run_directory(run_dir, [])[1] if overrides else config
    if config == former and (evaluation := finished_evaluation(directory)) is not None:
        print(
            f"{directory.path}: finished; {share_reached(evaluation)}; train longer with "
            f"--set total_env_steps=N, score again with: {next_command(directory, 'evaluate')}"
        )
        require_share(directory, evaluation, config.evaluation.required_share)
        return
    where = Where(address, local, detach)
    _execute(config, directory.path, where, resumed=directory, former=former)


@commands.command()
def check(recipe: Recipe, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Find what is wrong with a recipe, without starting anything."""
    config = load_recipe(recipe, overrides or [])
    preparation = prepare(config, num_cpus=num_cpus_here(), num_gpus=num_gpus_here())
    if as_json:
        print(json.dumps({"name": config.name, "warnings": preparation.warnings}))
        return
    for warning in preparation.warnings:
        print(f"note: {warning}")
    for line in summary(preparation):
        print(line)
    print(f"{recipe}: good")


def _refuse_former_run(directory: RunDirectory) -> None:
    """Say how to go on with a run where a new one is asked for.

    Raises:
        RunDirectoryError: there is one.
    """
    if directory.recipe.is_file():
        raise RunDirectoryError(
            f"{directory.path}: holds a run; go on with it: {next_command(directory, 'resume')}; "
            f"or name another folder with --run-dir"
        )


def _execute(
    config: RunConfig,
    path: Location,
    where: Where,
    *,
    resumed: RunDirectory | None,
    former: RunConfig | None = None,
) -> None:
    """Prepare, then run all phases, or have the cluster run them.

    Args:
        config: the recipe.
        path: of the run directory.
        where: to do the work.
        resumed: the run directory, of a run that goes on.
        former: its recipe as it was.
    """
    if where.detached and (where.local or where.address is None):
        raise ConfigError(
            "--detach needs --address (or RAY_ADDRESS): a cluster that outlives this command; "
            "ray start --head starts one on this machine"
        )
    if where.detached:
        refuse_tasks(config, "--detach")
    # One process takes turns, and a cluster is asked for what it has once it is reached.
    preparation = prepare(
        config,
        num_cpus=num_cpus_here() if where.address is None and not where.local else math.inf,
        num_gpus=num_gpus_here() if where.address is None else math.inf,
        teacher=None if resumed is None else kept_teacher(resumed, config),
    )
    reporter = make_reporter(screen())
    from cluster.controller import Controller
    from cluster.resumption import check_goes_on

    if resumed is not None:
        if former is not None and config != former:
            check_goes_on(preparation, resumed, former)
        save_recipe(resumed, config)

    with opened_backend(where.address, where.local) as backend:
        path = locate(path.absolute) if where.detached else path
        directory = resumed or create_run_directory(path, config)
        reporter.say(f"run directory: {path}")
        status = RunStatus(name=config.name, run_dir=path.absolute, task=config.task_name)
        if where.detached:
            # The cluster gets the teacher as it was read here, and could not say all of them again.
            for warning in preparation.warnings:
                reporter.say(f"note: {warning}")
            _hand_over(config, RunDirectory(path), preparation.teacher, status)
            return
        control = Control(status)
        with nullcontext() if where.local else _on_board(control):
            told = BoardReporter(control, reporter)
            outcome = Controller(preparation, directory, backend, told, control).run()
    if not outcome.finished:
        reporter.say(
            f"stopped; the student so far is {directory.student}; go on with: "
            f"{next_command(directory, 'resume')}"
        )
        sys.exit(INTERRUPTED)
    reporter.say(f"student: {directory.student}")


def _hand_over(
    config: RunConfig, directory: RunDirectory, teacher: Policy | None, status: RunStatus
) -> None:
    """Let the cluster run it."""
    from cluster.on_ray.detached import launch, take_teacher_along

    save_recipe(directory, take_teacher_along(directory, config, teacher))
    launch(status)
    print(
        f"{status.name} is running; see it with: stillhouse status, stillhouse watch {status.name}"
    )


def _on_board(control: Control) -> AbstractContextManager[None]:
    from cluster.on_ray.board import attached

    return attached(control)
