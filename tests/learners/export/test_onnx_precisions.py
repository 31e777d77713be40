"""ONNX files in float16 and int8: what is rounded in them, and what is not."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from common.errors import MismatchError
from common.policies.policy import Policy, new_policy
from common.policies.spec import PolicySpec
from common.programs import open_program
from learners.export import export_onnx, verify_onnx
from tests.learners.export.test_onnx_memory import observations_for
from tests.learners.export.test_onnx_memory import policy_of as memory_policy
from tests.students import cartpole_student, pong_student


def weights_of(path: Path, dtype: int) -> dict[str, int]:
    """Return names and sizes of the weights (of two axes or more) of a type."""
    return {
        tensor.name: int(np.prod(tensor.dims))
        for tensor in onnx.load(path).graph.initializer
        if tensor.data_type == dtype and len(tensor.dims) > 1
    }


def num_weights(policy: Policy) -> int:
    return sum(tensor.numel() for tensor in policy.network.parameters() if tensor.dim() > 1)


def test_int8_rounds_every_layer_of_frames_but_the_head(tmp_path: Path) -> None:
    policy, calibration, _ = pong_student()
    for precision in ("float32", "int8"):
        export_onnx(policy, tmp_path / precision, precision, calibration)
    assert sum(weights_of(tmp_path / "int8", TensorProto.FLOAT).values()) == 6 * 512
    int8 = weights_of(tmp_path / "int8", TensorProto.INT8)
    assert sum(int8.values()) == num_weights(policy) - 6 * 512
    sizes = [(tmp_path / precision).stat().st_size for precision in ("float32", "int8")]
    assert sizes[1] < 0.35 * sizes[0]
    # A scale for each channel that a layer gives.
    graph = onnx.load(tmp_path / "int8").graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    scales = [
        tensors[node.input[1]].dims
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in int8
    ]
    assert sorted(list(dims) for dims in scales) == [[32], [64], [64], [512]]


def test_int8_leaves_the_layer_in_float_that_sees_floats(tmp_path: Path) -> None:
    policy, calibration, _ = cartpole_student()
    export_onnx(policy, tmp_path / "file", "int8", calibration)
    assert sum(weights_of(tmp_path / "file", TensorProto.FLOAT).values()) == 4 * 32 + 32 * 2
    assert sum(weights_of(tmp_path / "file", TensorProto.INT8).values()) == 32 * 32


@pytest.mark.parametrize("kind", ["vectors", "frames"])
def test_int8_leaves_the_cell_of_a_memory_in_float(kind: str, tmp_path: Path) -> None:
    policy = memory_policy(kind, has_value=True)
    observations = observations_for(policy, 600)
    export_onnx(policy, tmp_path / "file", "int8", observations)
    in_float = weights_of(tmp_path / "file", TensorProto.FLOAT)
    cell = sum(t.numel() for n, t in policy.network.named_parameters() if "core.weight" in n)
    # Of vectors, the heads are all that is left to quantise.
    others = 4 * 8 if kind == "frames" else 4 * 16
    assert sum(in_float.values()) == cell + others
    check = verify_onnx(tmp_path / "file", policy, observations)
    assert check.max_abs_difference < 0.1


def test_float16_halves_the_file_and_keeps_the_heads(tmp_path: Path) -> None:
    policy, _, _ = pong_student()
    for precision in ("float32", "float16"):
        export_onnx(policy, tmp_path / precision, precision)
    assert sum(weights_of(tmp_path / "float16", TensorProto.FLOAT).values()) == 6 * 512
    sizes = [(tmp_path / precision).stat().st_size for precision in ("float32", "float16")]
    assert sizes[1] < 0.6 * sizes[0]


NORMALIZER = {"mean": (100.0, 0.0, -3.0), "std": (1e-3, 2.0, 0.5), "clip": 10.0}


def test_float16_normalises_in_float32(tmp_path: Path) -> None:
    spec = {
        "name": "far from zero",
        "network": {"name": "mlp", "hidden": (16,)},
        "observation": {"shape": (3,), "dtype": "float32", "normalizer": NORMALIZER},
        "num_actions": 3,
    }
    policy = new_policy(PolicySpec.model_validate(spec), seed=0)
    seen = np.random.default_rng(0).normal(size=(500, 3)) * NORMALIZER["std"] + NORMALIZER["mean"]
    export_onnx(policy, tmp_path / "file", "float16")
    check = verify_onnx(tmp_path / "file", policy, seen.astype(np.float32))
    assert check.max_abs_difference < 0.02  # in float16, 100.001 is 100


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_a_file_tells_how_many_weights_and_biases_it_has(precision: Any, tmp_path: Path) -> None:
    policy, calibration, _ = pong_student()
    export_onnx(policy, tmp_path / "file", precision, calibration)
    program = open_program("onnx", (tmp_path / "file").read_bytes(), source="file")
    assert program.interface.num_parameters == policy.num_parameters
    assert program.interface.spec_json == policy.spec.model_dump_json()


def test_the_same_calibration_gives_the_same_file(tmp_path: Path) -> None:
    policy, calibration, _ = cartpole_student()
    for name in ("a", "b"):
        export_onnx(policy, tmp_path / name, "int8", calibration)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    export_onnx(policy, tmp_path / "c", "int8", calibration[:5])
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


def test_int8_files_hold_no_local_paths_and_nothing_of_other_domains(tmp_path: Path) -> None:
    policy, calibration, _ = cartpole_student()
    export_onnx(policy, tmp_path / "file", "int8", calibration)
    content = (tmp_path / "file").read_bytes()
    assert str(Path.cwd()).encode() not in content
    assert b"/tmp" not in content
    assert {node.domain for node in onnx.load(tmp_path / "file").graph.node} == {""}


def test_calibrations_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    policy, _, _ = cartpole_student()
    for wrong in (np.zeros((5, 3), np.float32), np.zeros((0, 4), np.float32)):
        with pytest.raises(MismatchError, match=r"takes float32 \('M', 4\)"):
            export_onnx(policy, tmp_path / "file", "int8", wrong)
    assert not (tmp_path / "file").exists()


def test_int8_reads_frames_as_the_bytes_that_they_are(tmp_path: Path) -> None:
    policy, calibration, _ = pong_student()
    dark = calibration // 3  # brighter ones come later
    export_onnx(policy, tmp_path / "file", "int8", dark)
    graph = onnx.load(tmp_path / "file").graph
    (reader,) = (node for node in graph.node if "observation" in node.input)
    assert reader.op_type == "DequantizeLinear"
    assert not {"Cast", "Mul"} & {node.op_type for node in graph.node}
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    scale, zero_point = (tensors[name] for name in reader.input[1:])
    assert (scale, zero_point) == (np.float32(1 / 255), 0)
