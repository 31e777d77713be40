"""Export formats by name. A new one is one file and one line in the table."""

from collections.abc import Callable
from dataclasses import dataclass

from common.policies.policy import Policy
from common.storage import Location
from learners.export.onnx_export import ExportCheck, export_onnx, verify_onnx
from learners.export.rl_module_export import export_rl_module

__all__ = [
    "EXPORT_FORMATS",
    "ExportCheck",
    "ExportFormat",
    "export_onnx",
    "export_rl_module",
    "verify_onnx",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFormat:
    """How a policy is written for others."""

    write: Callable[[Policy, Location], None]
    """Writes it to a place."""
    is_folder: bool = False
    """Whether the place is a folder of files and not one file."""


EXPORT_FORMATS: dict[str, ExportFormat] = {
    "onnx": ExportFormat(write=export_onnx),
    "rlmodule": ExportFormat(write=export_rl_module, is_folder=True),
}
