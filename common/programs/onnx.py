"""ONNX files, by onnxruntime on one thread of the CPU. They only compute.

The libraries are imported where a file is opened: every process of a run imports this module, and
few have such a file.
"""

import math
from typing import Any

import torch

from common.errors import PolicyFileError
from common.programs.base import Interface

SPEC_METADATA_KEY = "stillhouse/policy"
"""Where the files that Stillhouse exports hold their `PolicySpec`."""

_DTYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}
"""By onnxruntime's names; any other goes into errors as it is."""

_QUANTISERS = ("QuantizeLinear", "DequantizeLinear")
"""Operators whose first input may be a weight in integers; the others are its scale."""


class OnnxProgram:
    """An ONNX file in onnxruntime."""

    def __init__(self, session: Any, interface: Interface) -> None:
        self._session = session
        self._input = session.get_inputs()[0].name
        self._outputs = [output.name for output in session.get_outputs()]
        self.interface = interface

    def __call__(self, observations: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the outputs for observations [B, *shape] by name."""
        found = self._session.run(self._outputs, {self._input: observations.numpy()})
        return {
            name: torch.from_numpy(output)
            for name, output in zip(self._outputs, found, strict=True)
        }


def open_onnx(content: bytes) -> OnnxProgram:
    """Open an ONNX file.

    Raises:
        PolicyFileError: its weights are not in it, or it has several inputs.
        Exception: it is damaged.
    """
    from onnx import TensorProto, load_model_from_string

    graph = load_model_from_string(content).graph
    constants = [node.attribute[0].t for node in graph.node if node.op_type == "Constant"]
    weights = [tensor for tensor in (*graph.initializer, *constants) if tensor.dims]
    if any(weight.data_location == TensorProto.EXTERNAL for weight in weights):
        raise PolicyFileError(
            "its weights lie in other files; write it as one file "
            "(onnx.save(onnx.load(path), path))"
        )
    session = new_session(content)
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(node.name for node in inputs)
        raise PolicyFileError(
            f"it has {len(inputs)} inputs ({names}), and a feed-forward policy has one"
        )
    batch, *shape = inputs[0].shape or [None]
    known = all(isinstance(size, int) for size in shape)
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
    quantisers = [node for node in graph.node if node.op_type in _QUANTISERS]
    integers = {node.input[0] for node in quantisers}
    scales = {name for node in quantisers for name in node.input[1:]}
    interface = Interface(
        shape=tuple(shape) if known and shape else None,
        dtype=_DTYPES.get(inputs[0].type, inputs[0].type),
        batch_size=batch if isinstance(batch, int) else None,
        num_parameters=sum(
            math.prod(weight.dims)
            for weight in weights
            if weight.name not in scales and (weight.data_type in floats or weight.name in integers)
        ),
        spec_json=session.get_modelmeta().custom_metadata_map.get(SPEC_METADATA_KEY),
    )
    return OnnxProgram(session, interface)


def new_session(content: bytes) -> Any:
    """Return onnxruntime's session of a file's content: on the CPU, with one thread, silent.

    Raises:
        Exception: it is damaged; onnxruntime has many kinds of errors.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors come as exceptions; keep standard error clean
    return onnxruntime.InferenceSession(
        content, sess_options=options, providers=["CPUExecutionProvider"]
    )
