"""Programs: policies that bring their own runtime, as the bytes of a file.

A new runtime is one file and one line in `PROGRAMS`. Whoever opens a program has made sure that it
may be run: `refuse_untrusted` stands where files come in.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from common.errors import PolicyFileError
from common.programs.base import Interface, Program
from common.programs.module import open_module
from common.programs.onnx import open_onnx
from common.programs.torch_export import open_torch_export
from common.programs.torchscript import open_torchscript

__all__ = ["PROGRAMS", "Interface", "Program", "Runtime", "open_program", "refuse_untrusted"]

Runtime = Literal["onnx", "torchscript", "torch_export", "module"]


@dataclass(frozen=True, slots=True)
class ProgramKind:
    """How one kind of program is called, opened, and what it could do."""

    description: str
    open: Callable[[bytes], Program]
    """Reads the file's content; may raise anything."""
    risk: str | None
    """What opening or running it could do, where it is more than to compute."""


PROGRAMS: dict[Runtime, ProgramKind] = {
    "onnx": ProgramKind("an ONNX file", open_onnx, None),
    "torchscript": ProgramKind(
        "a TorchScript archive",
        open_torchscript,
        "TorchScript can write files, already while it is read",
    ),
    "torch_export": ProgramKind(
        "a .pt2 archive of torch.export",
        open_torch_export,
        "torch.export unpickles what is in its archives, which can run any code",
    ),
    "module": ProgramKind(
        "a pickled torch module", open_module, "a pickled module can run any code when it is read"
    ),
}


def open_program(runtime: Runtime, content: bytes, *, source: str) -> Program:
    """Open a program that may be run.

    Args:
        runtime: what it is written for.
        content: of its file.
        source: what to call the file in an error.

    Raises:
        PolicyFileError: it cannot be opened.
    """
    kind = PROGRAMS[runtime]
    try:
        return kind.open(content)
    except PolicyFileError as error:
        raise PolicyFileError(f"{source}: {error}") from None
    # Runtimes fail in any way over a damaged file.
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise PolicyFileError(
            f"{source}: damaged or not {kind.description} ({reason:.300}); fetch it again"
        ) from None


def refuse_untrusted(runtime: Runtime, *, trust: bool, source: str) -> None:
    """Refuse a program that could do more than compute, unless its user trusts it.

    Raises:
        PolicyFileError: with what it could do, and how to allow it.
    """
    risk = PROGRAMS[runtime].risk
    if risk is not None and not trust:
        raise PolicyFileError(
            f"{source}: {risk}; if you trust where it comes from, set teacher.trust = true"
        )
