"""A recurrent Atari teacher for benchmarks: published A3C players with a GRU (baby-a3c).

The project's loader refuses recurrent teachers for now; here one plays all the same, so that its
play can be measured. It sees what it was trained on: single 80 × 80 frames of the screen's rows 35
to 195, their contrast stretched. `GruEnvironment` shows them to it, tells it when an episode
starts, where its memory starts over, and gives the env runner either the same frames or, from a
second set of the same games that takes the same actions, what the project's students see.
"""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from actors.environments import EnvironmentSpec, StepResult, VectorEnvironment
from actors.environments.atari import AtariConfig, AtariEnvironment
from common.networks.mlp import MLPSpec
from common.policies.inference import InferencePolicy, PolicyOutputs
from common.policies.spec import ActingSpec, ObservationSpec, PolicySpec

SIZE = 80
SCREEN_ROWS = 210
CROP = slice(35, 195)
LAYERS = 4


class GruTeacher(InferencePolicy):
    """Four convolutions, a GRU cell, and heads for policy and value; one memory an env copy.

    Args:
        path: the weights; the card lies beside them.
        num_envs: N, env copies that it plays at once.
    """

    def __init__(self, path: Path, num_envs: int) -> None:
        card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        self.spec = PolicySpec(
            name=card["name"],
            network=MLPSpec(hidden=(256,)),  # nobody reads it: no network of the project's fits
            observation=ObservationSpec(shape=(1, SIZE, SIZE), dtype="uint8", scale=1 / 255),
            num_actions=len(card["action_set"]),
            action_meanings=tuple(card["action_set"]),
            has_value=True,
            acting=ActingSpec(mode="sample"),
        )
        self._weights = load_file(path)
        features, hidden = 800, 256
        self._cell = torch.nn.GRUCell(features, hidden).requires_grad_(False)
        prefix = "rnn."
        self._cell.load_state_dict(
            {n.removeprefix(prefix): w for n, w in self._weights.items() if n.startswith(prefix)}
        )
        self._memory = torch.zeros(num_envs, hidden)
        self.view = np.zeros((num_envs, 1, SIZE, SIZE), np.uint8)
        """The frames that it sees at the next call, whatever it is given."""

    def forget(self, copies: npt.NDArray[np.bool_]) -> None:
        """Start the memory over of the copies [N] whose episode starts."""
        self._memory[torch.from_numpy(copies)] = 0.0

    @torch.no_grad()
    def __call__(self, observations: npt.NDArray[np.uint8 | np.float32]) -> PolicyOutputs:
        """Return the outputs for `view`; every call is a step."""
        x = torch.from_numpy(self.view).float() / 255
        for layer in range(1, LAYERS + 1):
            weight, bias = (self._weights[f"conv{layer}.{part}"] for part in ("weight", "bias"))
            x = F.elu(F.conv2d(x, weight, bias, stride=2, padding=1))
        self._memory = self._cell(x.flatten(1), self._memory)
        logits, value = (
            F.linear(self._memory, self._weights[f"{head}.weight"], self._weights[f"{head}.bias"])
            for head in ("head", "value")
        )
        return PolicyOutputs(logits.numpy(), value[:, 0].numpy())


class GruEnvironment(VectorEnvironment):
    """N copies of a game that a GRU teacher plays.

    Args:
        game: name of the ROM.
        teacher: is shown every frame, and told of every episode's start.
        num_envs: N.
        standard: whether observations are the project's default 4 × 84 × 84 stacks, or the
            teacher's own frames.
    """

    def __init__(self, game: str, teacher: GruTeacher, *, num_envs: int, standard: bool) -> None:
        seen = AtariConfig(id=game, noop_max=0, fire_reset=False)
        screen = {"frame_stack": 1, "frame_size": SCREEN_ROWS, "max_pool": False}
        self._screens = AtariEnvironment(
            seen.model_copy(update=screen), num_envs=num_envs, num_threads=1
        )
        self._seen: AtariEnvironment | None = None
        observation, stack = teacher.spec.observation, 1
        if standard:
            self._seen = AtariEnvironment(seen, num_envs=num_envs, num_threads=1)
            observation, stack = self._seen.spec.observation, seen.frame_stack
        self._teacher = teacher
        self._ended = np.zeros(num_envs, np.bool_)
        self.num_envs = num_envs
        self.spec = EnvironmentSpec(
            observation=observation,
            num_actions=self._screens.spec.num_actions,
            action_meanings=self._screens.spec.action_meanings,
            frame_stack=stack,
        )

    def reset(self, seed: int) -> npt.NDArray[np.uint8]:
        """Reset all games."""
        self._teacher.view = _crop(self._screens.reset(seed))
        return self._teacher.view if self._seen is None else self._seen.reset(seed)

    def step(self, actions: npt.NDArray[np.int64]) -> StepResult:
        """Take actions [N]; the step after an episode's end starts the next one."""
        result = self._screens.step(actions)
        self._teacher.forget(self._ended)
        self._teacher.view = _crop(result.observations)
        self._ended = result.terminated | result.truncated
        if self._seen is None:
            return result._replace(observations=self._teacher.view)
        seen = self._seen.step(actions)
        assert (seen.rewards == result.rewards).all()
        return seen

    def close(self) -> None:
        """Drop the games."""
        self._screens.close()
        if self._seen is not None:
            self._seen.close()


def _crop(screens: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the playing field of screens [N, 1, H, W] in 80 × 80, contrast stretched to 0–255."""
    field = torch.from_numpy(screens)[:, :, CROP].float()
    low, high = field.amin((2, 3), keepdim=True), field.amax((2, 3), keepdim=True)
    stretched = ((field - low) * 255 / (high - low).clamp(min=1) + 0.5).floor()
    small = F.interpolate(stretched, size=(SIZE, SIZE), mode="bilinear", antialias=True)
    frames: npt.NDArray[np.uint8] = small.round().to(torch.uint8).numpy()
    return frames
