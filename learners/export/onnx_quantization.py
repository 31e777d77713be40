"""A policy's ONNX graph in int8: weights by output channel, activations by what real play gives.

Convolutions and linear layers are quantised (QDQ: quantise and dequantise nodes around them, which
runtimes fuse into integer kernels), with uint8 activations whose ranges are the smallest and
largest values of the calibration; what rounding shifts on average is taken back
(`learners.export.bias_correction`). In float32 stay:

- heads, which are small, and where rounding decides between actions that are nearly equal; unless
  nothing else would be left to quantise;
- what linear layers say, so that only what they see is rounded;
- layers that see floats of the environment or a memory: the entries of a vector are in different
  units, and one scale for all of them would round the small ones away;
- the cell of a recurrent network: rounding would pile up in its memory.

Frames are bytes, and nothing is rounded: the first layer reads them as they are.

onnxruntime's quantisation is imported where it is used: every run imports this module.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from common.networks.base import HEADS
from learners.export.bias_correction import correct_biases, give_biases
from learners.export.check import Arrays

_LAYERS = ("Conv", "Gemm")
_BETWEEN = ("Relu", "Reshape")
"""What stays in integers between two layers."""
_CELLS = ("network.core.", "network.rnn.")
"""Beginnings of the names of a recurrent cell's weights (`common.networks.lstm` and `gru`)."""
_HEADS = tuple(f"network.{head}." for head in HEADS)


def quantized(model: onnx.ModelProto, feeds: Sequence[Arrays]) -> onnx.ModelProto:
    """Return the graph in int8.

    Args:
        model: in float32, as `learners.export.onnx_export` traces it.
        feeds: its inputs by name, of real play.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    _name_nodes(model)
    frames = _scaled_bytes(model)
    exact: dict[str, Any] = {}
    if frames is not None:
        exact[frames.name] = [{"scale": frames.scale, "zero_point": np.array(0, np.uint8)}]
    chosen = _quantizable(model)
    layers = [
        node.name for node in model.graph.node if node.op_type in _LAYERS and node.name in chosen
    ]
    give_biases(model, layers)
    with tempfile.TemporaryDirectory() as folder:
        plain, done = Path(folder) / "plain.onnx", Path(folder) / "int8.onnx"
        quant_pre_process(model, plain, skip_optimization=True, skip_symbolic_shape=True)
        quantize_static(
            plain,
            done,
            _reader(feeds),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=[*_LAYERS, *_BETWEEN],
            nodes_to_quantize=chosen,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={
                "OpTypesToExcludeOutputQuantization": ["Gemm"],
                "TensorQuantOverrides": exact,
            },
        )
        rounded = onnx.load(done)
    correct_biases(rounded, model, layers, feeds)
    if frames is not None:
        _read_bytes(rounded, frames.name)
    return rounded


class _ScaledBytes(NamedTuple):
    """A tensor that is the input's bytes times a scale."""

    name: str
    scale: NDArray[np.float32]
    """Of no axes."""


def _scaled_bytes(model: onnx.ModelProto) -> _ScaledBytes | None:
    """Return what a graph makes of bytes before its first layer; None where it takes floats."""
    graph = model.graph
    given = graph.input[0]
    if given.type.tensor_type.elem_type != onnx.TensorProto.UINT8:
        return None
    constants = {tensor.name: tensor for tensor in graph.initializer}
    (cast,) = (node for node in graph.node if given.name in node.input)
    for node in graph.node:
        if node.op_type == "Mul" and node.input[0] == cast.output[0]:
            scale = numpy_helper.to_array(constants[node.input[1]])
            return _ScaledBytes(node.output[0], np.array(scale.item(), np.float32))
    return _ScaledBytes(cast.output[0], np.array(1.0, np.float32))


def _read_bytes(model: onnx.ModelProto, scaled: str) -> None:
    """Let the layers that see scaled bytes read the bytes themselves, which is the same."""
    nodes = model.graph.node
    (quantise,) = (
        node for node in nodes if node.op_type == "QuantizeLinear" and node.input[0] == scaled
    )
    for node in nodes:
        if node.op_type == "DequantizeLinear" and node.input[0] == quantise.output[0]:
            node.input[0] = model.graph.input[0].name
    wanted = {output.name for output in model.graph.output}
    for node in reversed(list(nodes)):  # whoever is asked for by none of those behind it goes
        if wanted.isdisjoint(node.output):
            nodes.remove(node)
        else:
            wanted.update(node.input)


def _reader(feeds: Sequence[Arrays]) -> Any:
    """Return feeds as onnxruntime reads them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Feeds(CalibrationDataReader):  # type: ignore[misc]  # of a library without types
        """One feed after the other."""

        def __init__(self) -> None:
            self._left: Iterator[Arrays] = iter(feeds)

        def get_next(self) -> Arrays | None:
            """Return the next feed, or None after the last."""
            return next(self._left, None)

    return Feeds()


def _name_nodes(model: onnx.ModelProto) -> None:
    """Name nodes that have no name, so that they can be told apart."""
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"


def _quantizable(model: onnx.ModelProto) -> list[str]:
    """Return the names of the layers that are quantised, and of what lies between layers."""
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    floats = {
        value.name
        for value in graph.input
        if value.type.tensor_type.elem_type != onnx.TensorProto.UINT8
    }
    layers, heads, between = list[str](), list[str](), list[str]()
    for node in graph.node:  # in the order in which they compute
        if node.op_type in _LAYERS:
            if node.input[0] not in floats and not node.input[1].startswith(_CELLS):
                of_heads = node.input[1].startswith(_HEADS)
                (heads if of_heads else layers).append(node.name)
            continue
        if node.op_type in _BETWEEN:
            between.append(node.name)
        computed = [name for name in node.input if name and name not in constants]
        if not computed:
            constants.update(node.output)
        elif floats.issuperset(computed):
            floats.update(node.output)
    return (layers or heads) + between
