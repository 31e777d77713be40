"""Export formats by name. A new one is one file and one line in the table."""

from collections.abc import Callable

from common.policies.policy import Policy
from common.storage import Location
from learners.export.onnx_export import ExportCheck, export_onnx, verify_onnx

__all__ = ["EXPORT_FORMATS", "ExportCheck", "export_onnx", "verify_onnx"]

EXPORT_FORMATS: dict[str, Callable[[Policy, Location], None]] = {
    "onnx": export_onnx,
}
