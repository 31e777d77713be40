"""Reading a pickle without running what it names.

A pickle can call any function of any module. `read_pickle` resolves only the names that it is
given, and refuses the rest. What they stand for is of this module: `Inert` takes whatever a pickle
gives it and does nothing with it; arrays become `PickledArray`, not NumPy's own classes, whose
constructors and `__setstate__` take addresses for objects from a hostile file's bytes.
"""

import io
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import PolicyFileError

Names = Mapping[tuple[str, str], Any]
"""What (module, name) pairs stand for. A pair whose name is "*" is for all names of the module,
and of the modules below it."""


class Inert:
    """Stands for an object that is not wanted, or whose attributes alone are."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.attributes: dict[str, Any] = {}
        """Those that the pickle gave it."""

    def __setstate__(self, state: Any) -> None:
        """Keep what is a plain dict of attributes."""
        self.attributes = state if isinstance(state, dict) else {}

    def __setitem__(self, key: Any, value: Any) -> None:
        """Ignore an entry of a dict that is not wanted."""

    def append(self, item: Any) -> None:
        """Ignore an item of a list that is not wanted."""


class _ElementType:
    """A NumPy dtype in a pickle: its code ("f8") and its byte order."""

    def __init__(self, code: Any = "", *flags: Any) -> None:
        self._code, self._order = code, "="

    def __setstate__(self, state: Any) -> None:
        self._order = state[1]

    def resolve(self) -> np.dtype[Any]:
        """Return the dtype of plain numbers.

        Raises:
            ValueError, TypeError: it is of something else.
        """
        dtype: np.dtype[Any] = np.dtype(self._code)
        if dtype.kind not in "biufc":
            raise ValueError(f"an array of {self._code!r}, not of numbers")
        return dtype.newbyteorder(">") if self._order == ">" else dtype


class PickledArray:
    """A NumPy array in a pickle; `np.asarray` makes it one, and raises where it is of no numbers.

    Until then nothing is made of it: arrays that nobody asks for may be of anything.
    """

    def __init__(self, *arguments: Any) -> None:
        self._state: Any = (1, (0,), _ElementType("f8"), False, b"")

    def __setstate__(self, state: Any) -> None:
        """Keep what the array is made of: version, shape, dtype, Fortran order, bytes."""
        self._state = state

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Return the array, read-only."""
        _, shape, element_type, is_fortran, data = self._state
        values = _from_buffer(data, element_type, shape, "F" if is_fortran else "C")
        return values if dtype is None else values.astype(dtype)


def _from_buffer(
    data: bytes, element_type: _ElementType, shape: Any, order: Any, axes: Any = None
) -> npt.NDArray[Any]:
    return np.frombuffer(data, element_type.resolve()).reshape(shape, order=order)


def _scalar(element_type: _ElementType, data: bytes) -> Any:
    return np.frombuffer(data, element_type.resolve())[0]


_CORES = ("numpy.core", "numpy._core")
NUMPY_ARRAYS: Names = {
    ("numpy", "ndarray"): PickledArray,
    ("numpy", "dtype"): _ElementType,
    **{(f"{core}.multiarray", "_reconstruct"): PickledArray for core in _CORES},
    **{(f"{core}.multiarray", "scalar"): _scalar for core in _CORES},
    **{(f"{core}.numeric", "_frombuffer"): _from_buffer for core in _CORES},
}
"""For NumPy arrays and scalars, as any version of NumPy writes them."""


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
