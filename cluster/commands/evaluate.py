"""`stillhouse evaluate`: a finished run's student against its teacher again."""

import json
import math
from typing import Annotated

import typer
from rich.console import Console

from cluster.backends import opened_backend
from cluster.commands.json_output import standard_output_kept
from cluster.commands.options import Address, AsJson, Local, Overrides, Task
from cluster.policy_files import kept_student
from cluster.prepare import prepare
from cluster.run_directory import kept_teacher, open_run_directory, read_evaluation, write_json
from common.errors import RunDirectoryError

commands = typer.Typer()


@commands.command()
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
    """Score a run's student against its teacher again, and write evaluation.json and the report."""
    changes = [] if episodes is None else [f"evaluation.num_episodes={episodes}"]
    directory, config = open_run_directory(target, [*(overrides or []), *changes])
    student = kept_student(directory)
    former = read_evaluation(directory)
    # The controller imports Ray and torch's exporters; errors above come without that wait.
    from cluster.evaluation import judge_student
    from cluster.report.delivery import write_report
    from cluster.report.disagreements import keep_disagreements
    from cluster.report.results import read_results
    from cluster.report.verdict import remarks

    # Playing episodes reserves nothing for env runners and learner.
    preparation = prepare(
        config, num_cpus=math.inf, num_gpus=math.inf, teacher=kept_teacher(directory, config)
    )
    if (teacher := preparation.teacher) is None:
        raise RunDirectoryError(f"{target}: has no {directory.teacher.name} to compare with")
    if task is not None:
        preparation = preparation.with_task(task)
    with standard_output_kept(as_json), opened_backend(address, local) as backend:
        scores = judge_student(preparation, backend, teacher, student)
    found = scores.as_json()
    if task is not None:  # what was said of all together stays
        found = {"tasks": former.get("tasks", {}) | found["tasks"]}
    write_json(directory.evaluation, former | found)
    keep_disagreements(directory, preparation, scores, teacher, student)
    write_report(directory.path)
    if as_json:
        print(json.dumps(scores.as_json()))
        return
    Console().print(scores.table())
    for told in remarks(read_results(scores.as_json())):
        print(f"note: {told}")
