"""Recurrent teachers in published model cards."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from actors.environments import make_environment
from actors.environments.atari import AtariConfig
from common.errors import PolicyFileError
from common.networks.gru import GRUSpec
from common.policies.inference import InferencePolicy
from common.policies.policy import load_policy, save_policy
from common.teachers import load_teacher

CARD: dict[str, Any] = {
    "name": "tiny-gru",
    "game": "Pong",
    "architecture": [
        "conv1..conv2: each Conv2d(in,3,k3,s2,pad1) ELU (in=1,3), input 1x12x12",
        "flatten 27",
        "rnn: GRUCell(27,5); state zeros at episode start, carried through the episode",
        "head: Linear(5,n_actions) policy logits",
        "value: Linear(5,1)",
    ],
    "preprocessing": {
        "frame_skip": "each action repeated a random 2, 3 or 4 emulator frames",
        "gray_resize": "crop rows 35:195, mean over RGB (float64), scipy.misc.bytescale contrast "
        "stretch per frame",
        "scaling": "already 0..1",
        "input_shape": [1, 12, 12],
    },
    "action_selection": "sample from softmax(logits)",
    "measured": {"native": {"skip": [2, 5], "maxpool": False, "noop_max": 0}},
}
SHAPES = {
    "conv1.weight": (3, 1, 3, 3),
    "conv1.bias": (3,),
    "conv2.weight": (3, 3, 3, 3),
    "conv2.bias": (3,),
    "rnn.weight_ih": (15, 27),
    "rnn.weight_hh": (15, 5),
    "rnn.bias_ih": (15,),
    "rnn.bias_hh": (15,),
    "head.weight": (6, 5),
    "head.bias": (6,),
    "value.weight": (1, 5),
    "value.bias": (1,),
}


def write(folder: Path, **changes: Any) -> Path:
    generator = torch.Generator().manual_seed(0)
    state = {name: torch.randn(*shape, generator=generator) for name, shape in SHAPES.items()}
    path = folder / "tiny.safetensors"
    save_file(state, path)
    path.with_suffix(".json").write_text(json.dumps(CARD | changes))
    return path


def recomputed(
    state: dict[str, torch.Tensor], frames: np.ndarray, num_layers: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits [T, A] and values [T] of frames [T, 1, H, W], by torch's own cell."""
    rnn = {k.removeprefix("rnn."): v for k, v in state.items() if k.startswith("rnn.")}
    cell = nn.GRUCell(rnn["weight_ih"].shape[1], rnn["weight_hh"].shape[1]).requires_grad_(False)
    cell.load_state_dict(rnn)
    memory, logits, values = torch.zeros(1, cell.hidden_size), [], []
    for frame in frames:
        x = torch.from_numpy(frame)[None].float() / 255
        for layer in range(1, num_layers + 1):
            weight, bias = state[f"conv{layer}.weight"], state[f"conv{layer}.bias"]
            x = F.elu(F.conv2d(x, weight, bias, stride=2, padding=1))
        memory = cell(x.flatten(1), memory)
        logits.append(F.linear(memory, state["head.weight"], state["head.bias"])[0].numpy())
        values.append(F.linear(memory, state["value.weight"], state["value.bias"]).item())
    return np.stack(logits), np.array(values)


def answers(path: Path, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the same of the loaded policy."""
    policy = InferencePolicy(load_teacher(path))
    assert policy.memory_shape is not None
    memory, logits, values = np.zeros((1, *policy.memory_shape), np.float32), [], []
    for frame in frames:
        outputs, memory = policy.remember(frame[None], memory)
        assert outputs.value is not None
        logits.append(outputs.dist_inputs[0])
        values.append(outputs.value[0])
    return np.stack(logits), np.array(values)


def test_a_card_becomes_a_specification(tmp_path: Path) -> None:
    spec = load_teacher(write(tmp_path)).spec
    assert spec.network == GRUSpec(
        channels=(3, 3),
        kernels=(3, 3),
        strides=(2, 2),
        paddings=(1, 1),
        activation="elu",
        hidden=5,
    )
    assert (spec.dist, spec.has_value, spec.acting.mode) == ("logits", True, "sample")
    assert spec.observation.shape == (1, 12, 12)
    wanted = {"frame_skip": 2, "frame_skip_max": 4, "picture": "field", "max_pool": False}
    assert wanted.items() <= spec.environment.items()


def test_it_says_what_the_card_says(tmp_path: Path) -> None:
    path = write(tmp_path)
    frames = np.random.default_rng(0).integers(256, size=(6, 1, 12, 12), dtype=np.uint8)
    for found, wanted in zip(
        answers(path, frames), recomputed(load_file(path), frames, 2), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_it_is_saved_and_read_as_our_own(tmp_path: Path) -> None:
    teacher = load_teacher(write(tmp_path))
    save_policy(teacher, tmp_path / "own.safetensors")
    again = load_policy(tmp_path / "own.safetensors")
    assert again.spec == teacher.spec
    for name, tensor in teacher.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], tensor)


@pytest.mark.parametrize(
    ("line", "text", "complaint"),
    [
        (0, "conv1..conv2: each Conv2d(in,3,k3,s2,pad1) ReLU", "is not understood"),
        (0, "flatten 27", "has no convolutions line"),
        (2, "rnn: GRUCell(27,5)", "is not understood"),
        (2, "rnn: LSTMCell(27,5); state zeros at episode start", "is not understood"),
        (3, "flatten 5", "has no head line"),
        (0, "conv1..conv3: each Conv2d(in,3,k3,s2,pad1) ELU", "tensor conv3.bias is missing"),
        (2, "rnn: GRUCell(27,6); state zeros at episode start", "has shape"),
    ],
)
def test_what_is_not_understood_is_refused(
    tmp_path: Path, line: int, text: str, complaint: str
) -> None:
    lines = [*CARD["architecture"]]
    lines[line] = text
    with pytest.raises(PolicyFileError) as caught:
        load_teacher(write(tmp_path, architecture=lines))
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("game", ["pong", "spaceinvaders"])
def test_published_teachers_say_what_their_cards_say(shared_teachers: Path, game: str) -> None:
    """On frames of a game, in the preprocessing that the card tells of."""
    name = f"{game}-a3cgru-babya3c"
    path = shared_teachers / name / f"{name}.safetensors"
    policy = load_teacher(path)
    card = json.loads(path.with_suffix(".json").read_text())
    assert policy.num_parameters == card["n_params"]
    assert policy.spec.action_meanings == tuple(card["action_set"])
    told = policy.spec.environment
    own = {key: told[key] for key in AtariConfig.model_fields if key in told}
    env = make_environment(AtariConfig(**own, frame_size=80, frame_stack=1), num_envs=1)
    assert (env.spec.observation.shape, told["picture"]) == ((1, 80, 80), "field")
    rng, frames = np.random.default_rng(0), [env.reset(0)[0]]
    for _ in range(40):
        action = rng.integers(len(card["action_set"]), size=1)
        frames.append(env.step(action).observations[0])
    wanted = recomputed(load_file(path), np.stack(frames), 4)
    for found, other in zip(answers(path, np.stack(frames)), wanted, strict=True):
        np.testing.assert_allclose(found, other, rtol=1e-4, atol=1e-4)
    assert wanted[0].std(0).max() > 0.1
