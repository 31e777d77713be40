"""`stillhouse export`: a policy as a file or folder that other runtimes read.

What is written is run at once, in its own runtime, against the policy: on real observations, and
by play where the environment is known.
"""

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from cluster.commands.options import AsJson, InEnv, OfRecipe, Task, Trust
from cluster.run_directory import check_writable
from common.errors import ConfigError, RunFailedError
from common.storage import Location, locate

if TYPE_CHECKING:
    from cluster.exports.source import Source
    from learners.export import ExportFormat, Precision

commands = typer.Typer()


@commands.command()
def export(
    source: Annotated[
        str, typer.Argument(help="A run directory or a policy file.", show_default=False)
    ],
    format: Annotated[
        str,
        typer.Option(help="onnx, pt2, sb3, rlmodule (takes frames with channels last) or c"),
    ] = "onnx",
    precision: Annotated[
        str | None,
        typer.Option(help="float32; of onnx also float16 and int8; of c int8", show_default=False),
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="The file or folder to write; by default beside the policy.")
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            help="A dataset of stillhouse record to compare on, and to calibrate int8 with; by "
            "default the run's saved replay, its dataset, or a play of the policy."
        ),
    ] = None,
    play: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Full episodes that policy and export play; by default as many as the run's "
            "evaluation had, and none of a policy file.",
        ),
    ] = None,
    recipe: OfRecipe = None,
    env: InEnv = None,
    trust: Trust = False,
    task: Task = None,
    as_json: AsJson = False,
) -> None:
    """Write a policy in a format that other runtimes read, and check it there."""
    chosen, precise = _chosen(format, precision)
    from cluster.exports.exporting import export_checked
    from cluster.exports.source import open_source
    from cluster.scene import Scene

    scene = Scene(recipe=recipe, env=env, task=task, trust=trust)
    found = open_source(source, scene)
    target = _target(found, chosen, precise) if out is None else locate(out)
    if target == found.path:
        raise ConfigError(f"{target}: is the policy itself; name another file with --out")
    check_writable(target, is_folder=chosen.is_folder)
    scores = export_checked(
        found, format, precise, target, calibration=calibration, num_episodes=play
    )
    if as_json:
        print(json.dumps(scores.as_json()))
    else:
        print(f"{target}: {scores.cost.num_bytes:,} bytes")
        Console().print(scores.table())
        if scores.notes:
            print(scores.notes)
        if scores.remark is not None:
            print(f"note: {scores.remark}")
    check, limits = scores.check, chosen.limits[precise]
    if check is not None and not check.suffices(limits):
        raise RunFailedError(
            f"{target}: not like the policy, it {check}; {precise} is held to "
            f"{limits.told(check)}. The file is kept; see how it plays, or take another precision"
        )


def _chosen(format: str, precision: str | None) -> "tuple[ExportFormat, Precision]":
    """Return format and precision by their names, by default the format's first precision."""
    from learners.export import EXPORT_FORMATS

    if format not in EXPORT_FORMATS:
        allowed = ", ".join(EXPORT_FORMATS)
        raise ConfigError(f"--format {format}: unknown format; allowed: {allowed}")
    chosen = EXPORT_FORMATS[format]
    if precision is None:
        return chosen, chosen.precisions[0]
    for known in chosen.precisions:
        if precision == known:
            return chosen, known
    allowed = ", ".join(chosen.precisions)
    raise ConfigError(f"--precision {precision}: not one of {format}'s; allowed: {allowed}")


def _target(source: "Source", chosen: "ExportFormat", precision: "Precision") -> Location:
    """Return where an export goes by default: beside the policy, told apart by its name."""
    parts = [] if source.task is None else [source.task]
    parts += [] if precision == chosen.precisions[0] else [precision]
    return source.path.with_suffix("".join(f".{part}" for part in parts) + chosen.suffix)
