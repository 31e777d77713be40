import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ale_py import roms
from safetensors.numpy import load_file as load_numpy
from safetensors.torch import save_file

from common.errors import PolicyFileError
from common.networks import MLPSpec, NatureCNNSpec
from common.policies.policy import new_policy, save_policy
from common.policies.spec import ActingSpec, ObservationSpec, PolicySpec
from common.teachers import load_teacher
from common.teachers.model_card import atari_id

CARD: dict[str, Any] = {
    "name": "tiny",
    "game": "SpaceInvaders",
    "algorithm": "PPO",
    "licence": "MIT",
    "source": {"repo": "example.org/tiny"},
    "architecture": [
        "conv1: Conv2d(2,3,k4,s2) ReLU",
        "conv2: Conv2d(3,5,k3,s1) ReLU",
        "flatten (C,H,W) 5*3*3=45",
        "fc: Linear(45,8) ReLU",
        "head: Linear(8,n_actions) policy logits",
        "value: Linear(8,1) from the same 8 features",
    ],
    "preprocessing": {
        "frame_skip": "action repeated 3 emulator frames; sticky actions 0.25",
        "scaling": "x/255 float32",
        "input_shape": [2, 12, 12],
    },
    "action_selection": "sample from softmax(logits)",
    "action_set": ["NOOP", "FIRE", "LEFT"],
    "measured": {"native": {"mean": 7.0, "skip": 4, "sticky": 0.0, "maxpool": False}},
    "a key of the publisher's own": 1,
}
SHAPES = {
    "conv1.weight": (3, 2, 4, 4),
    "conv1.bias": (3,),
    "conv2.weight": (5, 3, 3, 3),
    "conv2.bias": (5,),
    "fc.weight": (8, 45),
    "fc.bias": (8,),
    "head.weight": (3, 8),
    "head.bias": (3,),
    "value.weight": (1, 8),
    "value.bias": (1,),
}


def write(folder: Path, card: object, state: dict[str, torch.Tensor] | None = None) -> Path:
    path = folder / "tiny.safetensors"
    save_file(state if state is not None else random_state(), path)
    path.with_suffix(".json").write_text(json.dumps(card))
    return path


def random_state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def changed(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(CARD) | changes


def with_line(index: int, line: str) -> dict[str, Any]:
    card = copy.deepcopy(CARD)
    card["architecture"][index] = line
    return card


def with_preprocessing(**changes: Any) -> dict[str, Any]:
    return changed(preprocessing=CARD["preprocessing"] | changes)


def refusal(path: Path) -> str:
    with pytest.raises(PolicyFileError) as caught:
        load_teacher(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def convolve(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int) -> np.ndarray:
    """Return the valid cross-correlation of x [C, H, W] with weight [O, C, K, K]."""
    size = weight.shape[-1]
    out = (x.shape[1] - size) // stride + 1
    result = np.empty((len(weight), out, out))
    for row in range(out):
        for column in range(out):
            top, left = row * stride, column * stride
            patch = x[:, top : top + size, left : left + size]
            result[:, row, column] = np.tensordot(weight, patch, 3) + bias
    return result


def test_a_card_becomes_a_spec(tmp_path: Path) -> None:
    spec = load_teacher(write(tmp_path, CARD)).spec
    assert spec.network == NatureCNNSpec(channels=(3, 5), kernels=(4, 3), strides=(2, 1), hidden=8)
    assert spec.observation == ObservationSpec(shape=(2, 12, 12), dtype="uint8", scale=1 / 255)
    assert (spec.num_actions, spec.action_meanings) == (3, ("NOOP", "FIRE", "LEFT"))
    assert (spec.dist, spec.has_value) == ("logits", True)
    assert spec.acting == ActingSpec(mode="sample")
    assert spec.environment == {
        "family": "atari",
        "id": "space_invaders",
        "frame_skip": 3,
        "sticky_actions": 0.25,
        "max_pool": False,
        "preprocessing": CARD["preprocessing"],
    }
    assert spec.measured == CARD["measured"]
    assert spec.provenance["algorithm"] == "PPO"
    assert spec.provenance["licence"] == "MIT"
    assert spec.provenance["source"] == CARD["source"]


def test_outputs_agree_with_the_card_worked_out_in_numpy(tmp_path: Path) -> None:
    path = write(tmp_path, CARD)
    weights = {name: array.astype(np.float64) for name, array in load_numpy(path).items()}
    frames = np.random.default_rng(0).integers(0, 256, (4, 2, 12, 12), dtype=np.uint8)
    policy = load_teacher(path)
    with torch.no_grad():
        output = policy.network(torch.from_numpy(frames) * policy.spec.observation.scale)
    assert output.value is not None
    for index, frame in enumerate(frames):
        x = frame / 255
        for layer, stride in (("conv1", 2), ("conv2", 1)):
            weight, bias = weights[f"{layer}.weight"], weights[f"{layer}.bias"]
            x = np.maximum(convolve(x, weight, bias, stride), 0)
        x = np.maximum(weights["fc.weight"] @ x.ravel() + weights["fc.bias"], 0)
        logits = weights["head.weight"] @ x + weights["head.bias"]
        value = weights["value.weight"] @ x + weights["value.bias"]
        np.testing.assert_allclose(output.dist_inputs[index], logits, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(output.value[index], value[0], rtol=1e-4, atol=1e-4)


def test_q_values_without_a_value_head_and_epsilon(tmp_path: Path) -> None:
    card = with_line(4, "head: Linear(8,3) Q-values") | {"action_selection": "argmax Q, eps 0.05"}
    del card["architecture"][5]
    state = {name: value for name, value in random_state().items() if "value" not in name}
    spec = load_teacher(write(tmp_path, card, state)).spec
    assert (spec.dist, spec.has_value) == ("q_values", False)
    assert spec.acting == ActingSpec(mode="greedy", epsilon=0.05)


def test_a_value_tensor_without_a_line_is_a_value_head(tmp_path: Path) -> None:
    card = copy.deepcopy(CARD)
    del card["architecture"][5]
    assert load_teacher(write(tmp_path, card)).spec.has_value


def test_skip_and_stickiness_fall_back_on_what_was_measured(tmp_path: Path) -> None:
    environment = load_teacher(write(tmp_path, with_preprocessing(frame_skip="?"))).spec.environment
    assert (environment["frame_skip"], environment["sticky_actions"]) == (4, 0.0)


def test_a_random_skip_is_told_by_its_bounds(tmp_path: Path) -> None:
    card = with_preprocessing(frame_skip="each action repeated a random 2, 3 or 4 emulator frames")
    card["measured"] = {"native": {"skip": [2, 5]}}
    environment = load_teacher(write(tmp_path, card)).spec.environment
    assert (environment["frame_skip"], environment["frame_skip_max"]) == (2, 4)


def test_own_policies_are_read_as_they_were_saved(tmp_path: Path) -> None:
    spec = PolicySpec(
        name="own",
        network=MLPSpec(hidden=(4,)),
        observation=ObservationSpec(shape=(3,), dtype="float32"),
        num_actions=2,
    )
    saved = new_policy(spec, seed=1)
    save_policy(saved, tmp_path / "own.safetensors")
    loaded = load_teacher(tmp_path / "own.safetensors")
    assert loaded.spec == spec
    for name, tensor in saved.network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], tensor)


@pytest.mark.parametrize(
    ("card", "complaint"),
    [
        (with_line(3, "rnn: LSTMCell(45,8)"), "is not understood; of recurrent policies, those"),
        (with_line(0, "conv1: Conv2d(2,3,k4,s2,pad1) ELU"), "is not understood"),
        (with_line(0, "conv1: Conv2d(2,3,k4,s2) ELU"), "is not understood"),
        (with_line(1, "conv3: Conv2d(3,5,k3,s1) ReLU"), "is not understood"),
        (with_line(2, "flatten (H,W,C) 3*3*5=45"), "is not understood"),
        (with_line(4, "head: Linear(8,n_actions) advantages"), "is not understood"),
        (with_line(3, "flatten 45"), "one fc line"),
        (with_line(0, "conv1: Conv2d(2,4,k4,s2) ReLU"), "has shape (3, 2, 4, 4)"),
        (with_line(0, "conv1: Conv2d(2,3,k40,s2) ReLU"), "too small for layer conv1"),
        (with_preprocessing(scaling="x/127.5 - 1"), "scaling 'x/127.5 - 1' is not understood"),
        (with_preprocessing(input_shape=[12, 12]), "not a model card (preprocessing.input_shape"),
        (with_preprocessing(input_shape=[2, 24, 24]), "tensor fc.weight has shape"),
        (changed(action_selection="ask a friend"), "'ask a friend' is not understood"),
        (changed(action_set=["NOOP"]), "action_meanings names 1 actions"),
        (changed(preprocessing="none"), "not a model card (preprocessing"),
        ({"format": "stillhouse/policy", "version": 99}, "not a policy spec"),
        ({"format": "other"}, "neither a policy spec nor a model card"),
        (["a", "list"], "a JSON list, not an object"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, card: object, complaint: str) -> None:
    assert complaint in refusal(write(tmp_path, card))


def test_a_missing_json(tmp_path: Path) -> None:
    path = write(tmp_path, CARD)
    path.with_suffix(".json").unlink()
    assert "tiny.json: missing" in refusal(path)


def test_a_json_that_is_none(tmp_path: Path) -> None:
    path = write(tmp_path, CARD)
    path.with_suffix(".json").write_text("name = 'tiny'\n")
    assert "tiny.json: not JSON" in refusal(path)


@pytest.mark.parametrize("kept", [9, 100, 2000, -1])
def test_a_truncated_file(tmp_path: Path, kept: int) -> None:
    path = write(tmp_path, CARD)
    path.write_bytes(path.read_bytes()[:kept])
    assert "damaged or not a safetensors file" in refusal(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    state = random_state()
    state["fc.weight"][2, 5] = value
    assert "tensor fc.weight holds NaN or infinity" in refusal(write(tmp_path, CARD, state))


def test_a_file_without_a_head(tmp_path: Path) -> None:
    state = {name: value for name, value in random_state().items() if name != "head.weight"}
    assert "no matrix head.weight" in refusal(write(tmp_path, CARD, state))


def test_recurrent_tensors_without_a_recurrent_line(tmp_path: Path) -> None:
    state = random_state() | {"rnn.weight_hh": torch.zeros(3, 3)}
    assert "of recurrent policies, those with" in refusal(write(tmp_path, CARD, state))


@pytest.mark.parametrize("rom", roms.get_all_rom_ids())
def test_game_names_become_ale_identifiers(rom: str) -> None:
    assert atari_id(rom.title().replace("_", "")) == rom


@pytest.mark.parametrize(
    ("name", "dist", "has_value", "acting", "channels", "game"),
    [
        ("pong-acktr-ikostrikov", "logits", True, ("greedy", 0.0), (32, 64, 32), "pong"),
        ("qbert-acktr-ikostrikov", "logits", True, ("greedy", 0.0), (32, 64, 32), "qbert"),
        ("seaquest-acktr-ikostrikov", "logits", True, ("greedy", 0.0), (32, 64, 32), "seaquest"),
        ("breakout-ppo-akrewtik", "logits", True, ("sample", 0.0), (32, 64, 32), "breakout"),
        ("breakout-a3cff-muupan", "logits", True, ("sample", 0.0), (16, 32), "breakout"),
        ("breakout-asyncq-grzego", "q_values", False, ("greedy", 0.01), (16, 32), "breakout"),
        ("pong-dqn-ak811", "q_values", False, ("greedy", 0.0), (32, 64, 64), "pong"),
        ("pong-ddqn-ak811", "q_values", False, ("greedy", 0.0), (32, 64, 64), "pong"),
    ],
)
def test_published_teachers(
    shared_teachers: Path,
    name: str,
    dist: str,
    has_value: bool,
    acting: tuple[str, float],
    channels: tuple[int, ...],
    game: str,
) -> None:
    folder = shared_teachers / name
    card = json.loads((folder / f"{name}.json").read_text())
    policy = load_teacher(folder / f"{name}.safetensors")
    spec = policy.spec
    assert (spec.dist, spec.has_value) == (dist, has_value)
    assert (spec.acting.mode, spec.acting.epsilon) == acting
    assert isinstance(spec.network, NatureCNNSpec)
    assert spec.network.channels == channels
    assert (spec.environment["family"], spec.environment["id"]) == ("atari", game)
    assert spec.action_meanings == tuple(card["action_set"])
    assert policy.num_parameters == card["n_params"]
    native = card["measured"]["native"]
    assert spec.environment["sticky_actions"] == native["sticky"]
    assert spec.environment["max_pool"] == native["maxpool"]
