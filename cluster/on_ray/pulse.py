"""Asking actors for their counters: one question at a time, and silence is noticed.

A question stays open until it is answered, so an answer that comes late is taken with all that is
in it, and an actor that hangs is not buried in questions. Who has not yet answered the first one
is still starting, or waiting for resources; who has answered before and falls silent may be frozen.
The supervisor waits only for those that answered their last question in time.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError

Reference = Any
"""Ray's reference to an object."""


class Pulse:
    """The counters of one actor.

    Args:
        ask: calls the actor's method that returns them.
    """

    def __init__(self, ask: Callable[[], Reference]) -> None:
        self._ask = ask
        self._question: Reference | None = None
        self._asked_at = 0.0
        self._overdue = False
        self.last: Any = None
        """The newest answer; None before the first."""
        self.fresh = False
        """Whether `last` came in the newest round."""

    @property
    def silent_s(self) -> float:
        """Seconds that the open question waits; 0 before the first answer."""
        if self.last is None or self._question is None:
            return 0.0
        return time.monotonic() - self._asked_at

    def question(self) -> Reference:
        """Return the open question, asking it where there is none."""
        if self._question is None:
            self._question = self._ask()
            self._asked_at = time.monotonic()
            self._overdue = False
        return self._question

    def take(self) -> None:
        """Take the answer to the open question; an actor that died leaves the last one."""
        question: Any = self._question
        self._question = None
        with suppress(RayError):  # its end is noticed elsewhere
            self.last = ray.get(question)
            self.fresh = True

    def start_anew(self) -> None:
        """Forget the answers: the actor is started again, and answers the open question then."""
        self.last = None

    @property
    def is_awake(self) -> bool:
        """Whether an answer to the open question is to be expected at once."""
        return self.last is not None and not self._overdue

    def put_off(self) -> None:
        """Take note that the open question was not answered in time."""
        self._overdue = True


def collect(pulses: Sequence[Pulse], timeout_s: float) -> None:
    """Ask everyone who has no open question, and take the answers that come.

    Args:
        pulses: of the actors.
        timeout_s: to wait for those that are awake at most; the others are not waited for.
    """
    questions = [(pulse.question(), pulse) for pulse in pulses]
    for pulse in pulses:
        pulse.fresh = False
    if awake := [question for question, pulse in questions if pulse.is_awake]:
        ray.wait(awake, num_returns=len(awake), timeout=timeout_s)
    every = [question for question, _ in questions]
    answered = set(ray.wait(every, num_returns=len(every), timeout=0)[0])
    for question, pulse in questions:
        if question in answered:
            pulse.take()
        else:
            pulse.put_off()
