"""Write a policy as one ONNX file that runs without Stillhouse, and check the file by running it.

The graph takes what the environment gives, raw observations in the dtype of the spec, so that
whoever deploys it cannot get the scaling wrong:

    observation [batch, *shape] → dist_inputs [batch, A] float32, action [batch] int64 (greedy),
                                  value [batch] float32 where the policy has one

Actions of a Box are [batch, D] float32, the policy's mean in the Box's own numbers, within its
bounds.

A policy with a memory takes memory [batch, *memory_shape] float32 too, zeros where an episode
starts, and gives next_memory, which goes in with the next observation.

The `PolicySpec` travels in the model's metadata as JSON, under `SPEC_METADATA_KEY`.
"""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors
from torch import nn

from common.errors import MismatchError, PolicyFileError, StorageError
from common.networks import NetworkOutput
from common.networks.external import ExternalNetwork
from common.policies.policy import Policy
from common.policies.spec import PolicySpec
from common.programs import PROGRAMS
from common.programs.onnx import SPEC_METADATA_KEY, new_session
from common.storage import Location, Named, locate
from learners.gaussian import taken_actions

OPSET = 18

_BATCH = 256
"""Observations a step of `verify_onnx`: 7 MB of stacked Atari frames."""
_LOAD_ERRORS = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportCheck:
    """How well an exported file agrees with the float32 policy that it was made from."""

    observations: int
    """Number of observations compared."""
    greedy_agreement: float | None
    """Share of them on which both take the same greedy action, where it is discrete."""
    action_error: float | None
    """Mean absolute difference of actions of a Box, in halves of its range."""
    max_abs_difference: float
    """Largest difference of any distribution input or value, in their own units; NaN where the
    file gives NaN."""


class _ExportedPolicy(nn.Module):
    """What the file computes: scaling, network, greedy action."""

    center: torch.Tensor
    half_range: torch.Tensor

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        # A copy, because the policy may be in training, on a GPU, or in bfloat16.
        self.network = copy.deepcopy(policy.network).to("cpu", torch.float32)
        self.scale = policy.spec.observation.scale
        self.dist = policy.spec.dist
        self.box = policy.spec.action_box
        if self.box is not None:
            self.register_buffer("center", torch.from_numpy(self.box.center))
            self.register_buffer("half_range", torch.from_numpy(self.box.half_range))
        self.eval()

    def forward(
        self, observation: torch.Tensor, memory: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, ...]:
        """Map raw observations [batch, *shape] to the outputs in `_output_names` order."""
        remembered: dict[str, Any] = {} if memory is None else {"memory": memory}
        output: NetworkOutput = self.network(
            observation.to(torch.float32) * self.scale, **remembered
        )
        if self.box is None:
            action = output.dist_inputs.argmax(dim=1)
        else:
            action = self.center + self.half_range * taken_actions(self.dist, output.dist_inputs)
        given = (output.dist_inputs, action, output.value, output.memory)
        return tuple(part for part in given if part is not None)


def export_onnx(policy: Policy, path: Named) -> None:
    """Write `policy` to `path` as ONNX with a dynamic batch size, weights inside the file.

    The file appears at once or not at all; an existing one is replaced.

    Args:
        policy: on any device and in any float type; it is left as it was.
        path: where to write; missing folders are made.

    Raises:
        MismatchError: the policy is a program of another runtime.
        StorageError: it cannot be written.
    """
    if isinstance(policy.network, ExternalNetwork):
        raise MismatchError(
            f"policy {policy.spec.name} is {PROGRAMS[policy.network.spec.runtime].description}, "
            f"which brings its own runtime; distil it, and export the student"
        )
    observation = policy.spec.observation
    # Two observations, because torch takes a size of one for a constant.
    example = {
        "observation": torch.zeros(2, *observation.shape, dtype=getattr(torch, observation.dtype))
    }
    if policy.network.memory_shape is not None:
        example["memory"] = torch.zeros(2, *policy.network.memory_shape)
    batch = torch.export.Dim("batch")
    with _quiet_exporter():
        program = torch.onnx.export(
            _ExportedPolicy(policy),
            tuple(example.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(example),
            output_names=_output_names(policy),
            dynamic_shapes={name: {0: batch} for name in example},
            verbose=False,
        )
    assert program is not None  # the dynamo exporter always returns a program
    model = program.model_proto
    _drop_trace(model)
    onnx.helper.set_model_props(model, {SPEC_METADATA_KEY: policy.spec.model_dump_json()})
    onnx.checker.check_model(model)
    locate(path).write_bytes(model.SerializeToString())


def verify_onnx(path: Named, policy: Policy, observations: NDArray[Any]) -> ExportCheck:
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
    location = locate(path)
    session = _load_session(location)
    _check_interface(session, location, policy)
    reference = _ExportedPolicy(policy)
    names = _output_names(policy)
    box = policy.spec.action_box
    shape = policy.network.memory_shape
    memory = None if shape is None else np.zeros((_BATCH, *shape), np.float32)
    likeness, largest = 0.0, 0.0
    for start in range(0, len(observations), _BATCH):
        batch = np.ascontiguousarray(observations[start : start + _BATCH])
        given = {"observation": batch}
        if memory is not None:
            given["memory"] = memory[: len(batch)]
        with torch.inference_mode():
            # torch.tensor copies: batches may be read-only, which torch.from_numpy warns about.
            tensors = (torch.tensor(array) for array in given.values())
            wanted = [tensor.numpy() for tensor in reference(*tensors)]
        got = session.run(names, given)
        if memory is not None:
            memory = wanted[-1]  # so that others than zeros go in with the next batch
        for name, ours, theirs in zip(names, wanted, got, strict=True):
            if name != "action":
                # np.maximum and not max: a NaN in the file's output must show.
                largest = float(np.maximum(largest, np.abs(ours - theirs).max()))
            elif box is None:
                likeness += float(np.count_nonzero(ours == theirs))
            else:
                likeness += float((np.abs(ours - theirs) / box.half_range).mean(-1).sum())
    return ExportCheck(
        observations=len(observations),
        greedy_agreement=likeness / len(observations) if box is None else None,
        action_error=None if box is None else likeness / len(observations),
        max_abs_difference=largest,
    )


def _output_names(policy: Policy) -> list[str]:
    names = ["dist_inputs", "action"]
    names += ["value"] if policy.spec.has_value else []
    return names + (["next_memory"] if policy.network.memory_shape is not None else [])


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


def check_observations(observations: NDArray[Any], spec: PolicySpec) -> None:
    """Refuse observations [M, *shape] that a policy does not take.

    Raises:
        MismatchError: they are of another type or shape, or there are none.
    """
    wanted = spec.observation
    given = (str(observations.dtype), observations.shape[1:])
    if given != (wanted.dtype, wanted.shape) or len(observations) == 0:
        raise MismatchError(
            f"observations are {observations.dtype} {observations.shape}; policy {spec.name} "
            f"takes {wanted.dtype} {('M', *wanted.shape)} with M at least 1"
        )


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
    if missing := [name for name in _output_names(policy) if name not in names]:
        raise PolicyFileError(
            f"{location}: has no output {missing[0]}, only {names}; export it again"
        )
