import collections
import os
import pickle
from typing import Any

import numpy as np
import pytest

from common.errors import PolicyFileError
from common.teachers.safe_pickle import NUMPY_ARRAYS, Inert, PickledArray, read_pickle

ALLOWED = NUMPY_ARRAYS | {("collections", "*"): Inert}


def read(thing: object, protocol: int = 4) -> Any:
    return read_pickle(pickle.dumps(thing, protocol), allowed=ALLOWED, source="a file")


def refusal(data: bytes) -> str:
    with pytest.raises(PolicyFileError) as caught:
        read_pickle(data, allowed=ALLOWED, source="a file")
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        np.array(7, ">i4"),
        np.array([True, False]),
        np.empty((0, 4)),
    ],
    ids=["float64", "fortran", "big-endian", "bool", "empty"],
)
def test_arrays_come_back(array, protocol):
    if protocol == 2:
        # This protocol writes bytes as a call of _codecs.encode, which is not on the list.
        assert "_codecs.encode" in refusal(pickle.dumps(array, protocol))
        return
    found = np.asarray(read({"a": array}, protocol)["a"])
    np.testing.assert_array_equal(found, array)
    assert found.shape == array.shape
    assert np.asarray(read(array, protocol), np.float64).dtype == np.float64


def test_scalars_and_plain_objects_come_back():
    tree = {"x": [1, 2.5, "three", None, (True, b"4")], "y": {5}}
    assert read(tree) == tree
    assert read(np.float32(1.5)) == 1.5


class Malice:
    def __reduce__(self):
        return os.system, ("exit 1",)


class Harmless:
    pass


@pytest.mark.parametrize(
    ("thing", "name"),
    [(Malice(), "posix.system"), (Harmless(), "Harmless"), (eval, "builtins.eval")],
)
def test_every_other_name_is_refused(thing, name):
    message = refusal(pickle.dumps(thing))
    assert name in message
    assert "could run code" in message


def test_a_name_with_dots_leads_nowhere():
    hostile = b"\x80\x04\x8c\x05numpy\x8c\x16ndarray.__subclasses__\x93."
    assert "numpy.ndarray.__subclasses__" in refusal(hostile)


def test_modules_with_a_star_are_replaced_and_never_looked_up():
    assert isinstance(read(collections.OrderedDict(a=1)), Inert)
    assert isinstance(read(collections.deque([1, 2])), Inert)
    assert "posix.system" in refusal(pickle.dumps(collections.OrderedDict(a=Malice())))


def test_attributes_of_inert_objects_are_kept():
    allowed = {(Harmless.__module__, "Harmless"): Inert}
    thing = Harmless()
    thing.number, thing.words = 5, ["a"]
    found = read_pickle(pickle.dumps(thing), allowed=allowed, source="a file")
    assert found.attributes == {"number": 5, "words": ["a"]}


def test_an_array_of_objects_is_no_array_of_numbers_and_harms_nobody():
    found = read(np.array([1, "two", None], dtype=object))
    assert isinstance(found, PickledArray)
    with pytest.raises(ValueError, match="not of numbers"):
        np.asarray(found)


def test_bytes_are_never_taken_for_the_addresses_of_objects():
    class Hostile:
        def __reduce__(self):
            return np.ndarray, ((1,), np.dtype(object), b"\x01" * 8)

    assert isinstance(read(Hostile()), PickledArray)


@pytest.mark.parametrize("data", [b"", b"no pickle", pickle.dumps([1.0] * 99)[:-9], b"\x80\x04."])
def test_damaged_files_are_refused(data):
    assert "a file: not a readable pickle" in refusal(data)
