"""Commands on the runs of a cluster: `stillhouse status | watch | scale | pause | stop`.

All of them only talk to the run board (`cluster.board`), so they work from every terminal of the
cluster, whoever started the run.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from cluster.board import Entry
from common.errors import RunFailedError

if TYPE_CHECKING:
    from cluster.on_ray.board import BoardClient

commands = typer.Typer()

STOP_TIMEOUT_S = 300.0
FOREVER_S = 10.0**9

Name = Annotated[str, typer.Argument(help="Name of a run.", show_default=False)]
Address = Annotated[
    str | None,
    typer.Option(envvar="RAY_ADDRESS", help="Of the Ray cluster; by default that on this machine."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.0, help="Seconds to wait for it.")]


@commands.command()
def status(
    name: Annotated[str | None, typer.Argument(help="Of one run; by default all.")] = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Show the runs of a cluster and how they are."""
    with _board(address) as board:
        entries = board.entries() if name is None else [board.entry(name)]
        cluster = board.cluster
    if as_json:
        print(json.dumps([entry.as_json() for entry in entries], allow_nan=False))
    elif entries:
        Console().print(_table(entries, f"cluster at {cluster}"))
    else:
        print(f"no runs on the cluster at {cluster}")
    for entry in [] if as_json else entries:
        for line in _remarks(entry):
            print(f"{entry.status.name}: {line}")


@commands.command()
def watch(
    name: Name,
    address: Address = None,
    web: Annotated[bool, typer.Option("--web", help="As a page for the browser.")] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of the page; 0 for one that is free.")
    ] = 0,
) -> None:
    """Follow a run until it ends, or as a page; Ctrl-C leaves it going."""
    if web:
        from cluster.live.watching import show_live

        with _board(address) as board:
            show_live(board, name, port=port, say=lambda text: print(text, flush=True))
        return
    from cluster.progress import make_reporter

    reporter = make_reporter(Console())
    said = 0

    def show(entry: Entry) -> None:
        nonlocal said
        status = entry.status
        new = min(status.num_lines - said, len(status.lines))
        for line in status.lines[len(status.lines) - new :]:
            reporter.say(line)
        said = status.num_lines
        if not status.ended and status.total_env_steps:
            reporter.progress(
                status.phase, status.env_steps / status.total_env_steps, status.detail
            )

    with _board(address) as board:
        try:
            entry = board.wait(
                name, lambda entry: entry.status.ended, timeout_s=FOREVER_S, seen=show
            )
        finally:
            reporter.close()
    print(f"{name}: {_state(entry)}{_after_colon(entry.status.detail)}")
    if entry.status.phase == "failed" or not entry.status.ended:
        raise RunFailedError(f"{name}: {_state(entry)}")


@commands.command()
def scale(
    name: Name,
    env_runners: Annotated[int, typer.Option(min=1, help="How many there shall be.")],
    address: Address = None,
    timeout: Timeout = 60.0,
) -> None:
    """Add or remove env runners while the run goes on."""
    with _board(address, says_which=True) as board:
        board.want(name, num_env_runners=env_runners)
        entry = board.wait(name, lambda entry: _has(entry, env_runners), timeout_s=timeout)
    status = entry.status
    if _has(entry, env_runners):
        print(f"{name}: {env_runners} env runners")
        return
    why = status.waiting_for or f"the run is in its phase {status.phase}"
    print(f"{name}: {env_runners} env runners wanted, {status.env_runners} there; {why}")


@commands.command()
def pause(
    name: Name,
    off: Annotated[bool, typer.Option("--off", help="Go on again.")] = False,
    address: Address = None,
    timeout: Timeout = 60.0,
) -> None:
    """Hold a run: its env runners collect nothing until it goes on."""
    with _board(address, says_which=True) as board:
        board.want(name, paused=not off)
        entry = board.wait(name, lambda entry: entry.status.paused is not off, timeout_s=timeout)
    held = "paused" if entry.status.paused else "going on"
    print(f"{name}: {held}" + (f" ({entry.status.phase})" if entry.status.paused is off else ""))


@commands.command()
def stop(name: Name, address: Address = None, timeout: Timeout = STOP_TIMEOUT_S) -> None:
    """End a run with a checkpoint."""
    with _board(address, says_which=True) as board:
        board.want(name, stop=True)
        entry = board.wait(name, lambda entry: entry.status.ended, timeout_s=timeout)
    if not entry.status.ended:
        raise RunFailedError(f"{name}: did not stop within {timeout:g} s; it is still wanted")
    print(f"{name}: {_state(entry)}; go on with: stillhouse resume {entry.status.run_dir}")


@contextmanager
def _board(address: str | None, *, says_which: bool = False) -> Iterator["BoardClient"]:
    """Join the cluster to talk to its board, and leave it.

    Args:
        address: of the cluster; None for the one on this machine.
        says_which: whether to print which one that is, where nobody gave an address.
    """
    import ray

    from cluster.on_ray.board import BoardClient
    from cluster.on_ray.connection import connect

    connect(address, with_code=False)
    try:
        board = BoardClient()
        if says_which and address is None:
            print(f"on the cluster at {board.cluster}", flush=True)
        yield board
    finally:
        ray.shutdown()


def _has(entry: Entry, num_env_runners: int) -> bool:
    """Whether so many env runners collect, and no more are leaving."""
    status = entry.status
    return status.env_runners == status.env_runners_wanted == num_env_runners


def _state(entry: Entry) -> str:
    if entry.status.ended:
        return entry.status.phase
    if not entry.alive:
        return f"silent for {entry.age_s:.0f} s"
    return "paused" if entry.status.paused else entry.status.phase


def _remarks(entry: Entry) -> Iterator[str]:
    """Yield what a person should know beyond the table."""
    status = entry.status
    if status.detail:
        yield status.detail
    if status.ended:
        return
    if status.teacher is not None:
        yield status.teacher
    if status.waiting_for is not None:
        yield status.waiting_for
    if status.stands_still is not None:
        yield status.stands_still
    if not entry.alive:
        yield f"nothing was heard of it; go on with: stillhouse resume {status.run_dir}"


def _table(entries: list[Entry], title: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in ("run", "state", "env steps", "env runners", "restarts", "run directory"):
        table.add_column(column, overflow="fold")
    for entry in entries:
        status = entry.status
        steps = f"{status.env_steps:,}"
        if status.total_env_steps:
            steps += f" of {status.total_env_steps:,}"
        runners = str(status.env_runners)
        if status.env_runners != status.env_runners_wanted:
            runners += f" of {status.env_runners_wanted}"
        restarts = ", ".join(f"{role} {n}" for role, n in status.restarts.items() if n) or "none"
        table.add_row(status.name, _state(entry), steps, runners, restarts, status.run_dir)
    return table


def _after_colon(text: str) -> str:
    return f": {text}" if text else ""
