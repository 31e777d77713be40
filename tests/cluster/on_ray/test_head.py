"""Questions to a head that answers, that fails, and that is away."""

import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from cluster.on_ray import head as ray_head
from cluster.on_ray import resources as ray_resources
from cluster.on_ray.head import AWAY, HeadAwayError, ask_head, head_is_away


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Return what brings the head back; a question stays open until then."""
    monkeypatch.setattr(ray_head, "ANSWER_WITHIN_S", 0.05)
    back = threading.Event()
    yield back
    back.set()
    if ray_head._open is not None:
        ray_head._open.join()


def test_an_answer_is_passed_on() -> None:
    assert ask_head(lambda: 42) == 42
    assert ask_head(lambda: None) is None
    assert not head_is_away()


def test_what_goes_wrong_with_a_question_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        ask_head(lambda: 1 // 0)
    assert ask_head(lambda: 42) == 42


def test_nobody_waits_for_a_head_that_is_away(away: threading.Event) -> None:
    with pytest.raises(HeadAwayError):
        ask_head(away.wait)
    assert head_is_away()
    asked: list[int] = []
    with pytest.raises(HeadAwayError):
        ask_head(lambda: asked.append(1))
    assert asked == []


def test_a_head_that_is_back_is_asked_again(away: threading.Event) -> None:
    with pytest.raises(HeadAwayError):
        ask_head(away.wait)
    away.set()
    assert ray_head._open is not None
    ray_head._open.join()
    assert not head_is_away()
    assert ask_head(lambda: 42) == 42


def test_an_actor_whose_node_is_unknown_is_not_taken_for_waiting(
    away: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        ray_resources, "state", SimpleNamespace(actors=lambda actor_id: away.wait())
    )
    actor = SimpleNamespace(_actor_id=b"id")
    assert ray_resources.node_of(actor) is not None
    assert ray_resources.missing(2, "env runner", 0.5).endswith(f"0.5 CPUs each: {AWAY}")
