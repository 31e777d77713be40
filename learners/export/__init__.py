"""Export formats by name. A new one is one file and one line in the table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from common.policies.inference import InferencePolicy, Observations
from common.policies.policy import Policy
from common.storage import Location
from common.teachers import load_teacher
from learners.export.c_export import export_c
from learners.export.c_run import lacks_compiler, open_c, run_c
from learners.export.check import (
    LIMITS,
    ExportCheck,
    Limits,
    Precision,
    Run,
    compare,
    latency_ms,
    run_policy,
)
from learners.export.exported_policy import refuse_program
from learners.export.local_copy import local_copy
from learners.export.onnx_export import export_onnx, run_onnx, verify_onnx
from learners.export.rl_module_export import export_rl_module, run_rl_module
from learners.export.sb3_export import export_sb3, run_sb3
from learners.export.torch_export import export_torch, run_torch
from learners.export.written import Written

__all__ = [
    "EXPORT_FORMATS",
    "LIMITS",
    "ExportCheck",
    "ExportFormat",
    "Limits",
    "Precision",
    "Run",
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

Write = Callable[[Policy, Location, Precision, Observations | None], Written]
"""Writes a policy to a place, in a precision that the format has; int8 is given observations."""


def _open_teacher(location: Location, policy: Policy) -> InferencePolicy:
    """Return what was written of a policy as it is read back as a teacher, to act as the policy."""
    with local_copy(location) as path:
        exported = load_teacher(path, trust=True)  # it was written here a moment ago
    spec = exported.spec.model_copy(update={"acting": policy.spec.acting})
    return InferencePolicy(replace(exported, spec=spec))


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
    """The first is what is written where none is named."""
    is_folder: bool = False
    """Whether the place is a folder of files and not one file."""
    open: Callable[[Location, Policy], InferencePolicy] = _open_teacher
    """Opens what was written of a policy, to play."""
    lacks: Callable[[], str | None] = lambda: None
    """Says what is not here and has to be, to run and open it."""
    limits: Mapping[Precision, Limits] = field(default_factory=lambda: LIMITS)
    """How like its policy it must act."""
    num_calibration: int = 512
    """Observations that int8 is calibrated with."""


def _in_float32(write: Callable[[Policy, Location], None]) -> Write:
    """Return how a format is written that has one precision."""

    def written(
        policy: Policy, location: Location, precision: Precision, calibration: Observations | None
    ) -> Written:
        write(policy, location)
        return Written()

    return written


def _onnx(
    policy: Policy, location: Location, precision: Precision, calibration: Observations | None
) -> Written:
    export_onnx(policy, location, precision, calibration)
    return Written()


def _rl_module(
    policy: Policy, location: Location, precision: Precision, calibration: Observations | None
) -> Written:
    return Written(notes=export_rl_module(policy, location))


def _c(
    policy: Policy, location: Location, precision: Precision, calibration: Observations | None
) -> Written:
    assert calibration is not None  # as for every int8
    return export_c(policy, location, calibration=calibration)


_ALL: tuple[Precision, ...] = ("float32", "float16", "int8")

EXPORT_FORMATS: dict[str, ExportFormat] = {
    "onnx": ExportFormat(".onnx", "onnxruntime", _onnx, run_onnx, _ALL),
    "pt2": ExportFormat(".pt2", "torch", _in_float32(export_torch), run_torch),
    "sb3": ExportFormat(".zip", "read back", _in_float32(export_sb3), run_sb3),
    "rlmodule": ExportFormat(".rlmodule", "RLlib", _rl_module, run_rl_module, is_folder=True),
    "c": ExportFormat(
        ".c",
        "cc",
        _c,
        run_c,
        ("int8",),
        open=open_c,
        lacks=lacks_compiler,
        limits={"int8": Limits(0.99, 0.01)},
        num_calibration=4_000,
    ),
}
