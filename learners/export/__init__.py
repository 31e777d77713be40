"""Export formats by name. A new one is one file and one line in the table."""

from collections.abc import Callable
from dataclasses import dataclass

from common.policies.inference import Observations
from common.policies.policy import Policy
from common.storage import Location
from learners.export.c_export import write_c
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

    write: Callable[[Policy, Location, Observations | None], str]
    """Writes it to a place, and returns what there is to say about it. Real observations of it
    [M, *shape] are the third argument; none where the format does without."""
    calibrates: bool = False
    """Whether it needs observations."""
    is_folder: bool = False
    """Whether the place is a folder of files and not one file."""


def _plain(write: Callable[[Policy, Location], None]) -> Callable[..., str]:
    """Return how a format is written that needs no observations."""

    def written(policy: Policy, location: Location, _: Observations | None) -> str:
        write(policy, location)
        return ""

    return written


EXPORT_FORMATS: dict[str, ExportFormat] = {
    "onnx": ExportFormat(write=_plain(export_onnx)),
    "rlmodule": ExportFormat(write=_plain(export_rl_module), is_folder=True),
    "c": ExportFormat(write=write_c, calibrates=True),
}
