"""`stillhouse report | compare`: what runs came to, as pages, tables and JSON."""

import json
from typing import Annotated

import typer
from rich.console import Console

from cluster.commands.options import AsJson
from cluster.report.comparison import (
    read_rows,
    render_comparison,
    screen_settings,
    screen_table,
)
from cluster.report.delivery import write_report
from cluster.run_directory import check_writable
from common.storage import Location, locate

commands = typer.Typer()

Out = Annotated[str | None, typer.Option(help="The .html file to write.")]


@commands.command()
def report(
    run_dir: Annotated[
        str, typer.Argument(help="A run, whether it has ended or not.", show_default=False)
    ],
    out: Out = None,
) -> None:
    """Write what a run came to as one page: report.html in its run directory, or --out."""
    if out is not None:
        check_writable(out)
    _say_written(write_report(run_dir, out))


@commands.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(help="Runs, or sweeps for all of theirs.", show_default=False),
    ],
    as_json: AsJson = False,
    out: Out = None,
) -> None:
    """Show the students of several runs in one table, and with --out in a page with a plot."""
    if out is not None:
        check_writable(out)
    rows = read_rows(runs)
    target = None if out is None else locate(out)
    if target is not None:
        target.write_text(render_comparison(rows))
    if as_json:
        print(json.dumps([row.as_json() for row in rows], allow_nan=False))
        return
    if target is not None:
        _say_written(target)
    Console().print(screen_table(rows))
    if (settings := screen_settings(rows)) is not None:
        Console().print(settings)


def _say_written(target: Location) -> None:
    print(f"{target}: {target.num_bytes():,} bytes")
