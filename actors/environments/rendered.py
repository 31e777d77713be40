"""Env copies that people can watch: what policies see of them, and pictures of their states.

They play as those of `make_environment` do.
"""

import os
import warnings
from abc import abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt
from ale_py import ALEInterface, roms

from actors.environments.atari import AtariConfig, AtariEnvironment, vector_env
from actors.environments.atari_games import AtariGames
from actors.environments.base import Observations, StepResult, VectorEnvironment
from actors.environments.gymnasium_env import GymnasiumConfig, GymnasiumEnvironment
from common.errors import ConfigError

Screen = npt.NDArray[np.uint8]
"""[H, W, 3], red, green and blue."""

_WITHOUT_A_SCREEN = {
    "SDL_VIDEODRIVER": "dummy",
    "SDL_AUDIODRIVER": "dummy",
    "PYGAME_HIDE_SUPPORT_PROMPT": "1",  # which it would print among a command's own output
}
"""What makes pygame draw on machines that have no screen."""


class RenderedEnvironment(VectorEnvironment):
    """Env copies with pictures."""

    @abstractmethod
    def screens(self) -> list[Screen]:
        """Return a picture of the present state of every copy.

        Raises:
            ConfigError: they cannot be drawn.
        """


class RenderedAtari(AtariEnvironment, RenderedEnvironment):
    """N copies of a game on ale-py's vector environment, and beside it a second one in colour that
    takes the same actions from the same seeds.

    Args:
        config: the game.
        num_envs: N.

    Raises:
        ConfigError: there is no such game.
    """

    def __init__(self, config: AtariConfig, *, num_envs: int) -> None:
        super().__init__(config, num_envs=num_envs, num_threads=1)
        rom = roms.get_rom_path(config.id)
        assert rom is not None
        ale = ALEInterface()
        ale.loadROM(rom)
        height, width = ale.getScreenDims()
        self._shown = vector_env(
            config,
            num_envs,
            num_threads=1,
            grayscale=False,
            img_height=height,
            img_width=width,
            stack_num=1,
            maxpool=True,  # many games draw some things in every second frame only
        )
        self._stacks = np.empty((num_envs, 1, height, width, 3), np.uint8)

    def reset(self, seed: int) -> Observations:
        """Reset all games; copy i gets seed + i."""
        self._stacks = self._shown.reset(seed=seed)[0]
        return super().reset(seed)

    def step(self, actions: npt.NDArray[np.int64]) -> StepResult:
        """Take actions [N]."""
        self._stacks, rewards, *_ = self._shown.step(actions)
        result = super().step(actions)
        assert (rewards == result.rewards).all(), "the games that are shown are others"
        return result

    def screens(self) -> list[Screen]:
        """Return the screens, each the brighter of its last two frames."""
        return list(self._stacks[:, -1])

    def close(self) -> None:
        """Drop the games."""
        del self._shown
        super().close()


class RenderedAtariGames(AtariGames, RenderedEnvironment):
    """N copies of a game on emulators of our own.

    Args:
        config: the game, and what the student sees of it.
        num_envs: N.
        teacher_view: the same with what the teacher sees, where that is something else.

    Raises:
        ConfigError: there is no such game, or a frame would be larger than its screen.
    """

    def __init__(
        self, config: AtariConfig, *, num_envs: int, teacher_view: AtariConfig | None = None
    ) -> None:
        super().__init__(config, num_envs=num_envs, teacher_view=teacher_view, keeps_screens=True)


class RenderedGymnasium(GymnasiumEnvironment, RenderedEnvironment):
    """N copies of a Gymnasium environment, in this process, with what they render.

    Args:
        config: the environment.
        num_envs: N.

    Raises:
        ConfigError: there is no such environment, or it has no pictures.
        MismatchError: its observations or actions are of a kind that is not supported.
    """

    def __init__(self, config: GymnasiumConfig, *, num_envs: int) -> None:
        self._id = config.id
        for name, value in _WITHOUT_A_SCREEN.items():
            os.environ.setdefault(name, value)
        kwargs = config.kwargs | {"render_mode": "rgb_array"}
        shown = config.model_copy(update={"kwargs": kwargs, "vectorization": "sync"})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Gymnasium's, of what is refused here
            try:
                super().__init__(shown, num_envs=num_envs, num_threads=1)
            except ConfigError as error:
                if "unexpected keyword argument 'render_mode'" in str(error):
                    raise self._refusal("its constructor takes no render_mode") from None
                raise
        if "rgb_array" not in (modes := self._env.metadata.get("render_modes") or []):
            self.close()
            raise self._refusal(f"its render modes are {modes}; 'rgb_array' is needed")

    def screens(self) -> list[Screen]:
        """Return what the copies render."""
        try:
            screens: list[Any] = list(self._env.render() or ())
        except Exception as error:  # what draws is not ours, and may fail in any way
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise self._refusal(reason) from None
        for screen in screens:
            if not _is_picture(screen):
                raise self._refusal("what it renders is no array [height, width, 3] of bytes")
        return screens

    def _refusal(self, reason: str) -> ConfigError:
        return ConfigError(
            f"env.id = {self._id!r}: cannot be shown ({reason}); there is no video of it"
        )


def _is_picture(screen: Any) -> bool:
    is_array = isinstance(screen, np.ndarray) and screen.dtype == np.uint8
    return is_array and screen.ndim == 3 and screen.shape[-1] == 3
