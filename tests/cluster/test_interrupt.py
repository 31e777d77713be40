import os
import signal
from collections.abc import Iterator

import pytest

from cluster.interrupt import SIGNALS, deferred_interrupt


def receive(number: signal.Signals) -> None:
    """Get a real signal; its handler runs before the next line."""
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def safe() -> Iterator[None]:
    """Let a signal that nobody handles fail a test instead of ending all of them."""

    def fail(number: int, frame: object) -> None:
        raise AssertionError(f"signal {number} was not handled")

    deadly = (signal.SIGTERM, signal.SIGHUP)
    former = {number: signal.signal(number, fail) for number in deadly}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_is_noted_and_waited_for(number: signal.Signals) -> None:
    with deferred_interrupt() as interrupt:
        assert not interrupt.requested
        receive(number)
        assert interrupt.requested


@pytest.mark.parametrize("first", SIGNALS)
@pytest.mark.parametrize("second", SIGNALS)
def test_the_second_interrupts(first: signal.Signals, second: signal.Signals) -> None:
    with deferred_interrupt() as interrupt:
        receive(first)
        with pytest.raises(KeyboardInterrupt):
            receive(second)
        assert interrupt.requested


def test_the_handlers_are_as_before_afterwards() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with deferred_interrupt() as interrupt:
        inside = [signal.getsignal(number) for number in SIGNALS]
        assert inside == [interrupt.handle] * len(SIGNALS)
    assert [signal.getsignal(number) for number in SIGNALS] == before
    with pytest.raises(KeyboardInterrupt):
        receive(signal.SIGINT)


def test_what_is_ignored_stays_ignored() -> None:
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with deferred_interrupt() as interrupt:
            receive(signal.SIGHUP)
            assert not interrupt.requested
    finally:
        signal.signal(signal.SIGHUP, former)


def test_the_handlers_are_as_before_after_an_error() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]

    def break_off() -> None:
        with deferred_interrupt():
            receive(signal.SIGINT)
            receive(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_block_within_a_block_has_requests_of_its_own() -> None:
    with deferred_interrupt() as outer:
        with deferred_interrupt() as inner:
            receive(signal.SIGINT)
        assert (inner.requested, outer.requested) == (True, False)
        receive(signal.SIGTERM)
        assert outer.requested
