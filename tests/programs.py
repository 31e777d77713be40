"""Small teachers in the files of other runtimes, and what they should answer.

All compute one thing: logits = W x, and value = the first entry of x.
"""

import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper
from torch import nn

from common.programs.module import module_to_bytes
from tests.cartpole import GAINS

WEIGHT = torch.stack([-GAINS, GAINS])
"""[2, 4]: pushes the cart of CartPole as the feedback of `tests.cartpole` does."""


class Linear(nn.Module):
    """Observations [B, 4] → logits [B, 2] and value [B, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2, bias=False)
        with torch.no_grad():
            self.layer.weight.copy_(WEIGHT)

    def forward(self, observation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits and value."""
        return self.layer(observation), observation[:, :1]


class Logits(Linear):
    """Without a value."""

    def forward(self, observation: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Return the logits alone."""
        logits: torch.Tensor = self.layer(observation)
        return logits


def expected(observations: npt.NDArray[Any], scale: float = 1.0) -> npt.NDArray[np.float32]:
    """Return the logits for observations [B, 4]."""
    logits: npt.NDArray[np.float32] = (observations * np.float32(scale)) @ WEIGHT.numpy().T
    return logits


def onnx_bytes(
    *,
    batch: int | str = "batch",
    input_type: int = TensorProto.FLOAT,
    logits: str = "logits",
    value: str | None = "value",
    external: bool = False,
) -> bytes:
    """Return an ONNX file; `logits` and `value` name its outputs."""
    nodes = [
        helper.make_node("Cast", ["observation"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Gemm", ["x", "weight"], [logits], transB=1),
    ]
    outputs = [helper.make_tensor_value_info(logits, TensorProto.FLOAT, [batch, 2])]
    weights = [onnx.numpy_helper.from_array(WEIGHT.numpy(), "weight")]
    if value is not None:
        weights.append(onnx.numpy_helper.from_array(np.eye(1, 4, dtype=np.float32), "first"))
        nodes.append(helper.make_node("Gemm", ["x", "first"], [value], transB=1))
        outputs.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, [batch, 1]))
    observation = helper.make_tensor_value_info("observation", input_type, [batch, 4])
    graph = helper.make_graph(nodes, "policy", [observation], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    if external:
        for weight in model.graph.initializer:
            onnx.external_data_helper.set_external_data(weight, "weights.bin")
            weight.data_location = TensorProto.EXTERNAL
    content: bytes = model.SerializeToString()
    return content


def torchscript_bytes(module: nn.Module) -> bytes:
    """Return a TorchScript archive."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*torch\.jit\.\w+` is", DeprecationWarning)
        torch.jit.save(torch.jit.script(module), buffer)
    return buffer.getvalue()


def torch_export_bytes(module: nn.Module, *, batch: int | None = None) -> bytes:
    """Return a .pt2 archive, for any number of observations or for `batch` at once."""
    example = torch.zeros(batch or 2, 4)
    sizes = None if batch else ({0: torch.export.Dim("batch")},)
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(module, (example,), dynamic_shapes=sizes), buffer)
    return buffer.getvalue()


PROGRAM_BYTES = {
    "onnx": onnx_bytes,
    "torchscript": lambda: torchscript_bytes(Linear()),
    "torch_export": lambda: torch_export_bytes(Linear()),
    "module": lambda: module_to_bytes(Linear()),
}
"""A program for every runtime."""

SUFFIXES = {"onnx": ".onnx", "torchscript": ".pt", "torch_export": ".pt2"}

SIDECAR: dict[str, Any] = {
    "observation": {"shape": [4]},
    "dist": "logits",
    "outputs": {"dist_inputs": "0", "value": "1"},
}
"""What a program of torch with outputs by place must tell."""

ONNX_SIDECAR: dict[str, Any] = {"dist": "logits"}


def write_program(folder: Path, runtime: str) -> Path:
    """Write a program and the JSON beside it; return the program's place."""
    path = folder / f"teacher{SUFFIXES[runtime]}"
    path.write_bytes(PROGRAM_BYTES[runtime]())
    sidecar = ONNX_SIDECAR if runtime == "onnx" else SIDECAR
    path.with_suffix(".json").write_text(json.dumps(sidecar))
    return path
