"""Export formats by name. A new one is one file and one line in the table."""

from collections.abc import Callable
from dataclasses import dataclass

from common.policies.inference import Observations
from common.policies.policy import Policy
from common.storage import Location
from learners.export.check import (
    ExportCheck,
    Precision,
    Run,
    compare,
    latency_ms,
    run_policy,
)
from learners.export.exported_policy import refuse_program
from learners.export.onnx_export import export_onnx, run_onnx, verify_onnx
from learners.export.rl_module_export import export_rl_module, run_rl_module
from learners.export.sb3_export import export_sb3, run_sb3
from learners.export.torch_export import export_torch, run_torch

__all__ = [
    "EXPORT_FORMATS",
    "ExportCheck",
    "ExportFormat",
    "Precision",
    "compare",
    "export_onnx",
    "export_rl_module",
    "export_sb3",
    "export_torch",
    "latency_ms",
    "refuse_program",
    "run_policy",
    "verify_onnx",
]

Write = Callable[[Policy, Location, Precision, Observations | None], None]
"""Writes a policy to a place, in a precision that the format has; int8 is given observations."""


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """How a policy is written for others, and run as they run it."""

    suffix: str
    """Of the file's name."""
    runs_in: str
    """What answers when it is checked."""
    write: Write
    run: Callable[[Location, Policy], Run]
    """Opens what was written of a policy, to be asked."""
    precisions: tuple[Precision, ...] = ("float32",)
    is_folder: bool = False
    """Whether the place is a folder of files and not one file."""


def _in_float32(write: Callable[[Policy, Location], None]) -> Write:
    """Return how a format is written that has one precision."""
    return lambda policy, location, precision, calibration: write(policy, location)


_ALL: tuple[Precision, ...] = ("float32", "float16", "int8")

EXPORT_FORMATS: dict[str, ExportFormat] = {
    "onnx": ExportFormat(".onnx", "onnxruntime", export_onnx, run_onnx, _ALL),
    "pt2": ExportFormat(".pt2", "torch", _in_float32(export_torch), run_torch),
    "sb3": ExportFormat(".zip", "read back", _in_float32(export_sb3), run_sb3),
    "rlmodule": ExportFormat(
        ".rlmodule", "RLlib", _in_float32(export_rl_module), run_rl_module, is_folder=True
    ),
}
