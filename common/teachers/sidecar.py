"""What a program's outputs mean: told by the JSON beside it, and by the program where it can be.

The JSON is like a `PolicySpec`, and everything in it that the program shows by itself may be left
out. A program that Stillhouse exported carries its specification inside and needs no JSON.
"""

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field, PositiveInt

from common.config import StrictModel, validate
from common.errors import PolicyFileError
from common.networks.external import ExternalSpec
from common.policies.box import BoxActions
from common.policies.policy import Policy, policy_from_state
from common.policies.spec import ActingSpec, DistKind, ObservationSpec, PolicySpec
from common.programs import Program, Runtime, open_program

_DIST_NAMES: dict[str, DistKind] = {
    "logits": "logits",
    "action_logits": "logits",
    "q_values": "q_values",
}
"""Names of outputs that say what they are."""
_VALUE_NAME = "value"
_PROBE = 2
"""Observations that a program is tried with."""


class SidecarObservation(StrictModel):
    """What the program sees of one environment copy."""

    shape: tuple[PositiveInt, ...] | None = None
    dtype: Literal["uint8", "float32"] | None = None
    scale: float | None = Field(default=None, gt=0)
    """The program sees scale times the observation."""


class SidecarOutputs(StrictModel):
    """Which output is what: by its name, or by its place ("0", "1", …) where it has none."""

    dist_inputs: str | None = None
    """[B, A] logits or Q-values, or what `PolicySpec.dist` says of a Box."""
    value: str | None = None
    """[B] or [B, 1] state values."""


class Sidecar(StrictModel):
    """The JSON beside a program, or what a factory returns with its module."""

    name: str | None = None
    observation: SidecarObservation = SidecarObservation()
    outputs: SidecarOutputs = SidecarOutputs()
    num_actions: int | None = Field(default=None, ge=2)
    action_box: BoxActions | None = None
    action_meanings: tuple[str, ...] | None = None
    dist: DistKind | None = None
    acting: ActingSpec = ActingSpec()
    environment: dict[str, Any] = Field(default_factory=dict)
    measured: dict[str, Any] = Field(default_factory=dict)
    provenance: dict[str, Any] = Field(default_factory=dict)


class Origin(NamedTuple):
    """Where a program comes from, for errors."""

    name: str
    """Of the program."""
    tells: str
    """Where to write what is missing."""


def policy_of(runtime: Runtime, content: bytes, path: Path) -> Policy:
    """Return a program's file as a policy, by the JSON beside it where it needs one.

    Args:
        runtime: what it is written for; whoever calls has made sure that it may be opened.
        content: of the file.
        path: of the file.

    Raises:
        PolicyFileError: it cannot be opened, something about it is not told, or it does not do
            what is told.
        ConfigError: the JSON is wrong.
    """
    program = open_program(runtime, content, source=str(path))
    if program.interface.spec_json is not None:
        told = _told_by_stillhouse(program.interface.spec_json)
        return describe(program, told, runtime, content, Origin(str(path), str(path)))
    beside = path.with_suffix(".json")
    told = _read(beside) if beside.exists() else Sidecar()
    told = told.model_copy(update={"name": told.name or path.stem})
    return describe(program, told, runtime, content, Origin(str(path), str(beside)))


def describe(
    program: Program, told: Sidecar, runtime: Runtime, content: bytes, origin: Origin
) -> Policy:
    """Return a program as a policy, after trying it.

    Raises:
        PolicyFileError: something about it is not told, or it does not do what is told.
    """
    observation = _observation(program, told, origin)
    input_dtype = program.interface.dtype or "float32"
    outputs = _try(program, observation.shape, input_dtype, origin)
    dist_inputs = _dist_inputs(outputs, told, origin)
    value = told.outputs.value or (_VALUE_NAME if _VALUE_NAME in outputs else None)
    if value is not None:
        _check_value(outputs, value, origin)
    dist = told.dist or _DIST_NAMES.get(dist_inputs)
    if dist is None:
        raise _missing(origin, "dist", '"logits" or "q_values"')
    width = outputs[dist_inputs].shape[1]
    num_actions = told.num_actions
    if num_actions is None and told.action_box is None:
        num_actions = width
    spec = PolicySpec(
        name=told.name or origin.name,
        network=ExternalSpec.model_validate(
            {
                "runtime": runtime,
                "num_bytes": len(content),
                "num_parameters": program.interface.num_parameters,
                "dist_inputs": dist_inputs,
                "value": value,
                "input_dtype": input_dtype,
                "batch_size": program.interface.batch_size,
            }
        ),
        observation=observation,
        num_actions=num_actions,
        action_box=told.action_box,
        action_meanings=told.action_meanings,
        dist=dist,
        has_value=value is not None,
        acting=told.acting,
        environment=told.environment,
        measured=told.measured,
        provenance={"format": runtime} | told.provenance,
    )
    if spec.num_dist_inputs != width:
        says = f"num_actions = {num_actions}"
        if spec.action_box is not None:
            says = f"dist = {dist!r} of {spec.action_box}"
        raise PolicyFileError(
            f"{origin.name}: output {dist_inputs!r} has {width} columns, and {origin.tells} says "
            f"{says}"
        )
    state = {"program": torch.frombuffer(bytearray(content), dtype=torch.uint8)}
    return policy_from_state(spec, state, source=origin.name)


def _told_by_stillhouse(spec_json: str) -> Sidecar:
    """Return what the specification in an exported file says; its graph scales by itself."""
    spec = PolicySpec.model_validate_json(spec_json)
    return Sidecar(
        name=spec.name,
        observation=SidecarObservation(
            shape=spec.observation.shape, dtype=spec.observation.dtype, scale=1.0
        ),
        outputs=SidecarOutputs(
            dist_inputs="dist_inputs", value="value" if spec.has_value else None
        ),
        num_actions=spec.num_actions,
        action_box=spec.action_box,
        action_meanings=spec.action_meanings,
        dist=spec.dist,
        acting=spec.acting,
        environment=spec.environment,
        measured=spec.measured,
        provenance=spec.provenance,
    )


def _read(path: Path) -> Sidecar:
    try:
        tree = json.loads(path.read_bytes())
    except OSError as error:
        raise PolicyFileError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise PolicyFileError(f"{path}: not JSON ({error})") from None
    if not isinstance(tree, dict):
        raise PolicyFileError(f"{path}: a JSON {type(tree).__name__}, not an object")
    return validate(Sidecar, tree, str(path))


def _observation(program: Program, told: Sidecar, origin: Origin) -> ObservationSpec:
    interface, given = program.interface, told.observation
    if interface.dtype not in (None, "float32", "uint8"):
        raise PolicyFileError(
            f"{origin.name}: takes observations of {interface.dtype}; write it for float32 or uint8"
        )
    shape = given.shape or interface.shape
    if shape is None:
        raise _missing(origin, "observation.shape", "of one observation, as [4]")
    if interface.shape not in (None, shape):
        raise PolicyFileError(
            f"{origin.name}: takes observations of shape {interface.shape}, and {origin.tells} "
            f"says {shape}"
        )
    of_bytes, frames = interface.dtype == "uint8", len(shape) > 1
    dtype = given.dtype or ("uint8" if of_bytes else None if frames else "float32")
    if dtype is None:
        raise _missing(origin, "observation.dtype", 'as the environment gives them: "uint8"')
    scale = given.scale or (None if frames and dtype == "uint8" and not of_bytes else 1.0)
    if scale is None:
        raise _missing(origin, "observation.scale", "what it wants bytes multiplied by, as 1.0")
    if of_bytes and (dtype != "uint8" or scale != 1.0):
        raise PolicyFileError(
            f"{origin.name}: takes bytes, and {origin.tells} says {dtype} times {scale:g}"
        )
    return ObservationSpec(shape=shape, dtype=dtype, scale=scale)


def _try(
    program: Program, shape: tuple[int, ...], dtype: str, origin: Origin
) -> dict[str, torch.Tensor]:
    """Ask the program about zeros and return its outputs that have a row for each."""
    count = program.interface.batch_size or _PROBE
    zeros = torch.zeros(count, *shape, dtype=getattr(torch, dtype))
    try:
        with torch.inference_mode():
            outputs = program(zeros)
    # A program can fail in any way.
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise PolicyFileError(
            f"{origin.name}: fails over {count} observations of shape {shape} ({reason:.300})"
        ) from None
    return {name: output for name, output in outputs.items() if output.shape[:1] == (count,)}


def _dist_inputs(outputs: dict[str, torch.Tensor], told: Sidecar, origin: Origin) -> str:
    narrowest = 2 if told.action_box is None else 1
    fitting = [
        name
        for name, output in outputs.items()
        if output.dim() == 2 and output.shape[1] >= narrowest and output.is_floating_point()
    ]
    if (name := told.outputs.dist_inputs) is not None:
        if name not in fitting:
            raise _unfit(outputs, name, "[B, A] of floats", origin)
        return name
    named = [name for name in fitting if name in _DIST_NAMES]
    if len(fitting) == 1 or len(named) == 1:
        return (named or fitting)[0]
    if not fitting:
        raise _unfit(outputs, None, "[B, A] of floats", origin)
    raise _missing(origin, "outputs.dist_inputs", f"one of {', '.join(fitting)}")


def _check_value(outputs: dict[str, torch.Tensor], name: str, origin: Origin) -> None:
    output = outputs.get(name)
    if output is None or output.numel() != len(output) or not output.is_floating_point():
        raise _unfit(outputs, name, "[B] or [B, 1]", origin)


def _unfit(
    outputs: dict[str, torch.Tensor], name: str | None, wanted: str, origin: Origin
) -> PolicyFileError:
    found = ", ".join(f"{key} {list(output.shape)}" for key, output in outputs.items()) or "none"
    what = "no output" if name is None else f"no output {name!r}"
    return PolicyFileError(f"{origin.name}: {what} of shape {wanted}; its outputs are {found}")


def _missing(origin: Origin, key: str, what: str) -> PolicyFileError:
    return PolicyFileError(
        f"{origin.name}: it does not tell {key} ({what}); add it to {origin.tells}"
    )
