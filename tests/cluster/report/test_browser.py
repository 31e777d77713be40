"""Pages in a real browser: they draw without an error, ask the network for nothing, and fit."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from cluster.report.comparison import read_rows, render_comparison
from cluster.report.page import render_report
from cluster.report.run_data import read_run
from tests.cluster.report.made_runs import (
    disagreements,
    evaluation,
    frame_disagreements,
    metrics,
    task_scores,
    write_made_run,
)

HOSTILE = "<script>document.title = 'owned'</script>"
WIDTHS = (390, 1440)
DRAWN = "() => [...document.querySelectorAll('[data-chart]')].every(p => p.querySelector('svg'))"
FITS = """() => [...document.querySelectorAll('[data-chart]')].every(p =>
    Math.abs(p.querySelector('svg').getBoundingClientRect().width - p.clientWidth) < 2)"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write a report of one task, one of two, one of a run that has only begun, a comparison."""
    folder = tmp_path_factory.mktemp("pages")
    one = write_made_run(folder / "one", scores=evaluation(), found=disagreements())
    two = write_made_run(
        folder / "two",
        lines=metrics(50, HOSTILE, "heavy"),
        scores=evaluation(**{HOSTILE: task_scores(), "heavy": task_scores(0.5)}),
        found=disagreements(**{HOSTILE: frame_disagreements(), "heavy": {"reason": HOSTILE}}),
    )
    begun = write_made_run(folder / "begun", lines=metrics(1))
    written = {run.name: render_report(read_run(run)) for run in (one, two, begun)}
    written["compared"] = render_comparison(read_rows([one, two, begun]))
    found = {}
    for name, text in written.items():
        found[name] = folder / f"{name}.html"
        found[name].write_text(text, encoding="utf-8")
    return found


class Watched:
    """A page that is open, with what it complained of and asked for."""

    def __init__(self, browser: Browser, file: Path, *, width: int, theme: str) -> None:
        self.page: Page = browser.new_page(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if theme == "dark" else "light",
        )
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())
        self.page.wait_for_function(DRAWN)


@pytest.mark.parametrize(
    ("name", "theme"),
    [("one", "dark"), ("two", "light"), ("two", "dark"), ("begun", "dark"), ("compared", "light")],
)
def test_a_page_draws_fits_and_asks_for_nothing(
    name: str, theme: str, browser: Browser, pages: dict[str, Path]
) -> None:
    watched = Watched(browser, pages[name], width=WIDTHS[0], theme=theme)
    page = watched.page
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function(FITS)  # plotly redraws a moment after a change of size
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert watched.complaints == []
    asked = [url for url in watched.requests if not url.startswith("data:")]
    assert asked == [pages[name].as_uri()]
    assert "owned" not in page.title()
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper))) < 200) == (theme == "dark")
    page.close()


def test_the_button_changes_page_and_charts_and_is_remembered(
    browser: Browser, pages: dict[str, Path]
) -> None:
    watched = Watched(browser, pages["one"], width=1440, theme="light")
    page = watched.page
    colour = "getComputedStyle(document.querySelector('[data-chart=loss] .js-line')).stroke"
    light = page.evaluate(colour)
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate(colour) != light
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert watched.complaints == []
    page.close()
