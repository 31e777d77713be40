"""Reading pickles without running anything from them.

A pickle is a list of instructions, and the only ones that can do harm look up a name and call what
they find. Here a name leads to NumPy's arrays and to plain containers; every other one leads to a
class that is made on the spot, keeps what it is given and does nothing.
"""

import collections
import io
import pickle
from typing import Any

import numpy as np

_ARRAY_MODULES = ("numpy.core", "numpy._core")
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): collections.OrderedDict,
    **{
        (f"{package}.{module}", name): getattr(getattr(np._core, module), name)
        for package in _ARRAY_MODULES
        for module, name in (
            ("multiarray", "_reconstruct"),
            ("multiarray", "scalar"),
            ("numeric", "_frombuffer"),
        )
    },
}


class Inert:
    """Stands for an object of a class that is not imported."""

    origin: str
    """Of the class, as `module.name`."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "Inert":
        """Make one and keep nothing of what it is made from."""
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.attributes: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.attributes = dict(state) if isinstance(state, dict) else {}

    def __setitem__(self, key: Any, value: Any) -> None:
        """Drop an item of what would be a mapping."""

    def append(self, item: Any) -> None:
        """Drop an item of what would be a list."""


class Forbidden(Exception):
    """A pickle names something that only running code can make."""


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, *, strict: bool) -> None:
        super().__init__(io.BytesIO(content))
        self._strict = strict

    def find_class(self, module: str, name: str) -> Any:
        """Return what is allowed, or a class that does nothing."""
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        origin = f"{module}.{name}"
        if self._strict:
            raise Forbidden(origin)
        return type("Inert", (Inert,), {"origin": origin})


def read_arrays(content: bytes) -> Any:
    """Return arrays and plain containers from a pickle.

    Raises:
        Forbidden: it names anything else.
        Exception: it is damaged; the reader may fail in any way.
    """
    return _Unpickler(content, strict=True).load()


def read_inert(content: bytes) -> Any:
    """Return what a pickle says, with an `Inert` for every object of a class that is not allowed.

    Raises:
        Exception: it is damaged; the reader may fail in any way.
    """
    return _Unpickler(content, strict=False).load()
