"""`stillhouse export`: a policy as a file or folder that other runtimes read."""

from typing import Annotated

import typer

from cluster.options import Task
from cluster.run_directory import RunDirectory, check_writable
from common.errors import ConfigError
from common.storage import locate

commands = typer.Typer()


@commands.command()
def export(
    source: Annotated[
        str, typer.Argument(help="A run directory or a policy file.", show_default=False)
    ],
    format: Annotated[str, typer.Option(help="onnx, rlmodule or c")] = "onnx",
    out: Annotated[
        str | None, typer.Option(help="The file or folder to write; by default beside the policy.")
    ] = None,
    task: Task = None,
) -> None:
    """Write a policy in a format that other runtimes read."""
    from cluster.played_observations import played_observations
    from common.policies.tasks import policy_of_task
    from common.teachers import load_teacher
    from learners.export import EXPORT_FORMATS

    if format not in EXPORT_FORMATS:
        allowed = ", ".join(EXPORT_FORMATS)
        raise ConfigError(f"--format {format}: unknown format; allowed: {allowed}")
    path = locate(source)
    if path.is_dir():
        path = RunDirectory(path).student
    policy = load_teacher(path)
    target = path.with_suffix(f".{format}")
    if task is not None:
        policy = policy_of_task(policy, task)
        target = path.with_suffix(f".{task}.{format}")
    elif policy.spec.heads:
        names = ", ".join(head.name for head in policy.spec.heads)
        raise ConfigError(f"{path}: of several tasks; name one with --task: {names}")
    target = locate(out) if out is not None else target
    chosen = EXPORT_FORMATS[format]
    check_writable(target, is_folder=chosen.is_folder)
    seen = played_observations(policy, locate(source), task) if chosen.calibrates else None
    said = chosen.write(policy, target, seen)
    files = [target / name for name in target.names()] if chosen.is_folder else [target]
    print(f"{target}: {sum(file.num_bytes() for file in files):,} bytes")
    if said:
        print(said)
