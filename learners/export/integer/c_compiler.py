"""Compiling and running the C program, where there is a C compiler."""

import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import RunFailedError
from learners.export.integer.integer_network import IntegerOutputs

FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O3")

_LIMIT_S = 600
_TIMED = 64
"""Observations on which a decision is timed."""
_TIMED_S = 0.3


def find_compiler() -> str | None:
    """Return the C compiler: `$CC`, else `cc`; None where there is none."""
    return shutil.which(os.environ.get("CC") or "cc")


@contextmanager
def compiled(text: str, compiler: str, flags: Sequence[str] = FLAGS) -> Iterator["CProgram"]:
    """Compile a file as a program, which is there until the end of the block.

    Raises:
        RunFailedError: the compiler refuses it.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder) / "student.c", Path(folder) / "student"
        source.write_text(text, encoding="utf-8")
        asked = [compiler, *flags, "-DSTILLHOUSE_MAIN", str(source), "-o", str(program)]
        told = subprocess.run(asked, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
        if told.returncode:
            first = (told.stderr.strip() or f"exit code {told.returncode}").splitlines()[0]
            raise RunFailedError(f"{compiler} cannot compile the program: {first}")
        yield CProgram(program)


class CProgram:
    """A compiled program.

    Args:
        path: where it is.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, observations: npt.NDArray[Any]) -> IntegerOutputs:
        """Return what it answers to observations [B, *shape].

        Raises:
            RunFailedError: it fails.
        """
        out, _ = self._run(observations, repeats=1)
        rows = [line.split() for line in out.splitlines()]
        if len(rows) != len(observations):
            raise RunFailedError(f"the program answered {len(rows)} of {len(observations)} times")
        return IntegerOutputs(
            np.array([row[0] for row in rows], np.int64),
            np.array([row[1:] for row in rows], np.float32),
        )

    def latency_ms(self, observations: npt.NDArray[Any]) -> float:
        """Return how long a decision takes on the average, by the processor's time.

        Raises:
            RunFailedError: the program fails.
        """
        some = observations[:_TIMED]
        once = self._timed(some, repeats=1)
        return self._timed(some, repeats=max(1, math.ceil(1e3 * _TIMED_S / len(some) / once)))

    def _timed(self, observations: npt.NDArray[Any], repeats: int) -> float:
        _, said = self._run(observations, repeats)
        return max(float(said.split()[0]) / 1e3, 1e-6)

    def _run(self, observations: npt.NDArray[Any], repeats: int) -> tuple[str, str]:
        told = subprocess.run(
            [self._path, str(repeats)],
            input=observations.tobytes(),
            capture_output=True,
            timeout=_LIMIT_S,
            check=False,
        )
        out, said = told.stdout.decode(), told.stderr.decode(errors="replace")
        if told.returncode:
            first = (said.strip() or f"exit code {told.returncode}").splitlines()[0]
            raise RunFailedError(f"the compiled program failed: {first}")
        return out, said
