"""An `IntegerNetwork` as one C file that needs no library and no heap.

Without scores it computes in whole numbers alone, but for the observations of floats.
"""

import math
import re
from dataclasses import dataclass
from string import Template
from textwrap import fill
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from common.policies.spec import PolicySpec
from learners.export.integer import c_parts
from learners.export.integer.c_plan import Plan, layer_names, plan
from learners.export.integer.integer_network import FRACTION_BITS, IntegerLayer, IntegerNetwork

_TYPES = {
    "int8": "int8_t",
    "uint8": "uint8_t",
    "int16": "int16_t",
    "int32": "int32_t",
    "float32": "float",
}


class _Numbers(NamedTuple):
    """What observations are of, for who feeds them to the program."""

    dtype: str
    code: str
    """NumPy's, in this machine's byte order."""
    order: str = ""


_BYTES = _Numbers("uint8", "u1")
_FLOATS = _Numbers("float32", "f4", " in this machine's byte order")


@dataclass(frozen=True, slots=True, kw_only=True)
class CSource:
    """The file and what the program takes."""

    text: str
    constant_bytes: int
    """Weights and all other tables, which can stay in flash."""
    ram_bytes: int
    """Static buffers."""


class _Writer:
    """Collects the file's text, and the bytes of what it declares."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.constant_bytes = 0

    def add(self, text: str, **values: object) -> None:
        """Write a part, with values in the place of its names."""
        self.parts.append(Template(text).substitute(values) if values else text)

    def table(self, name: str, values: npt.NDArray[Any]) -> str:
        """Write a constant array and return its name."""
        flat = values.reshape(-1)
        told = map(_c_float if flat.dtype == np.float32 else str, flat.tolist())
        body = fill(", ".join(told), 98, break_on_hyphens=False, break_long_words=False)
        kind = _TYPES[flat.dtype.name]
        self.add(f"static const {kind} {name}[{flat.size}] = {{\n{body}\n}};\n")
        self.constant_bytes += flat.nbytes
        return name

    def layer(self, name: str, layer: IntegerLayer) -> None:
        """Write a layer and its tables."""
        tables = {
            "weights": layer.weights,
            "biases": layer.biases,
            "multipliers": layer.multipliers,
            "shifts": layer.shifts,
        }
        names = [self.table(f"{name}_{part}", values) for part, values in tables.items()]
        names.append("NULL" if layer.curve is None else self.table(f"{name}_curve", layer.curve))
        told = ", ".join(names)
        self.add(f"static const sh_layer {name} = {{\n    {told},\n    {layer.limit}\n}};\n")


def c_source(network: IntegerNetwork, spec: PolicySpec) -> CSource:
    """Write a network as C.

    Args:
        network: what the program computes.
        spec: of its policy.
    """
    writer, planned = _Writer(), plan(network)
    value, item_bytes = ("uint8_t", 1) if network.bits == 8 else ("int16_t", 2)
    _add_functions(writer, network, planned)
    for name, layer in zip(layer_names(network), network.layers, strict=True):
        writer.layer(name, layer)
    writer.layer("sh_head", network.head)
    _add_act(writer, network, planned)
    ram_bytes = item_bytes * sum(planned.buffers.values()) + 2 * planned.patch
    buffers = [f"static sh_value {name}[{size}];" for name, size in planned.buffers.items()]
    buffers += [f"static int16_t sh_patch[{planned.patch}];"] if planned.patch else []
    observation = _BYTES if network.entry is None else _FLOATS
    size = math.prod(network.shape)
    head = Template(c_parts.HEAD).substitute(
        name=_plain(spec.name),
        shape=" x ".join(map(str, network.shape)),
        meanings=_meanings(spec),
        weight_bits=network.weight_bits,
        bits=network.bits,
        use=c_parts.CHOOSES if network.box is None else c_parts.STEERS,
        ram_bytes=f"{ram_bytes:,}",
        constant_bytes=f"{writer.constant_bytes:,}",
        size=size,
        outputs=len(network.head.weights),
        observation=_TYPES[observation.dtype],
        dtype=observation.dtype,
        order=observation.order,
        code=observation.code,
        value=value,
        weight=_TYPES[network.head.weights.dtype.name],
    )
    main = Template(c_parts.MAIN).substitute(size=size, dtype=observation.dtype)
    parts = [head, *buffers, "", *writer.parts, main, c_parts.END]
    return CSource(text="\n".join(parts), constant_bytes=writer.constant_bytes, ram_bytes=ram_bytes)


def _add_functions(writer: _Writer, network: IntegerNetwork, planned: Plan) -> None:
    """Write the functions that the network calls: others would be warned of as unused."""
    writer.add(c_parts.LAYER)
    writer.add(c_parts.SUM, kind="values", type="sh_value")
    writer.add(c_parts.SCALE)
    curved = network.layers[0].curve is not None
    if curved or network.head.curve is not None:
        writer.add(c_parts.CURVE)
    writer.add(c_parts.CURVED if curved else c_parts.RELU)
    if planned.convolutions:
        writer.add(c_parts.SHAPE)
        writer.add(c_parts.SUM, kind="patch", type="int16_t")
    for kind, type_of_input in planned.convolutions.items():
        writer.add(c_parts.CONVOLUTION, kind=kind, type=type_of_input)
    writer.add(c_parts.DENSE)
    if network.indices is None:
        return
    writer.table("sh_indices", network.indices.astype(np.int32))
    inputs = network.indices.size
    if (entry := network.entry) is None:
        writer.add(c_parts.READ_BYTES, inputs=inputs)
        return
    writer.table("sh_center", entry.center)
    writer.table("sh_factor", entry.factor)
    largest = _c_float(float(entry.limit << FRACTION_BITS))
    writer.add(
        c_parts.READ_FLOATS, inputs=inputs, largest=largest, parts=entry.limit << FRACTION_BITS
    )


def _add_act(writer: _Writer, network: IntegerNetwork, planned: Plan) -> None:
    if (box := network.box) is not None:
        writer.table("sh_middle", box.center)
        writer.table("sh_half_range", box.half_range)
    writer.add(
        c_parts.ACT_CHOOSING if box is None else c_parts.ACT_STEERING,
        calls="\n".join(f"    {call}" for call in planned.calls),
        values=planned.result,
        inputs=planned.size,
        scale=_c_float(float(np.float32(network.score_scale))),
        taken="sh_bend(sh_head.curve, scaled)" if network.head.curve is not None else "scaled",
    )


def _meanings(spec: PolicySpec) -> str:
    if spec.action_meanings is None:
        return ""
    told = ", ".join(f"{action} {_plain(name)}" for action, name in enumerate(spec.action_meanings))
    return f"\n   Actions: {told}."


def _plain(text: str) -> str:
    """Return a text that cannot end a comment."""
    return re.sub(r"[^\w .+-]", "_", text, flags=re.ASCII)


def _c_float(value: float) -> str:
    """Return the C constant of a float32, which 9 digits tell exactly."""
    text = f"{value:.9g}"
    return f"{text}f" if any(mark in text for mark in ".e") else f"{text}.0f"
