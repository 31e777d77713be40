"""TorchScript archives (`torch.jit.save`).

Reading one runs its `__setstate__` methods, and TorchScript has operators that write files, so a
foreign archive may do harm before it is ever asked.
"""

import io
import warnings

import torch

from common.programs.base import Interface, named_outputs


class TorchScriptProgram:
    """A TorchScript module."""

    def __init__(self, module: torch.jit.ScriptModule) -> None:
        self._module = module
        parameters = sum(parameter.numel() for parameter in module.parameters())
        self.interface = Interface(num_parameters=parameters)

    def __call__(self, observations: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the outputs for observations [B, *shape] by name or place."""
        return named_outputs(self._module(observations))


def open_torchscript(content: bytes) -> TorchScriptProgram:
    """Open a trusted TorchScript archive.

    Raises:
        Exception: it is damaged.
    """
    with warnings.catch_warnings():
        # torch advises authors of new programs against TorchScript.
        warnings.filterwarnings("ignore", r".*torch\.jit\.\w+` is", DeprecationWarning)
        module = torch.jit.load(  # type: ignore[no-untyped-call]  # torch's stubs lack it
            io.BytesIO(content), map_location="cpu"
        )
    return TorchScriptProgram(module.eval())
