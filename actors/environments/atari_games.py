"""Atari games for what ale-py's vector environment cannot do: N emulators, one after another.

Here every action may be repeated for a random number of frames, frames may be other pictures of the
screen, and teacher and student may see the same games each in a view of their own. What both could
play, they play alike (a test holds the one against the other), but for the row after an end, which
shows the screen at the end here.
"""

from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt
from ale_py import Action, ALEInterface, LoggerMode, roms

from actors.environments.atari import AtariConfig, check_rom
from actors.environments.base import (
    EnvironmentSpec,
    Observations,
    StepResult,
    VectorEnvironment,
)
from actors.environments.pictures import PICTURES, Bytes, Colours


class AtariGames(VectorEnvironment):
    """N copies of a game.

    Args:
        config: the game, and what the student sees of it.
        num_envs: N.
        teacher_view: the same with what the teacher sees, where that is something else.
        keeps_screens: whether `screens` will be asked for.

    Raises:
        ConfigError: there is no such game, or a frame would be larger than its screen.
    """

    def __init__(
        self,
        config: AtariConfig,
        *,
        num_envs: int,
        teacher_view: AtariConfig | None = None,
        keeps_screens: bool = False,
    ) -> None:
        check_rom(config)
        ALEInterface.setLoggerMode(LoggerMode.Error)
        self._config = config
        views = [config] if teacher_view is None else [config, teacher_view]
        colours = {PICTURES[view.picture].colours: False for view in views}
        for view in views:
            colours[PICTURES[view.picture].colours] |= view.max_pool
        if keeps_screens:
            colours["rgb"] = True
        self._games = [_Game(config, colours) for _ in range(num_envs)]
        height, width = self._games[0].screen_size
        self._views = [_View(view, num_envs, height=height, width=width) for view in views]
        self.num_envs = num_envs
        actions = self._games[0].actions
        self.spec = EnvironmentSpec(
            observation=config.observation(),
            num_actions=len(actions),
            action_meanings=tuple(action.name for action in actions),
            frame_stack=config.frame_stack,
            teacher_observation=None if teacher_view is None else teacher_view.observation(),
        )

    def reset(self, seed: int) -> Observations:
        """Reset all games; copy i gets seed + i."""
        for number, game in enumerate(self._games):
            game.seed(seed + number)
            game.start()
        return self._show(np.ones(self.num_envs, np.bool_))

    def step(self, actions: npt.NDArray[np.int64]) -> StepResult:
        """Take actions [N]; a game that has ended starts again instead."""
        starting = np.array([game.ended for game in self._games])
        rewards = np.zeros(self.num_envs, np.float32)
        for number, game in enumerate(self._games):
            if game.ended:
                game.start()
            else:
                rewards[number] = game.step(int(actions[number]))
        return StepResult(
            self._show(starting),
            rewards,
            np.array([game.terminated for game in self._games]),
            np.array([game.truncated for game in self._games]),
        )

    def screens(self) -> list[Bytes]:
        """Return the screens [H, W, 3] in colour, each the brighter of its last two frames: many
        games draw some things in every second frame only."""
        return [np.maximum.reduce(list(game.screens["rgb"])) for game in self._games]

    def close(self) -> None:
        """Drop the games."""
        self._games = []

    def _show(self, starting: npt.NDArray[np.bool_]) -> Observations:
        student, *teacher = [view.add(self._games, starting) for view in self._views]
        if teacher:
            self.teacher_observations = teacher[0]
        return student


class _Game:
    """One emulator.

    Args:
        config: the game.
        colours: in which the last screens are kept, and in each, whether the last two are.
    """

    def __init__(self, config: AtariConfig, colours: dict[Colours, bool]) -> None:
        self._config = config
        self._ale = ALEInterface()
        self._ale.setFloat("repeat_action_probability", config.sticky_actions)
        rom = roms.get_rom_path(config.id)
        assert rom is not None
        self._rom = rom
        self.screens: dict[Colours, deque[Bytes]] = {
            name: deque(maxlen=1 + pooled) for name, pooled in colours.items()
        }
        """The newest last; two after a step of at least two frames, where both are wanted."""
        self._kept = 1 + any(colours.values())
        self.seed(0)
        self.actions: list[Action] = (
            self._ale.getLegalActionSet()
            if config.full_action_space
            else self._ale.getMinimalActionSet()
        )
        self._fires = config.fire_reset and Action.FIRE in self.actions
        self._frames = 0
        self.terminated = self.truncated = False

    @property
    def screen_size(self) -> tuple[int, int]:
        """Height and width of the screen, in pixels."""
        height, width = self._ale.getScreenDims()
        return height, width

    @property
    def ended(self) -> bool:
        """Whether the episode is over."""
        return self.terminated or self.truncated

    def seed(self, seed: int) -> None:
        """Let the emulator's draws, and those of this class, follow from `seed`."""
        self._ale.setInt("random_seed", seed)
        self._ale.loadROM(self._rom)
        self._rng = np.random.default_rng(seed)

    def start(self) -> None:
        """Start an episode: FIRE where it is wanted, then up to `noop_max` − 1 frames in all."""
        self._ale.reset_game()
        idle = int(self._rng.integers(max(1, self._config.noop_max)))
        if self._fires:
            self._ale.act(Action.FIRE)
        for _ in range(idle - self._fires):
            self._ale.act(Action.NOOP)
            if self._ale.game_over():
                self._ale.reset_game()
        self._frames = 0
        self.terminated = self.truncated = False
        for kept in self.screens.values():
            kept.clear()
        self._keep_screen()

    def step(self, action: int) -> float:
        """Repeat an action for as many frames as a step has; return the sum of rewards."""
        config = self._config
        skip = config.frame_skip
        if config.frame_skip_max is not None:
            skip = int(self._rng.integers(skip, config.frame_skip_max + 1))
        for kept in self.screens.values():
            kept.clear()
        reward = 0.0
        for left in reversed(range(skip)):
            reward += self._ale.act(self.actions[action])
            self._frames += 1
            self.terminated = self._ale.game_over()
            self.truncated = not self.terminated and self._frames >= config.max_frames_per_episode
            if left < self._kept or self.ended:
                self._keep_screen()
            if self.ended:
                break
        return reward

    def _keep_screen(self) -> None:
        for name, kept in self.screens.items():
            take: Any = self._ale.getScreenRGB if name == "rgb" else self._ale.getScreenGrayscale
            kept.append(take())


class _View:
    """What one policy sees of the games: stacks of the last frames, [N, stack, size, size]."""

    def __init__(self, config: AtariConfig, num_envs: int, *, height: int, width: int) -> None:
        self._picture = PICTURES[config.picture](height=height, width=width, size=config.frame_size)
        self._max_pool = config.max_pool
        self._stacks = np.zeros((num_envs, *config.observation().shape), np.uint8)

    def add(self, games: list[_Game], starting: npt.NDArray[np.bool_]) -> Bytes:
        """Add every game's newest frame; stacks of games that start are empty but for it."""
        stacks = np.empty_like(self._stacks)
        stacks[:, :-1] = self._stacks[:, 1:]
        stacks[starting] = 0
        for number, game in enumerate(games):
            screens = game.screens[self._picture.colours]
            screen = screens[-1]
            if self._max_pool and len(screens) == 2:
                screen = np.maximum(screen, screens[0])
            stacks[number, -1] = self._picture(screen)
        self._stacks = stacks
        return stacks
