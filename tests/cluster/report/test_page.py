"""A report is one file that fetches nothing, and what users name is text in it."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from cluster.report.page import render_report
from cluster.report.run_data import read_run
from tests.cluster.report.made_runs import (
    RECIPE,
    disagreements,
    evaluation,
    frame_disagreements,
    log_line,
    metrics,
    task_scores,
    write_made_run,
)

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


class Elements(HTMLParser):
    """Remembers all elements and the headings."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self._in: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in = tag

    def handle_data(self, data: str) -> None:
        if self._in in ("h1", "h2") and data.strip():
            self.headings.append(data.strip())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(folder: Path, **made: Any) -> str:
    return render_report(read_run(write_made_run(folder, **made)))


def whole(folder: Path) -> str:
    return page_of(folder, scores=evaluation(), found=disagreements())


def test_the_verdict_comes_first_and_all_sections_follow(tmp_path: Path) -> None:
    headings = Elements(whole(tmp_path)).headings
    assert headings == [
        "Good enough",
        "Scores and costs",
        "How it learned",
        "How the run went",
        "Side by side",
        "Where they disagree most",
        "Repeat it",
    ]


def test_nothing_is_fetched(tmp_path: Path) -> None:
    page = whole(tmp_path)
    found = Elements(page)
    for tag, attributes in found.tags:
        for name in ("src", "href", "srcset", "poster", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, value)
    policy = next(a["content"] for a in found.of("meta") if "http-equiv" in a)
    assert "default-src 'none'" in str(policy)
    assert not re.search(r"@import|url\(", page[: page.index("</style>")])


def test_tables_and_pictures_are_accessible(tmp_path: Path) -> None:
    page = page_of(tmp_path, scores=evaluation(), found=disagreements(pong=frame_disagreements()))
    found = Elements(page)
    assert all(attributes.get("scope") in ("col", "row") for attributes in found.of("th"))
    assert len(found.of("caption")) == len(found.of("table"))
    assert len(found.of("img")) == 6
    told = [a for a in found.of("img") if a.get("aria-hidden") != "true"]
    assert len(told) == 3
    assert all(len(str(attributes.get("alt"))) > 40 for attributes in told)
    plots = [a for a in found.of("div") if "data-chart" in a]
    assert len(plots) >= 9
    assert all(a["role"] == "img" and a["aria-label"] for a in plots)


def test_whatever_users_name_is_text(tmp_path: Path) -> None:
    """The page has the elements that it has with harmless names."""

    def made(name: str, folder: str) -> Elements:
        recipe = RECIPE.replace("CartPole-v1", name).replace("teacher.safe", f"{name}.safe")
        found = disagreements()["tasks"]["CartPole-v1"] | {"actions": [name, "right"]}
        page = page_of(
            tmp_path / folder,
            recipe=recipe,
            lines=metrics(9, name, "other"),
            scores=evaluation(**{name: task_scores(acting=name), "other": task_scores()}),
            found=disagreements(**{name: found, "other": {"reason": name}}),
            log=log_line("the run starts") + log_line(name, "warning"),
        )
        return Elements(page)

    harmless, hostile = made("x", "a"), made(HOSTILE, "b")
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in harmless.tags]
    assert not any("onerror" in attributes for _, attributes in hostile.tags)


def test_a_picture_that_is_none_runs_nothing(tmp_path: Path) -> None:
    found = frame_disagreements()
    found["examples"] = [found["examples"][0] | {"png": '"><script>alert(1)</script>'}]
    page = page_of(tmp_path, found=disagreements(pong=found))
    assert "<script>alert(1)" not in page


def test_a_run_that_has_nothing_yet_has_a_report(tmp_path: Path) -> None:
    page = page_of(tmp_path, recipe="", lines=[], log="")
    assert Elements(page).headings == [
        "No verdict",
        "Side by side",
        "Where they disagree most",
        "Repeat it",
    ]
    assert "No game of this run was recorded" in page
    assert "Plotly" not in page.replace("Plotly.react", "")


def test_a_run_that_played_nothing_shows_its_labels(tmp_path: Path) -> None:
    held_out = {"transitions": 507, "greedy_agreement": 0.9, "kl": 0.01}
    page = page_of(tmp_path, scores=evaluation(toy={"greedy_agreement": 0.9, "held_out": held_out}))
    assert "Not played" in page
    assert "held out: same greedy action" in page


def test_a_run_of_days_stays_small(tmp_path: Path) -> None:
    lines = metrics(20_000, "light", "heavy")
    page = page_of(
        tmp_path,
        lines=lines,
        scores=evaluation(light=task_scores(), heavy=task_scores()),
        found=disagreements(light=frame_disagreements(18), heavy=frame_disagreements(18)),
    )
    assert len(page.encode()) < 8_000_000


@pytest.mark.parametrize("games", [1, 5_000_000])
def test_a_video_is_shown_or_said_to_be_too_large(games: int, tmp_path: Path) -> None:
    write_made_run(tmp_path, scores=evaluation())
    (tmp_path / "games").mkdir()
    (tmp_path / "games" / "game.mp4").write_bytes(bytes(games))
    (tmp_path / "games" / "game.json").write_text('{"return_teacher": 21.0, "return_student": 20}')
    page = render_report(read_run(tmp_path))
    assert ("<video" in page) == (games == 1)
    assert ("more than the 4 MB that fit into a page" in page) == (games > 1)
    assert "the teacher ended with 21.00, the student with 20.00" in page


def test_a_film_that_ends_before_its_game_says_so(tmp_path: Path) -> None:
    write_made_run(tmp_path, scores=evaluation())
    (tmp_path / "games").mkdir()
    (tmp_path / "games" / "game.mp4").write_bytes(b"a")
    facts = '{"return_teacher": 3.0, "return_student": 2, "steps": 584, "cut": true}'
    (tmp_path / "games" / "game.json").write_text(facts)
    page = render_report(read_run(tmp_path))
    assert "the teacher had 3.00, the student 2.00 after 584 steps, where the film ends" in page
