import datetime
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.teachers.inert_pickle import Forbidden, Inert, read_arrays, read_inert


class Plain:
    """An object with attributes, and one that is made with arguments."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.day = datetime.date(2026, 1, 2)


class Calling:
    """Calls something when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> Any:
        return self._call


ARRAYS = {
    "weights": np.arange(12, dtype=np.float32).reshape(3, 4),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
    "scalar": np.float32(2.5),
    "empty": np.zeros((0, 3), np.float16),
}


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("read", [read_arrays, read_inert])
def test_arrays_and_containers_come_back(protocol: int, read: Any) -> None:
    tree = OrderedDict(arrays=ARRAYS, rest=[1, (2.5, None), {"a": {True}}])
    found = read(pickle.dumps(tree, protocol))
    assert found["rest"] == tree["rest"]
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found["arrays"][name], array)
        assert found["arrays"][name].dtype == array.dtype


@pytest.mark.parametrize(
    "value", [Plain(3), datetime.date(2026, 1, 2), Path("x"), len, Calling(print, "hello")]
)
def test_everything_else_is_forbidden_beside_arrays(value: object) -> None:
    with pytest.raises(Forbidden):
        read_arrays(pickle.dumps({"a": value}))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_objects_become_inert_and_keep_their_attributes(protocol: int) -> None:
    found = read_inert(pickle.dumps(Plain(3), protocol))
    assert isinstance(found, Inert)
    assert found.origin.endswith("test_inert_pickle.Plain")
    assert found.attributes["number"] == 3
    assert isinstance(found.attributes["day"], Inert)
    assert read_inert(pickle.dumps(Plain, protocol)).origin.endswith(".Plain")


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("read", [read_arrays, read_inert])
def test_nothing_is_called(protocol: int, read: Any, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    for call in (
        Calling(Path.touch, touched),
        Calling(exec, f"open({str(touched)!r}, 'w')"),
        Calling(getattr, np, "save"),
        Calling(np.save, str(touched), 1),
    ):
        content = pickle.dumps({"a": np.zeros(2), "b": call}, protocol)
        try:
            read(content)
        except Forbidden:
            assert read is read_arrays
        assert not list(tmp_path.iterdir())
