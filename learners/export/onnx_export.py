"""Write a policy as one ONNX file that runs without Stillhouse, and check the file by running it.

`learners.export.exported_policy` says what goes in and comes out. The precisions:

- `float32`.
- `float16`: the network's weights and what it computes; heads stay in float32.
- `int8`: quantised on real observations (`learners.export.onnx_quantization`).

The `PolicySpec` travels in the model's metadata as JSON, under `SPEC_METADATA_KEY`.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from common.errors import PolicyFileError, StorageError
from common.policies.inference import Observations
from common.policies.policy import Policy
from common.programs.onnx import SPEC_METADATA_KEY, new_session
from common.storage import Location, Named, locate
from learners.export.check import (
    ExportCheck,
    Precision,
    Run,
    answers,
    check_observations,
    compare,
)
from learners.export.exported_policy import (
    BATCH_AXIS,
    ExportedPolicy,
    example_inputs,
    output_names,
)
from learners.export.onnx_quantization import quantized

OPSET = 18

_LOAD_ERRORS = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)


def export_onnx(
    policy: Policy,
    path: Named,
    precision: Precision = "float32",
    calibration: Observations | None = None,
) -> None:
    """Write `policy` to `path` as ONNX with a dynamic batch size, weights inside the file.

    The file appears at once or not at all; an existing one is replaced.

    Args:
        policy: on any device and in any float type; it is left as it was.
        path: where to write; missing folders are made.
        precision: of the file.
        calibration: [M, *shape] real observations in the spec's dtype, which int8 needs.

    Raises:
        MismatchError: the policy is a program of another runtime, or `calibration` does not fit it.
        StorageError: it cannot be written.
    """
    model = _traced(policy, torch.float16 if precision == "float16" else torch.float32)
    if precision == "int8":
        assert calibration is not None
        check_observations(calibration, policy.spec)
        model = quantized(model, [given for given, _ in answers(policy, calibration)])
    onnx.helper.set_model_props(model, {SPEC_METADATA_KEY: policy.spec.model_dump_json()})
    onnx.checker.check_model(model)
    locate(path).write_bytes(model.SerializeToString())


def verify_onnx(path: Named, policy: Policy, observations: Observations) -> ExportCheck:
    """Run the file with onnxruntime on one CPU thread and compare it with `policy` in float32.

    Args:
        path: a file that `export_onnx` wrote, or one with the same input and outputs.
        policy: what the file should compute.
        observations: [M, *shape] raw observations in the spec's dtype, M ≥ 1.

    Raises:
        PolicyFileError: onnxruntime cannot load the file, or its input or outputs are not those
            of the policy.
        MismatchError: `observations` do not fit the policy's spec.
    """
    check_observations(observations, policy.spec)
    return compare(run_onnx(locate(path), policy), policy, observations)


def run_onnx(location: Location, policy: Policy) -> Run:
    """Return an exported file in onnxruntime.

    Raises:
        PolicyFileError: onnxruntime cannot load the file, or its input or outputs are not those
            of the policy.
    """
    session = _load_session(location)
    _check_interface(session, location, policy)
    names = output_names(policy)
    return lambda given: dict(zip(names, session.run(names, given), strict=True))


def _traced(policy: Policy, dtype: torch.dtype) -> onnx.ModelProto:
    """Return the policy as a graph that computes in `dtype`."""
    example = example_inputs(policy)
    batch = torch.export.Dim(BATCH_AXIS)
    with _quiet_exporter():
        program = torch.onnx.export(
            ExportedPolicy(policy, dtype=dtype),
            tuple(example.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(example),
            output_names=output_names(policy),
            dynamic_shapes={name: {0: batch} for name in example},
            verbose=False,
        )
    assert program is not None  # the dynamo exporter always returns a program
    model: onnx.ModelProto = program.model_proto
    _drop_trace(model)
    return model


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep torch's remarks about its own insides from the user of an export."""
    # The exporter logs a warning an operator of torchvision, which no policy uses.
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # torch 2.13 copies its own deprecated pytree class while it decomposes the graph.
            warnings.filterwarnings(
                "ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning
            )
            # Observation and memory share the axis that is named after the batch.
            warnings.filterwarnings("ignore", "# The axis name: batch will not be used")
            yield
    finally:
        logger.setLevel(level)


def _drop_trace(model: onnx.ModelProto) -> None:
    """Remove the exporter's notes from the graph: they hold source lines and local file paths."""
    graph = model.graph
    for part in (graph.node, graph.input, graph.output, graph.value_info, graph.initializer):
        for item in part:
            item.ClearField("metadata_props")
            item.ClearField("doc_string")


def _load_session(location: Location) -> Any:
    try:
        return new_session(location.read_bytes())
    except StorageError as error:
        raise PolicyFileError(
            f"{location}: onnxruntime cannot load it ({error}); export it again"
        ) from None
    except _LOAD_ERRORS as error:
        reason = " ".join(str(error).split())
        raise PolicyFileError(
            f"{location}: onnxruntime cannot load it ({reason}); export it again"
        ) from None


def _check_interface(session: Any, location: Location, policy: Policy) -> None:
    observation, memory_shape = policy.spec.observation, policy.network.memory_shape
    dtype = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}[observation.dtype]
    wanted = [("observation", dtype, observation.shape)]
    wanted += [] if memory_shape is None else [("memory", "tensor(float)", memory_shape)]
    given = [(node.name, node.type, tuple(node.shape[1:])) for node in session.get_inputs()]
    if given != wanted:
        raise PolicyFileError(f"{location}: its inputs are {given}, not {wanted}; export it again")
    names = [node.name for node in session.get_outputs()]
    if missing := [name for name in output_names(policy) if name not in names]:
        raise PolicyFileError(
            f"{location}: has no output {missing[0]}, only {names}; export it again"
        )
