"""The live page of a real run in a real browser: it moves, it steers, and it asks for its token."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, Page
from ray.cluster_utils import Cluster

from tests.commands import started

ENDLESS = ("--set", "total_env_steps=100_000_000", "--set", "learner.checkpoint_interval_s=1")


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start a cluster of one node and a detached run on it."""
    node = {"num_cpus": 4, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        launched = started(folder, "run", "recipe.toml", "--name", "walk", "--detach", *ENDLESS)
        printed, _ = launched.communicate(timeout=120)
        assert launched.returncode == 0, printed
        yield
    finally:
        cluster.shutdown()


@pytest.fixture
def url(run: None, folder: Path) -> Iterator[str]:
    """Serve the run's page."""
    server = started(folder, "watch", "walk", "--web")
    assert server.stdout is not None
    address = server.stdout.readline().strip()
    assert address.startswith("http://127.0.0.1:"), address + server.stdout.read()
    yield address
    server.send_signal(signal.SIGINT)
    try:
        server.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        server.kill()
        raise


def until(page: Page, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Ask the page's server for the state until it is as wanted, for two minutes at most."""
    deadline = time.monotonic() + 120
    while not condition(state := page.evaluate("() => fetch('/state').then((r) => r.json())")):
        assert time.monotonic() < deadline, state
        page.wait_for_timeout(200)
    assert isinstance(state, dict)
    return state


@pytest.mark.ray
@pytest.mark.slow
def test_the_page_moves_scales_and_stops_a_run(url: str, browser: Browser) -> None:
    base = url.partition("?")[0]
    for path in ("", "state", "charts", "game", "?token=wrong"):
        with pytest.raises(HTTPError, match="401"):
            urlopen(base + path)

    page = browser.new_page(viewport={"width": 390, "height": 844})
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: said.type == "error" and problems.append(said.text))
    page.on("dialog", lambda dialog: dialog.accept())
    foreign = set[str]()
    page.on("request", lambda request: request.url.startswith(base) or foreign.add(request.url))
    page.goto(url)
    assert "token" not in page.url

    first = until(page, lambda state: state["env_steps"] > 2_000)
    assert first["phase"] == "distilling"
    page.wait_for_selector("#charts svg")
    page.wait_for_selector("#game:not([hidden])", timeout=60_000)
    shown = page.locator("#tiles dd").first.inner_text()
    until(page, lambda state: state["env_steps"] > first["env_steps"])
    page.wait_for_function(
        "(former) => document.querySelector('#tiles dd').textContent !== former", arg=shown
    )
    actors = page.locator("#actors th").all_inner_texts()
    assert actors == ["env_runner 0", "shard 0", "learner"]

    page.fill("#runners", "2")
    page.click("text=Scale")
    until(page, lambda state: state["env_runners"] == 2)
    page.wait_for_selector("#actors th:text('env_runner 1')")

    page.click("#pause")
    until(page, lambda state: bool(state["paused"]))
    page.wait_for_selector("text=Go on")
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")

    page.click("#stop")
    until(page, lambda state: bool(state["ended"]))
    page.wait_for_selector("#stop:disabled")
    assert problems == []
    assert not {address for address in foreign if not address.startswith("data:")}
