"""The command line: `stillhouse run | check | evaluate | teach | resume | bench`, and the commands
that have files of their own: `export` in `cluster.export_command`, `record` in
`cluster.record_command`, `sweep` in `cluster.sweep_command`, and those on runs of a cluster in
`cluster.run_commands`.

Exit codes: 0 done, 2 the user's mistake (one line, no traceback), 1 ours, 130 stopped by Ctrl-C.
"""

import json
import math
import sys
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import IO, Annotated, Any, NamedTuple, cast

import typer
from rich.console import Console

from cluster.backends import num_cpus_here, num_gpus_here, opened_backend
from cluster.board import RunStatus
from cluster.config import RunConfig, load_recipe
from cluster.control import BoardReporter, Control
from cluster.export_command import commands as export_commands
from cluster.options import Address, AsJson, Detach, Local, Overrides, Recipe, Task
from cluster.prepare import prepare
from cluster.progress import Reporter, make_reporter
from cluster.record_command import commands as record_commands
from cluster.run_commands import commands
from cluster.run_directory import (
    RunDirectory,
    check_new_directory,
    check_writable,
    create_run_directory,
    kept_teacher,
    open_run_directory,
    read_evaluation,
    save_recipe,
    write_json,
)
from cluster.screen import Screen
from cluster.sweep_command import commands as sweep_commands
from cluster.task_config import refuse_tasks
from cluster.teacher_checks import refuse_memory
from cluster.teacher_view import refuse_view
from common.credentials import refuse_credentials
from common.errors import ConfigError, RunDirectoryError, StillhouseError, UserError
from common.policies.policy import Policy, load_policy, save_policy
from common.storage import Location, locate
from common.threads import set_threads

INTERRUPTED = 130
RUNS = Path("runs")
PONG = Path("deploy/recipes/pong.toml")

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Distil trained reinforcement-learning policies into small ones.",
)

app.add_typer(export_commands)
app.add_typer(record_commands)
app.add_typer(commands)
app.add_typer(sweep_commands)


class Where(NamedTuple):
    """Where a run's work is done."""

    address: str | None
    local: bool
    detached: bool


@app.command()
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
    check_new_directory(path)
    _execute(config, path, Where(address, local, detach), resumed=None)


@app.command()
def resume(
    run_dir: Annotated[str, typer.Argument(help="A run that was stopped.", show_default=False)],
    overrides: Overrides = None,
    address: Address = None,
    local: Local = False,
    detach: Detach = False,
) -> None:
    """Go on with a run from its newest checkpoint."""
    directory, config = open_run_directory(run_dir, overrides or [])
    save_recipe(directory, config)
    _execute(config, directory.path, Where(address, local, detach), resumed=directory)


@app.command()
def check(recipe: Recipe, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Find what is wrong with a recipe, without starting anything."""
    config = load_recipe(recipe, overrides or [])
    preparation = prepare(config, num_cpus=num_cpus_here(), num_gpus=num_gpus_here())
    if as_json:
        print(json.dumps({"name": config.name, "warnings": preparation.warnings}))
        return
    for warning in preparation.warnings:
        print(f"note: {warning}")
    print(f"{recipe}: good")


@app.command()
def evaluate(
    target: Annotated[
        str, typer.Argument(help="A run directory with a student.", show_default=False)
    ],
    episodes: Annotated[int | None, typer.Option(min=2, help="Full episodes of each.")] = None,
    overrides: Overrides = None,
    address: Address = None,
    local: Local = False,
    as_json: AsJson = False,
    task: Task = None,
) -> None:
    """Score a run's student against its teacher again, and write evaluation.json."""
    changes = [] if episodes is None else [f"evaluation.num_episodes={episodes}"]
    directory, config = open_run_directory(target, [*(overrides or []), *changes])
    if not directory.student.exists():
        raise RunDirectoryError(f"{target}: has no student yet; finish it with stillhouse resume")
    student = load_policy(directory.student)
    former = read_evaluation(directory)
    # The controller imports Ray and torch's exporters; errors above come without that wait.
    from cluster.evaluation import judge_student

    # Playing episodes reserves nothing for env runners and learner.
    preparation = prepare(
        config, num_cpus=math.inf, num_gpus=math.inf, teacher=kept_teacher(directory, config)
    )
    if (teacher := preparation.teacher) is None:
        raise RunDirectoryError(f"{target}: has no {directory.teacher.name} to compare with")
    if task is not None:
        preparation = preparation.with_task(task)
    with opened_backend(address, local) as backend:
        scores = judge_student(preparation, backend, teacher, student)
    found = scores.as_json()
    if task is not None:  # what was said of all together stays
        found = {"tasks": former.get("tasks", {}) | found["tasks"]}
    write_json(directory.evaluation, former | found)
    if as_json:
        print(json.dumps(scores.as_json()))
    else:
        Console().print(scores.table())


@app.command()
def teach(
    recipe: Recipe,
    out: Annotated[Path, typer.Option(help="The teacher's file (.safetensors).")],
    overrides: Overrides = None,
) -> None:
    """Train the teacher of a recipe's [teach] table with RLlib, and save it."""
    config = load_recipe(recipe, overrides or [])
    if config.teach is None:
        raise ConfigError(f"{recipe}: has no [teach] table, so there is no teacher to train")
    if out.suffix != ".safetensors":
        raise ConfigError(f"--out {out}: a policy file's name ends in .safetensors")
    check_writable(out)
    prepare(config, num_cpus=num_cpus_here(), num_gpus=num_gpus_here())
    from cluster.controller import train_teacher_for

    reporter = make_reporter(Console())
    with opened_backend(None, local=False):
        teacher, _ = train_teacher_for(config, reporter)
    save_policy(teacher, out)
    reporter.say(
        f"{out}: mean greedy return {teacher.spec.measured['mean_return']:.1f} over "
        f"{teacher.spec.measured['episodes']} episodes"
    )


@app.command()
def bench(
    recipe: Annotated[Path, typer.Option(help="The recipe whose road is measured.")] = PONG,
    overrides: Overrides = None,
    seconds: Annotated[float, typer.Option(min=1.0, help="Of an end-to-end measurement.")] = 20.0,
    rounds: Annotated[int, typer.Option(min=1, help="How often everything is measured.")] = 5,
    parts_only: Annotated[
        bool, typer.Option("--parts-only", help="Leave the end-to-end measurements out.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write all figures there, as JSON.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure the parts of a recipe alone, and the whole, on this machine."""
    config = load_recipe(recipe, overrides or [])
    refuse_tasks(config, "bench")
    refuse_view(config, "bench")
    # Any temperature costs the same, and no score is taken here.
    config = config.model_copy(update={"objective": config.objective.with_temperature(1.0)})
    preparation = prepare(config, num_cpus=num_cpus_here(), num_gpus=num_gpus_here())
    if preparation.teacher is None or config.dataset is not None:
        raise ConfigError(f"{recipe}: bench needs a [teacher] with a path")
    refuse_memory(preparation.teacher, "bench")
    from cluster.bench.rounds import run_bench
    from cluster.ray_backend import RayBackend

    errors = Console(stderr=True)
    report = run_bench(
        preparation,
        preparation.teacher,
        lambda: RayBackend(address=None, num_cpus=num_cpus_here()),
        num_cores=num_cpus_here(),
        seconds=seconds,
        rounds=rounds,
        with_whole=not parts_only,
        say=lambda text: errors.print(text, markup=False),
    )
    if out is not None:
        write_json(out, report.as_json())
    if as_json:
        print(json.dumps(report.as_json()))
        return
    for table in report.tables():
        Console().print(table)


def main() -> None:
    """Run the command line and turn errors into exit codes."""
    set_threads(1)
    try:
        refuse_credentials("the command line", sys.argv[1:])
        app()
    except UserError as error:
        _fail(error, 2)
    except StillhouseError as error:
        _fail(error, 1)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _execute(
    config: RunConfig, path: Location, where: Where, *, resumed: RunDirectory | None
) -> None:
    """Prepare, then run all phases, or have the cluster run them."""
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
    reporter: Reporter = make_reporter(Console(file=cast("IO[str]", Screen(sys.stdout))))
    from cluster.controller import Controller

    with opened_backend(where.address, where.local) as backend:
        path = locate(path.absolute) if where.detached else path
        directory = resumed or create_run_directory(path, config)
        reporter.say(f"run directory: {path}")
        status = RunStatus(name=config.name, run_dir=path.absolute, task=config.task_name)
        if where.detached:
            _hand_over(config, RunDirectory(path), preparation.teacher, status)
            return
        control = Control(status)
        with nullcontext() if where.local else _on_board(control):
            told = BoardReporter(control, reporter)
            outcome = Controller(preparation, directory, backend, told, control).run()
    if not outcome.finished:
        reporter.say(
            f"stopped; the student so far is {directory.student}; go on with: "
            f"stillhouse resume {path}"
        )
        sys.exit(INTERRUPTED)
    reporter.say(f"student: {directory.student}")


def _hand_over(
    config: RunConfig, directory: RunDirectory, teacher: Policy | None, status: RunStatus
) -> None:
    """Let the cluster run it."""
    from cluster.detached import launch, take_teacher_along

    save_recipe(directory, take_teacher_along(directory, config, teacher))
    launch(status)
    print(
        f"{status.name} is running; see it with: stillhouse status, stillhouse watch {status.name}"
    )


def _on_board(control: Control) -> AbstractContextManager[None]:
    from cluster.ray_board import attached

    return attached(control)


def _fail(error: Any, code: int) -> None:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(code)
