"""Ctrl-C and SIGTERM: asked for once, they are waited for; asked for twice, they interrupt."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


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
    """Within the block, let a first Ctrl-C or SIGTERM only set `requested`."""
    interrupt = Interrupt()
    former = {
        number: signal.signal(number, interrupt.handle)
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield interrupt
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
