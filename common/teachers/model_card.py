"""Published model cards: JSON beside `.safetensors` weights that tells of an Atari policy in words.

A card lists the layers ("conv1: Conv2d(4,32,k8,s4) ReLU"), the preprocessing and the way of
acting; this module reads those sentences and refuses what it does not understand.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from pydantic import ConfigDict, Field, ValidationError

from common.config import StrictModel
from common.errors import PolicyFileError
from common.networks.gru import GRUSpec
from common.networks.nature_cnn import NatureCNNSpec
from common.policies.spec import ActingSpec, DistKind, ObservationSpec, PolicySpec

_CONV = re.compile(r"conv(\d+): Conv2d\(\d+, ?(\d+), ?k(\d+), ?s(\d+)\) ReLU")
_FLATTEN = re.compile(r"flatten (\(C,H,W\) )?[\d*=]+")
_FC = re.compile(r"fc: Linear\(\d+, ?(\d+)\) ReLU")
_HEAD = re.compile(r"head: Linear\(\d+, ?(?:n_actions|\d+)\) (policy logits|Q-values)")
_VALUE = re.compile(r"value: Linear\(\d+, ?1\)(?: from the same \d+ features)?")
_PADDED_CONVS = re.compile(
    r"conv1\.\.conv(\d+): each Conv2d\(in, ?(\d+), ?k(\d+), ?s(\d+), ?pad(\d+)\) ELU\b.*"
)
_GRU = re.compile(r"rnn: GRUCell\(\d+, ?(\d+)\); state zeros at episode start\b.*")
_EPSILON = re.compile(r"\beps(?:ilon)? ?=? ?(\d*\.?\d+)")
_FRAME_SKIP = re.compile(r"action repeated (\d+) emulator frames")
_STICKY = re.compile(r"sticky actions (\d*\.?\d+)")
_FIELD = "crop rows 35:195, mean over RGB (float64), scipy.misc.bytescale contrast stretch"
"""How a card begins to tell of the picture that `actors.environments.pictures` calls `field`."""

_DIST: dict[str, DistKind] = {"policy logits": "logits", "Q-values": "q_values"}
_SCALE = {"x/255 float32": 1 / 255, "already 0..1": 1 / 255}
"""By the card's `scaling`. "Already 0..1" frames were divided when they were made; environments
here give bytes, so the policy divides, and sees the same range."""

_NATIVE = {
    "frame_skip": "skip",
    "sticky_actions": "sticky",
    "max_pool": "maxpool",
    "noop_max": "noop_max",
    "fire_reset": "fire_reset",
}
"""Settings of an Atari environment by the names that the card's `measured.native` has for them."""


class Preprocessing(StrictModel):
    """How a card's observations are made; what is not read here is kept as it is."""

    model_config = ConfigDict(extra="allow")

    input_shape: tuple[int, int, int]
    scaling: str
    frame_skip: str = ""
    gray_resize: str = ""


class ModelCard(StrictModel):
    """The parts of a card that are read."""

    model_config = ConfigDict(extra="ignore")

    name: str
    game: str
    architecture: tuple[str, ...]
    preprocessing: Preprocessing
    action_selection: str
    action_set: tuple[str, ...] | None = None
    algorithm: str = "not stated"
    licence: str = "not stated"
    source: Any = None
    measured: dict[str, Any] = Field(default_factory=dict)


class _Layers(NamedTuple):
    network: NatureCNNSpec | GRUSpec
    dist: DistKind
    has_value: bool


def spec_from_card(
    tree: Mapping[str, Any], state: Mapping[str, torch.Tensor], *, source: str
) -> PolicySpec:
    """Turn a model card into a policy specification.

    Args:
        tree: the card's JSON.
        state: the weights that the card is about.
        source: what to call the card in an error.

    Raises:
        PolicyFileError: the card lacks something, or tells of a policy that is not supported.
        ValidationError: the card's values make no specification.
    """
    try:
        card = ModelCard.model_validate(tree)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        text = f"not a model card ({where}: {first['msg']}); fetch it again"
        raise _refusal(source, text) from None
    layers = _read_layers(card.architecture, state, source)
    head = state.get("head.weight")
    if head is None or head.dim() != 2:
        raise _refusal(
            source, "the weights have no matrix head.weight; give the weights it came with"
        )
    scaling = card.preprocessing.scaling
    if scaling not in _SCALE:
        raise _refusal(source, f"scaling {scaling!r} is not understood; known: {', '.join(_SCALE)}")
    return PolicySpec(
        name=card.name,
        network=layers.network,
        observation=ObservationSpec(
            shape=card.preprocessing.input_shape, dtype="uint8", scale=_SCALE[scaling]
        ),
        num_actions=len(head),
        action_meanings=card.action_set,
        dist=layers.dist,
        has_value=layers.has_value,
        acting=_read_acting(card.action_selection, source),
        environment=_read_environment(card),
        measured=card.measured,
        provenance={
            "format": "model card",
            "algorithm": card.algorithm,
            "licence": card.licence,
            "source": card.source,
        },
    )


def atari_id(game: str) -> str:
    """Turn a game's name into ale-py's identifier: "SpaceInvaders" into "space_invaders"."""
    # A digit begins a word only before a capital: TicTacToe3D, but Pitfall2.
    return re.sub(r"(?<!^)(?<!\d)(?=[A-Z])|(?<=[a-z])(?=\d[A-Z])", "_", game).lower()


def _read_layers(lines: Sequence[str], state: Mapping[str, torch.Tensor], source: str) -> _Layers:
    if any(line.startswith("rnn:") for line in lines) or "rnn.weight_hh" in state:
        return _read_recurrent(lines, state, source)
    convs: list[tuple[int, int, int]] = []
    hidden: list[int] = []
    dists: list[DistKind] = []
    has_value = "value.weight" in state
    for line in lines:
        if (conv := _CONV.fullmatch(line)) and int(conv[1]) == len(convs) + 1:
            convs.append((int(conv[2]), int(conv[3]), int(conv[4])))
        elif fc := _FC.fullmatch(line):
            hidden.append(int(fc[1]))
        elif head := _HEAD.fullmatch(line):
            dists.append(_DIST[head[1]])
        elif _VALUE.fullmatch(line):
            has_value = True
        elif not _FLATTEN.fullmatch(line):
            raise _refusal(
                source,
                f"architecture line {line!r} is not understood; supported are ReLU convolutions "
                f"without padding, one ReLU layer fc, head (policy logits or Q-values) and value",
            )
    if not convs or len(hidden) != 1 or len(dists) != 1:
        raise _refusal(
            source, "the architecture must have convolutions, one fc line and one head line"
        )
    channels, kernels, strides = zip(*convs, strict=True)
    network = NatureCNNSpec(channels=channels, kernels=kernels, strides=strides, hidden=hidden[0])
    return _Layers(network, dists[0], has_value)


def _read_recurrent(
    lines: Sequence[str], state: Mapping[str, torch.Tensor], source: str
) -> _Layers:
    found: dict[str, re.Match[str]] = {}
    known = {"convolutions": _PADDED_CONVS, "rnn": _GRU, "head": _HEAD}
    for line in lines:
        matches = {name: match for name, form in known.items() if (match := form.fullmatch(line))}
        if not (matches or _VALUE.fullmatch(line) or _FLATTEN.fullmatch(line)):
            raise _refusal(
                source,
                f"architecture line {line!r} is not understood; of recurrent policies, those with "
                f"ELU convolutions of one kind, one GRUCell whose state is zeros at episode start, "
                f"head (policy logits or Q-values) and value are supported",
            )
        found |= matches
    if missing := sorted(known.keys() - found.keys()):
        raise _refusal(source, f"the architecture of a recurrent policy has no {missing[0]} line")
    count, channels, kernel, stride, padding = map(int, found["convolutions"].groups())
    network = GRUSpec(
        channels=(channels,) * count,
        kernels=(kernel,) * count,
        strides=(stride,) * count,
        paddings=(padding,) * count,
        activation="elu",
        hidden=int(found["rnn"][1]),
    )
    return _Layers(network, _DIST[found["head"][1]], "value.weight" in state)


def _read_acting(text: str, source: str) -> ActingSpec:
    if text.startswith("sample"):
        return ActingSpec(mode="sample")
    if text.startswith("argmax"):
        epsilon = _EPSILON.search(text)
        return ActingSpec(mode="greedy", epsilon=float(epsilon[1]) if epsilon else 0.0)
    raise _refusal(
        source, f"action_selection {text!r} is not understood; known: argmax …, sample …"
    )


def _read_environment(card: ModelCard) -> dict[str, Any]:
    """Return the game, what is plainly stated of its settings, and the raw preprocessing."""
    environment: dict[str, Any] = {"family": "atari", "id": atari_id(card.game)}
    native = card.measured.get("native")
    for key, name in _NATIVE.items():
        value = native.get(name) if isinstance(native, dict) else None
        if isinstance(value, int | float):
            environment[key] = value
        elif key == "frame_skip" and isinstance(value, list) and len(value) == 2:
            environment |= {"frame_skip": value[0], "frame_skip_max": value[1] - 1}
    text = card.preprocessing.frame_skip
    if skip := _FRAME_SKIP.search(text):
        environment["frame_skip"] = int(skip[1])
    if sticky := _STICKY.search(text):
        environment["sticky_actions"] = float(sticky[1])
    if card.preprocessing.gray_resize.startswith(_FIELD):
        environment["picture"] = "field"
    environment["preprocessing"] = card.preprocessing.model_dump(mode="json", exclude_unset=True)
    return environment


def _refusal(source: str, text: str) -> PolicyFileError:
    return PolicyFileError(f"{source}: {text}")
