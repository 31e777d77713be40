"""Brings the live page together: the run board, the run directory, the page's server."""

import asyncio
import math
from collections.abc import Callable
from contextlib import closing
from typing import Any

from cluster.live.feed import Board, RunFeed
from cluster.live.game import pictures
from cluster.live.server import LiveServer, Pictures
from cluster.prepare import prepare
from cluster.report.chart_style import DARK
from cluster.report.curves import course_charts
from cluster.report.metrics_log import MetricsLog
from cluster.report.page import plotly_source
from cluster.report.run_data import read_run
from cluster.report.score_charts import return_charts
from cluster.run_directory import kept_teacher, open_run_directory
from common.errors import ConfigError


def show_live(board: Board, name: str, *, port: int, say: Callable[[str], None]) -> None:
    """Serve a run's page until Ctrl-C.

    Args:
        board: the run board.
        name: of the run.
        port: of loopback; 0 for one that is free.
        say: told the page's address.

    Raises:
        ResourceError: there is no such run.
        RunDirectoryError: its directory cannot be reached from here.
        ConfigError: the port is taken.
    """
    run_dir = board.entry(name).status.run_dir
    past = read_run(run_dir)

    def draw(log: MetricsLog) -> dict[str, Any]:
        charts = return_charts(log, past.tasks, {})
        charts += course_charts(log, terms=past.terms, tasks=past.tasks)
        shown = [
            {"title": chart.title, "summary": chart.summary, "figure": chart.figure}
            for chart in charts
        ]
        return {"charts": shown, "dark": DARK}

    with closing(RunFeed(board, name, history=past.metrics, draw=draw)) as feed:
        server = LiveServer(feed, pictures=lambda: _games(run_dir), plotly=plotly_source())
        asyncio.run(_serve(server, port, say))


async def _serve(server: LiveServer, port: int, say: Callable[[str], None]) -> None:
    try:
        async with server.serving(port):
            say(f"{server.url}\n(Ctrl-C closes the page; the run goes on)")
            await asyncio.Event().wait()
    except OSError as error:
        raise ConfigError(
            f"--port {port}: cannot serve there ({error.strerror or error}); choose another, or "
            f"leave it out for one that is free"
        ) from None


def _games(run_dir: str) -> Pictures:
    """Play in the way of a run, from its directory."""
    directory, config = open_run_directory(run_dir, [])
    # Nothing is reserved for watching.
    preparation = prepare(
        config, num_cpus=math.inf, num_gpus=math.inf, teacher=kept_teacher(directory, config)
    )
    if preparation.teacher is None:
        raise ConfigError(f"{run_dir}: its teacher is still being trained")
    yield from pictures(preparation, preparation.teacher, directory.checkpoints)
