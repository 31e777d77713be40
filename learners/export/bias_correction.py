"""Biases that take back what rounding shifts on average.

Most of a frame is the same background in every observation, so the rounding errors of a filter and
of what it sees do not cancel there: they add up to a shift of the whole channel. The mean shift on
real observations goes into the layer's bias, layer after layer (bias correction: Nagel et al. 2019,
section 4.2).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from common.programs.onnx import new_session
from learners.export.check import Arrays


def give_biases(model: onnx.ModelProto, layers: Sequence[str]) -> None:
    """Give layers a bias whose bias of zero was left out of the graph, in place."""
    graph = model.graph
    for name in layers:
        node = _node(graph, name)
        if len(node.input) == 2:
            zeros = np.zeros(_num_channels(graph, node), np.float32)
            node.input.append(f"{node.input[1]}.bias")
            graph.initializer.append(numpy_helper.from_array(zeros, node.input[2]))


def correct_biases(
    rounded: onnx.ModelProto,
    model: onnx.ModelProto,
    layers: Sequence[str],
    feeds: Sequence[Arrays],
) -> None:
    """Change the biases of a quantised graph, in place.

    Args:
        rounded: with quantised biases of int32.
        model: the same in float32.
        layers: names of layers in both, in the order in which they compute.
        feeds: inputs by name, of real play.
    """
    wanted = _means(model, layers, feeds)
    for name in layers:
        shift = wanted[name] - _means(rounded, [name], feeds)[name]
        bias = _node(rounded.graph, name).input[2]
        source = next(node for node in rounded.graph.node if bias in node.output)
        tensor, scale = (_tensor(rounded.graph, given) for given in source.input[:2])
        steps = np.rint(shift / numpy_helper.to_array(scale)).astype(np.int32)
        changed = numpy_helper.to_array(tensor) + steps
        tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))


def _means(
    model: onnx.ModelProto, layers: Sequence[str], feeds: Sequence[Arrays]
) -> dict[str, NDArray[np.float64]]:
    """Return the means [C] of what layers say, [batch, C, …], by channel."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    tensors = [_node(probe.graph, name).output[0] for name in layers]
    del probe.graph.output[:]
    probe.graph.output.extend(
        onnx.helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, None)
        for tensor in tensors
    )
    session = new_session(probe.SerializeToString())
    sums = [np.zeros(1) for _ in tensors]
    for given in feeds:
        for index, values in enumerate(session.run(tensors, given)):
            by_channel = values.reshape(*values.shape[:2], -1).mean(2, np.float64)
            sums[index] = sums[index] + by_channel.sum(0)
    count = sum(len(given["observation"]) for given in feeds)
    return {name: total / count for name, total in zip(layers, sums, strict=True)}


def _num_channels(graph: Any, node: Any) -> int:
    """Return the number of channels that a layer gives."""
    weight = _tensor(graph, node.input[1])
    transposed = any(each.name == "transB" and each.i for each in node.attribute)
    return int(weight.dims[0] if transposed or node.op_type == "Conv" else weight.dims[1])


def _node(graph: Any, name: str) -> Any:
    return next(node for node in graph.node if node.name == name)


def _tensor(graph: Any, name: str) -> Any:
    return next(tensor for tensor in graph.initializer if tensor.name == name)
