"""Ctrl-C, SIGTERM and SIGHUP (the terminal went away): asked for once, they are waited for; asked
for twice, they interrupt."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130
"""Exit code of a command that was stopped before it was done."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupt:
    """Whether the user asked to stop."""

    def __init__(self) -> None:
        self.requested = False

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """Note the first request; raise KeyboardInterrupt at the second."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


@contextmanager
def deferred_interrupt() -> Iterator[Interrupt]:
    """Within the block, let the first of `SIGNALS` only set `requested`.

    One that this process was started to ignore (SIGHUP under nohup) stays ignored. Signals come to
    a process's main thread; in another one, as in a run without a terminal, nothing is ever
    requested here.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    former = {
        number: signal.signal(number, interrupt.handle)
        for number in SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield interrupt
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
