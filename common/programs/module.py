"""Modules of torch that a function of the user's made, pickled to reach other processes.

A pickle names classes: they must be importable where it is read.
"""

import io
import pickle
from typing import Any

import torch
from torch import nn

from common.errors import PolicyFileError
from common.programs.base import Interface, named_outputs


class PickledModule:
    """A torch module."""

    def __init__(self, module: nn.Module) -> None:
        self._module: Any = module
        parameters = sum(parameter.numel() for parameter in module.parameters())
        self.interface = Interface(num_parameters=parameters)

    def __call__(self, observations: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the outputs for observations [B, *shape] by name or place."""
        return named_outputs(self._module(observations))


def open_module(content: bytes) -> PickledModule:
    """Unpickle a trusted module.

    Raises:
        PolicyFileError: it is something else.
        Exception: it is damaged, or its class cannot be imported.
    """
    module = torch.load(io.BytesIO(content), map_location="cpu", weights_only=False)
    if not isinstance(module, nn.Module):
        raise PolicyFileError(f"it holds a {type(module).__name__}, not a torch module")
    return PickledModule(module.eval().requires_grad_(False))


def module_to_bytes(module: nn.Module) -> bytes:
    """Pickle a module as `open_module` reads it.

    Raises:
        PolicyFileError: it cannot be pickled.
    """
    buffer = io.BytesIO()
    try:
        torch.save(module, buffer)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise PolicyFileError(
            f"its module cannot be pickled for other processes ({error}); define its class at the "
            f"top of a module"
        ) from None
    return buffer.getvalue()
