"""The C program as a program of its own, with `-DSTILLHOUSE_MAIN`."""

import math
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from learners.export.integer.c_compiler import FLAGS
from learners.export.integer.integer_network import IntegerOutputs

_LIMIT_S = 600
_TIMED = 64
"""Observations on which a decision is timed."""
_TIMED_S = 0.3


@contextmanager
def compiled(text: str, compiler: str, flags: Sequence[str] = FLAGS) -> Iterator["CProgram"]:
    """Compile a file, whose program is there until the end of the block."""
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder) / "student.c", Path(folder) / "student"
        source.write_text(text, encoding="utf-8")
        asked = [compiler, *flags, "-DSTILLHOUSE_MAIN", str(source), "-o", str(program)]
        subprocess.run(asked, timeout=_LIMIT_S, check=True)
        yield CProgram(program)


class CProgram:
    """A compiled program.

    Args:
        path: where it is.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, observations: npt.NDArray[Any]) -> IntegerOutputs:
        """Return what it answers to observations [B, *shape]."""
        rows = [line.split() for line in self._run(observations).stdout.splitlines()]
        assert len(rows) == len(observations)
        return IntegerOutputs(
            np.array([row[0] for row in rows], np.int64),
            np.array([row[1:] for row in rows], np.float32),
        )

    def fed(self, content: bytes, *args: str) -> "subprocess.CompletedProcess[bytes]":
        """Return what comes of bytes on its standard input."""
        return subprocess.run(
            [self._path, *args], input=content, capture_output=True, timeout=_LIMIT_S, check=False
        )

    def latency_ms(self, observations: npt.NDArray[Any]) -> float:
        """Return how long a decision takes on the average, by the processor's time."""
        some = observations[:_TIMED]
        once = self._timed(some, repeats=1)
        return self._timed(some, repeats=max(1, math.ceil(1e3 * _TIMED_S / len(some) / once)))

    def _timed(self, observations: npt.NDArray[Any], repeats: int) -> float:
        said = self._run(observations, str(repeats)).stderr
        return max(float(said.split()[0]) / 1e3, 1e-6)

    def _run(
        self, observations: npt.NDArray[Any], *args: str
    ) -> "subprocess.CompletedProcess[bytes]":
        done = self.fed(observations.tobytes(), *args)
        done.check_returncode()
        return done
