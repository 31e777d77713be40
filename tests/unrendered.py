"""CartPoles that cannot be shown, each for a reason of its own."""

from typing import Any, ClassVar

import gymnasium
from gymnasium.envs.classic_control.cartpole import CartPoleEnv


class WithoutModes(CartPoleEnv):
    """Has no render mode."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}


class WithoutMode(CartPoleEnv):
    """Cannot be asked for pictures."""

    def __init__(self) -> None:
        super().__init__()


class Fails(CartPoleEnv):
    """Has no screen to draw on."""

    def render(self) -> Any:
        """Fail as a driver does."""
        raise OSError("no display\nand more about it")


class Letters(CartPoleEnv):
    """Renders text."""

    def render(self) -> Any:
        """Return letters."""
        return "pole"


UNRENDERED: dict[type[CartPoleEnv], str] = {
    WithoutModes: "its render modes are []",
    WithoutMode: "its constructor takes no render_mode",
    Fails: "no display",
    Letters: "no array [height, width, 3]",
}
"""What is said of each."""


def id_of(kind: type[CartPoleEnv]) -> str:
    """Return the id of one, which imports this module."""
    return f"tests.unrendered:{kind.__name__}-v0"


for _kind in UNRENDERED:
    gymnasium.register(
        f"{_kind.__name__}-v0",
        entry_point=_kind,
        max_episode_steps=500,
        disable_env_checker=True,  # which has more to say about them
    )
