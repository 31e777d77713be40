import io
from collections import namedtuple

import numpy as np
import pytest
import torch
from onnx import TensorProto

from common.errors import PolicyFileError
from common.programs import PROGRAMS, open_program, refuse_untrusted
from common.programs.base import named_outputs
from tests.programs import (
    PROGRAM_BYTES,
    Linear,
    expected,
    onnx_bytes,
    torch_export_bytes,
)


def test_every_runtime_has_an_example() -> None:
    assert PROGRAM_BYTES.keys() == PROGRAMS.keys()


@pytest.mark.parametrize("runtime", PROGRAMS)
def test_a_program_answers_what_its_own_runtime_answers(runtime) -> None:
    program = open_program(runtime, PROGRAM_BYTES[runtime](), source="test")
    observations = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    logits, value = program(torch.from_numpy(observations)).values()
    np.testing.assert_allclose(logits.detach(), expected(observations), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(value[:, 0], observations[:, 0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("runtime", PROGRAMS)
def test_damage_is_one_line(runtime) -> None:
    content = PROGRAM_BYTES[runtime]()
    for damaged in (content[: len(content) // 2], b"\x89PNG" + bytes(64)):
        with pytest.raises(PolicyFileError, match=r"^test: damaged or not an? ") as caught:
            open_program(runtime, damaged, source="test")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("runtime", PROGRAMS)
def test_what_could_do_more_than_compute_wants_trust(runtime) -> None:
    refuse_untrusted(runtime, trust=True, source="test")
    if PROGRAMS[runtime].risk is None:
        refuse_untrusted(runtime, trust=False, source="test")
        return
    with pytest.raises(PolicyFileError, match=r"^test: .*set teacher\.trust = true$"):
        refuse_untrusted(runtime, trust=False, source="test")


def test_only_onnx_runs_without_trust() -> None:
    assert [name for name, kind in PROGRAMS.items() if kind.risk is None] == ["onnx"]


def test_what_an_onnx_file_tells() -> None:
    interface = open_program("onnx", onnx_bytes(), source="test").interface
    assert (interface.shape, interface.dtype, interface.batch_size) == ((4,), "float32", None)
    assert interface.num_parameters == 12
    bytes_in = onnx_bytes(batch=3, input_type=TensorProto.UINT8)
    interface = open_program("onnx", bytes_in, source="test").interface
    assert (interface.dtype, interface.batch_size) == ("uint8", 3)


def test_an_onnx_file_without_its_weights() -> None:
    with pytest.raises(PolicyFileError, match="its weights lie in other files"):
        open_program("onnx", onnx_bytes(external=True), source="test")


@pytest.mark.parametrize("batch", [None, 3])
def test_what_an_exported_program_tells(batch: int | None) -> None:
    content = torch_export_bytes(Linear(), batch=batch)
    interface = open_program("torch_export", content, source="test").interface
    assert (interface.shape, interface.dtype) == ((4,), "float32")
    assert interface.batch_size == batch
    assert interface.num_parameters == 8


def test_a_pickle_of_something_else() -> None:
    buffer = io.BytesIO()
    torch.save([1, 2], buffer)
    with pytest.raises(PolicyFileError, match="holds a list, not a torch module"):
        open_program("module", buffer.getvalue(), source="test")


def test_outputs_get_names() -> None:
    a, b = torch.zeros(1), torch.ones(1)
    assert named_outputs(a) == {"0": a}
    assert named_outputs((a, None, b)) == {"0": a, "2": b}
    assert named_outputs({"q": a, "state": 3}) == {"q": a}
    pair = namedtuple("pair", ["logits", "value"])
    assert named_outputs(pair(a, b)) == {"logits": a, "value": b}
    with pytest.raises(TypeError, match="it returns str"):
        named_outputs("nothing")
