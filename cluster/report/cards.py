"""Disagreements as a page shows them: a picture or a table of numbers, and both policies' bars."""

from collections.abc import Iterator
from dataclasses import dataclass

from cluster.report.disagreements import Example, TaskDisagreements
from cluster.report.wording import number, percent, short

MOST_ACTIONS = 8
"""Bars of a card; further actions are summed up."""

MOST_ENTRIES = 16
"""Numbers of a card: of longer vectors, the most unusual ones."""

WIDEST = 3.0
"""Standard deviations that a bar can show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A number and a bar for it, in per cent of its cell's width."""

    text: str
    start: float
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRow:
    """What both say of an action."""

    name: str
    teacher: Bar
    student: Bar


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryRow:
    """A number of an observation, with its distance from the mean."""

    name: str
    value: str
    unusual: Bar


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """An observation on which both differ."""

    title: str
    sentence: str
    png: str | None
    alt: str
    entries: tuple[EntryRow, ...]
    left_out: int
    """Numbers of the observation that are not shown."""
    actions: tuple[ActionRow, ...]


def cards_of(found: TaskDisagreements) -> list[Card]:
    """Return a card for every example."""
    return [_card(number, example, found) for number, example in enumerate(found.examples, start=1)]


def _card(number: int, example: Example, found: TaskDisagreements) -> Card:
    sentence = _sentence(example, found)
    entries = list(_entries(example, found))
    shown = sorted(entries, key=lambda entry: -entry.unusual.width)[:MOST_ENTRIES]
    kept = [entry for entry in entries if entry in shown]
    return Card(
        title=f"Observation {number}",
        sentence=sentence,
        png=example.png,
        alt=f"Observation {number}: the newest of the frames that both saw. {sentence}",
        entries=tuple(kept),
        left_out=len(entries) - len(kept),
        actions=tuple(_actions(example, found)),
    )


def _sentence(example: Example, found: TaskDisagreements) -> str:
    if found.continuous:
        return f"Their actions differ by {percent(example.difference)} of half the range."
    told = []
    for who, chances in (("Teacher:", example.teacher), ("student:", example.student)):
        best = max(range(len(chances)), key=chances.__getitem__)
        told.append(f"{who} {_name(found, best)} ({percent(chances[best], 0)})")
    return f"{'; '.join(told)}."


def _actions(example: Example, found: TaskDisagreements) -> Iterator[ActionRow]:
    pairs = list(zip(example.teacher, example.student, strict=True))
    if found.continuous:
        for index, (teacher, student) in enumerate(pairs):
            yield ActionRow(
                name=f"action {index}",
                teacher=_signed(teacher, 1.0, number(teacher)),
                student=_signed(student, 1.0, number(student)),
            )
        return
    order = sorted(range(len(pairs)), key=lambda index: -sum(pairs[index]))
    shown = sorted(order[:MOST_ACTIONS])
    for index in shown:
        yield ActionRow(
            name=_name(found, index),
            teacher=_share(pairs[index][0]),
            student=_share(pairs[index][1]),
        )
    if rest := order[MOST_ACTIONS:]:
        yield ActionRow(
            name=f"{len(rest)} others",
            teacher=_share(sum(pairs[index][0] for index in rest)),
            student=_share(sum(pairs[index][1] for index in rest)),
        )


def _entries(example: Example, found: TaskDisagreements) -> Iterator[EntryRow]:
    for index, value in enumerate(example.vector):
        known = index < min(len(found.mean), len(found.std))
        spread = found.std[index] if known else 0.0
        away = (value - found.mean[index]) / spread if spread > 0 else 0.0
        text = f"{'+' if away > 0 else ''}{number(away, 1)} σ"
        yield EntryRow(
            name=f"entry {index}", value=short(value), unusual=_signed(away, WIDEST, text)
        )


def _name(found: TaskDisagreements, index: int) -> str:
    return found.actions[index] if index < len(found.actions) else f"action {index}"


def _share(chance: float) -> Bar:
    return Bar(text=percent(chance, 0), start=0.0, width=round(100 * chance, 1))


def _signed(value: float, widest: float, text: str) -> Bar:
    """Return a bar from the middle of its cell."""
    width = 50 * min(1.0, abs(value) / widest)
    start = 50.0 if value >= 0 else 50.0 - width
    return Bar(text=text, start=round(start, 1), width=round(width, 1))
