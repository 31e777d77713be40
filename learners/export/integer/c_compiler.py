"""Compiling the C program and asking it, where there is a C compiler."""

import ctypes
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import RunFailedError
from learners.export.integer.integer_network import IntegerOutputs

FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O3")

_LIMIT_S = 600


def find_compiler() -> str | None:
    """Return the C compiler: `$CC`, else `cc`; None where there is none."""
    return shutil.which(os.environ.get("CC") or "cc")


class CLibrary:
    """A C program in this process, for one thread at a time.

    Args:
        text: of the file.
        num_scores: entries that it writes beside its action.

    Raises:
        RunFailedError: there is no compiler, or it refuses the program.
    """

    def __init__(self, text: str, num_scores: int) -> None:
        compiler = find_compiler()
        if compiler is None:
            raise RunFailedError("no C compiler here; install one, or name it in CC")
        with tempfile.TemporaryDirectory() as folder:
            source, library = Path(folder) / "student.c", Path(folder) / "student.so"
            source.write_text(text, encoding="utf-8")
            asked = [compiler, *FLAGS, "-shared", "-fPIC", str(source), "-o", str(library)]
            told = subprocess.run(
                asked, capture_output=True, text=True, timeout=_LIMIT_S, check=False
            )
            if told.returncode:
                first = (told.stderr.strip() or f"exit code {told.returncode}").splitlines()[0]
                raise RunFailedError(f"{compiler} cannot compile the program: {first}")
            # Once it is loaded, its file may go.
            self._act = ctypes.CDLL(str(library)).stillhouse_act
        self._act.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
        self._num_scores = num_scores

    def __call__(self, observations: npt.NDArray[Any]) -> IntegerOutputs:
        """Return what it answers to observations [B, *shape], in the dtype that it takes."""
        given = np.ascontiguousarray(observations)
        actions = np.empty(len(given), np.int64)
        scores = np.empty((len(given), self._num_scores), np.float32)
        observation, row = given.ctypes.data, scores.ctypes.data
        for number in range(len(given)):
            actions[number] = self._act(observation, row)
            observation, row = observation + given.strides[0], row + scores.strides[0]
        return IntegerOutputs(actions, scores)
