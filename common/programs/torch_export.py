"""`.pt2` archives (`torch.export.save`).

torch reads them with pickle, without its weights-only reader for objects and as a fallback for
tensors, and evaluates the formulas of their shapes: a foreign archive can run any code.
"""

import io
from dataclasses import replace
from typing import Any

import torch

from common.programs.base import Interface, named_outputs

SPEC_FILE = "stillhouse_policy.json"
"""Where the archives that Stillhouse exports hold their `PolicySpec`, among the extra files."""


class ExportedModule:
    """A program of torch.export.

    Args:
        program: the program.
        spec_json: the `PolicySpec` beside it, where there is one.
    """

    def __init__(self, program: torch.export.ExportedProgram, spec_json: str | None) -> None:
        self._module: Any = program.module()
        self.interface = replace(_interface_of(program), spec_json=spec_json)

    def __call__(self, observations: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the outputs for observations [B, *shape] by name or place."""
        return named_outputs(self._module(observations))


def open_torch_export(content: bytes) -> ExportedModule:
    """Open a trusted archive of torch.export.

    Raises:
        Exception: it is damaged, or of a torch that differs too much.
    """
    extra = {SPEC_FILE: ""}  # torch reads extra files into what is given, where it is not empty
    program = torch.export.load(io.BytesIO(content), extra_files=extra)
    return ExportedModule(program, extra[SPEC_FILE] or None)


def _interface_of(program: torch.export.ExportedProgram) -> Interface:
    """Read the input's type and sizes from the graph; sizes that may vary are symbols there."""
    names = program.graph_signature.user_inputs
    examples = [node.meta["val"] for node in program.graph.nodes if node.name in names]
    example = examples[0] if len(examples) == 1 else None
    parameters = sum(tensor.numel() for tensor in program.parameters())
    if not isinstance(example, torch.Tensor) or example.dim() < 2:
        return Interface(num_parameters=parameters)
    batch, *shape = example.shape
    fixed = all(isinstance(size, int) for size in shape)
    return Interface(
        shape=tuple(shape) if fixed else None,
        dtype=str(example.dtype).removeprefix("torch."),
        batch_size=batch if isinstance(batch, int) else None,
        num_parameters=parameters,
    )
