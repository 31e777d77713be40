"""Env copies with pictures, against those without."""

from typing import Any

import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from actors.environments import RENDERED, EnvConfig, make_environment, make_rendered
from actors.environments.atari import AtariConfig, AtariView
from actors.environments.base import VectorEnvironment
from actors.environments.gymnasium_env import GymnasiumConfig
from common.errors import ConfigError
from tests.unrendered import UNRENDERED, id_of

PONG = AtariConfig(id="pong", frame_size=36, max_frames_per_episode=160)
FIELD = AtariView(picture="field", frame_size=20, frame_stack=1).of(PONG)
CONFIGS: dict[str, tuple[EnvConfig, AtariConfig | None]] = {
    "atari": (PONG, None),
    "another picture": (FIELD, None),
    "two views": (PONG, FIELD),
    "gymnasium": (GymnasiumConfig(id="CartPole-v1", vectorization="async"), None),
}


def played(env: VectorEnvironment) -> list[tuple[Any, ...]]:
    """Return all that 30 random steps show, after a few of another game."""
    rng = np.random.default_rng(0)
    env.reset(7)
    env.step(np.ones(env.num_envs, np.int64))
    rows: list[tuple[Any, ...]] = [(env.reset(3), env.teacher_observations)]
    for _ in range(30):
        result = env.step(rng.integers(env.spec.num_actions or 0, size=env.num_envs))
        rows.append((*result, env.teacher_observations))
    env.close()
    return rows


@pytest.mark.parametrize("name", CONFIGS)
def test_they_play_as_those_without_pictures(name: str) -> None:
    config, view = CONFIGS[name]
    if isinstance(config, GymnasiumConfig):
        config = config.model_copy(update={"vectorization": "sync"})
    ours = make_rendered(config, num_envs=2, teacher_view=view)
    theirs = make_environment(config, num_envs=2, teacher_view=view)
    assert ours.spec == theirs.spec
    for row, wanted in zip(played(ours), played(theirs), strict=True):
        for found, expected in zip(row, wanted, strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", CONFIGS)
def test_pictures_follow_the_states(name: str) -> None:
    config, view = CONFIGS[name]
    env = make_rendered(config, num_envs=2, teacher_view=view)
    env.reset(3)
    size = (400, 600, 3) if isinstance(config, GymnasiumConfig) else (210, 160, 3)
    screens = []
    for step in range(24):
        screens.append(env.screens())
        env.step(np.full(2, 1 - step // 4 % 2 if size[0] == 400 else 3))
    for pictures in screens:
        assert [(picture.shape, picture.dtype) for picture in pictures] == [(size, np.uint8)] * 2
    assert (screens[0][0] != screens[-1][0]).any()
    assert (screens[-1][0] != screens[-1][1]).any()  # another seed
    env.close()


def test_every_family_has_pictures() -> None:
    assert {config.family for config, _ in CONFIGS.values()} == RENDERED.keys()


def first_picture(config: GymnasiumConfig) -> Any:
    env = make_rendered(config, num_envs=1)
    env.reset(0)
    return env.screens()[0]


@pytest.mark.parametrize("kind", UNRENDERED, ids=lambda kind: kind.__name__)
def test_what_has_no_pictures_is_refused_in_one_line(kind: type[CartPoleEnv]) -> None:
    config = GymnasiumConfig(id=id_of(kind), trust=True)
    with pytest.raises(ConfigError) as caught:
        first_picture(config)
    message = str(caught.value)
    assert message.startswith(f"env.id = {config.id!r}: cannot be shown (")
    assert UNRENDERED[kind] in message
    assert "\n" not in message


def test_an_environment_that_is_not_there_is_told_as_ever() -> None:
    with pytest.raises(ConfigError, match=r"NoSuchEnv.*cannot make it"):
        make_rendered(GymnasiumConfig(id="NoSuchEnv-v0"), num_envs=1)
