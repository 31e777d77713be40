"""What every program is: a function of observations, and what its file says about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """What a program's file says of its input."""

    shape: tuple[int, ...] | None = None
    """Of one observation; None where the file does not say."""
    dtype: str | None = None
    """Of the observations, by torch's and NumPy's name; None where the file does not say."""
    batch_size: int | None = None
    """The number of observations that it takes at once; None: any number."""
    num_parameters: int = 0
    """Weights and biases."""
    spec_json: str | None = None
    """The `PolicySpec` that Stillhouse wrote into the file."""


class Program(Protocol):
    """An opened program."""

    @property
    def interface(self) -> Interface:
        """What its file says."""

    def __call__(self, observations: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Return the outputs by name.

        Args:
            observations: [B, *shape] on the CPU, in the program's type.
        """


def named_outputs(outputs: Any) -> dict[str, torch.Tensor]:
    """Return a torch program's outputs by name: keys, field names, or places ("0", "1", …)."""
    if isinstance(outputs, torch.Tensor):
        return {"0": outputs}
    if isinstance(outputs, Mapping):
        pairs = [(str(name), output) for name, output in outputs.items()]
    elif isinstance(outputs, tuple | list):
        names = getattr(outputs, "_fields", range(len(outputs)))
        pairs = [(str(name), output) for name, output in zip(names, outputs, strict=True)]
    else:
        raise TypeError(f"it returns {type(outputs).__name__}, not tensors")
    return {name: output for name, output in pairs if isinstance(output, torch.Tensor)}
