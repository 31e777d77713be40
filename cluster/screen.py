"""A terminal that may go away while a run goes on."""

import os
import sys
from typing import IO, Any, cast

from rich.console import Console


def screen() -> Console:
    """Return the standard output as rich writes to it, for commands that outlive their reader."""
    return Console(file=cast("IO[str]", Screen(sys.stdout)))


class Screen:
    """A text stream that goes silent once nobody is at its other end.

    A terminal that was closed, or a pipe whose reader has ended, costs a run its output, not its
    life: from then on everything written to the stream's file descriptor goes nowhere.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, if somebody is there."""
        try:
            return self._stream.write(text)
        except OSError:
            self._silence()
            return len(text)

    def flush(self) -> None:
        """Flush, if somebody is there."""
        try:
            self._stream.flush()
        except OSError:
            self._silence()

    def _silence(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, self._stream.fileno())
        finally:
            os.close(nowhere)
