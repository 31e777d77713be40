"""Reading a pickle without running what it names.

A pickle can call any function of any module. `read_pickle` resolves only the names that it is
given, and refuses the rest; classes whose content does not matter can be replaced by `Inert`,
which takes whatever a pickle gives it and does nothing with it.
"""

import io
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy._core.multiarray import scalar
from numpy._core.numeric import _frombuffer

from common.errors import PolicyFileError

Names = Mapping[tuple[str, str], Any]
"""What (module, name) pairs stand for. A pair whose name is "*" is for all names of the module,
and of the modules below it."""


class Inert:
    """Stands for an object that is not wanted, or whose attributes alone are.

    `attributes` are those that the pickle gave it.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.attributes: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        """Keep what is a plain dict of attributes."""
        if isinstance(state, dict):
            self.attributes = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Ignore an entry of a dict that is not wanted."""

    def append(self, item: Any) -> None:
        """Ignore an item of a list that is not wanted."""


def _empty_array(*arguments: Any) -> npt.NDArray[Any]:
    """Return what a pickle then fills; it also names a class, which is not asked."""
    return np.empty(0, np.int8)


_ARRAYS = {
    "_reconstruct": _empty_array,
    "scalar": scalar,
    "_frombuffer": _frombuffer,
    "ndarray": Inert,
    "dtype": np.dtype,
}
NUMPY_ARRAYS: Names = {
    (module, name): _ARRAYS[name]
    for name, modules in {
        "_reconstruct": ("numpy.core.multiarray", "numpy._core.multiarray"),
        "scalar": ("numpy.core.multiarray", "numpy._core.multiarray"),
        "_frombuffer": ("numpy.core.numeric", "numpy._core.numeric"),
        "ndarray": ("numpy",),
        "dtype": ("numpy",),
    }.items()
    for module in modules
}
"""What NumPy arrays and scalars of any version need: they hold numbers, and call nothing."""


def read_pickle(data: bytes, *, allowed: Names, source: str) -> Any:
    """Read a pickle.

    Args:
        data: the pickle.
        allowed: what each name that it may use stands for.
        source: what to call it in an error.

    Raises:
        PolicyFileError: it is damaged, or names something else.
    """
    try:
        return _Reader(io.BytesIO(data), allowed).load()
    except _NotAllowed as error:
        raise PolicyFileError(
            f"{source}: it names {error}, which could run code when read; get it from a source "
            f"that you trust, unmodified"
        ) from None
    # Damage, and malice, can make the reader fail in any way.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise PolicyFileError(
            f"{source}: not a readable pickle ({reason}); fetch it again"
        ) from None


class _NotAllowed(Exception):
    """A name that is not in the list."""


class _Reader(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, allowed: Names) -> None:
        super().__init__(file)
        self._allowed = allowed

    def find_class(self, module: str, name: str) -> Any:
        """Return what the list has for a name, by itself or by its module."""
        if (module, name) in self._allowed:
            return self._allowed[module, name]
        parts = module.split(".")
        for end in range(len(parts), 0, -1):
            pair = (".".join(parts[:end]), "*")
            if pair in self._allowed:
                return self._allowed[pair]
        raise _NotAllowed(f"{module}.{name}")
