"""State dicts of other programs: checked, and renamed to the tensors of our networks."""

import re
from collections.abc import Mapping
from typing import Any

import torch

from common.errors import PolicyFileError

State = dict[str, torch.Tensor]


def plain_state(loaded: Any, *, name: str) -> State:
    """Return a state dict in float32, after checking that it is one of ordinary tensors.

    Args:
        loaded: what a safe reader returned.
        name: what to call it in an error.

    Raises:
        PolicyFileError: it holds something else.
    """
    if not isinstance(loaded, Mapping) or not loaded:
        raise PolicyFileError(f"{name} is not a state dict; fetch it again")
    state: State = {}
    for key, tensor in loaded.items():
        ordinary = (
            isinstance(key, str)
            and key.isprintable()
            and isinstance(tensor, torch.Tensor)
            and tensor.device.type == "cpu"
            and tensor.layout == torch.strided
            and tensor.is_floating_point()
            # A view that repeats its bytes can claim any size.
            and 0 < tensor.nbytes <= tensor.untyped_storage().nbytes()
            and (tensor.dim() >= 2 or not key.endswith(".weight"))
        )
        if not ordinary:
            raise PolicyFileError(
                f"{name}: {key!r} is not an ordinary float tensor; give an unmodified file"
            )
        state[key] = tensor.detach().float()
    return state


def sequence(state: Mapping[str, torch.Tensor], prefix: str) -> list[str]:
    """Return the names of the layers with weights in `PREFIX.0, PREFIX.1, …`, in order."""
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.weight")
    found = sorted(int(match[1]) for name in state if (match := pattern.fullmatch(name)))
    return [f"{prefix}.{index}" for index in found]


def layers_as(ours: str, theirs: list[str]) -> dict[str, str]:
    """Return names of layers by ours, numbered: `OURS.0, OURS.1, …`."""
    return {f"{ours}.{index}": name for index, name in enumerate(theirs)}


def renamed(
    state: Mapping[str, torch.Tensor], layers: Mapping[str, str], *, supported: str
) -> State:
    """Return the tensors by our names; every tensor must have a place.

    Args:
        state: what was read.
        layers: their names of layers by ours.
        supported: what is understood, for an error.

    Raises:
        PolicyFileError: a tensor is missing or has no place.
    """
    wanted = {
        f"{ours}.{kind}": f"{theirs}.{kind}"
        for ours, theirs in layers.items()
        for kind in ("weight", "bias")
    }
    if missing := sorted(set(wanted.values()) - state.keys()):
        raise PolicyFileError(f"tensor {missing[0]} is missing; {supported}")
    if extra := sorted(state.keys() - set(wanted.values())):
        raise PolicyFileError(f"tensor {extra[0]} is not understood; {supported}")
    return {ours: state[theirs] for ours, theirs in wanted.items()}


def widths(state: Mapping[str, torch.Tensor], prefix: str) -> tuple[int, ...]:
    """Return the output sizes of `PREFIX.0, PREFIX.1, …`, in order."""
    return tuple(len(state[f"{name}.weight"]) for name in sequence(state, prefix))
