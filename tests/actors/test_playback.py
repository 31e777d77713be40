"""Playback against the evaluator, and what its frames are."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from actors.environments import EnvConfig, make_environment, make_rendered
from actors.environments.atari import AtariConfig
from actors.environments.gymnasium_env import GymnasiumConfig
from actors.evaluator import evaluate
from actors.panels import BAR_ROW, MARGIN, WIDTH
from actors.playback import HELD_FRAMES, Playback, Played, Player
from common.policies.inference import InferencePolicy
from common.policies.policy import Policy, load_policy
from tests.builders import make_policy
from tests.cartpole import cartpole_teacher
from tests.commands import ROOT

PONG_TEACHER = ROOT / "deploy" / "teachers" / "pong-nature.safetensors"
CARTPOLE = GymnasiumConfig(id="CartPole-v1")
PENDULUM = GymnasiumConfig(id="Pendulum-v1")
PONG = AtariConfig(id="pong", max_frames_per_episode=800)
"""Games of 200 steps, in which the teacher scores."""
BOX = {"num_actions": None, "action_box": {"low": (-2.0,), "high": (2.0,)}}
SAMPLE = {"acting": {"mode": "sample", "epsilon": 0.1}}


def weak_cartpole(seed: int = 3, **changes: Any) -> Policy:
    observation = {"shape": (4,), "dtype": "float32"}
    return make_policy(seed=seed, observation=observation, num_actions=2, **(SAMPLE | changes))


def with_memory(**changes: Any) -> Policy:
    lstm = {"name": "lstm", "torso": {"name": "mlp", "hidden": (8,)}, "hidden": 6}
    return weak_cartpole(seed=1, network=lstm, **changes)


def pendulum(dist: str = "gaussian") -> Policy:
    observation = {"shape": (3,), "dtype": "float32"}
    return make_policy(seed=1, observation=observation, dist=dist, **(BOX | SAMPLE))


CASES: dict[str, tuple[EnvConfig, Callable[[], Policy]]] = {
    "pong": (PONG, lambda: load_policy(PONG_TEACHER)),
    "sampled": (CARTPOLE, weak_cartpole),
    "recurrent": (CARTPOLE, with_memory),
    "box": (PENDULUM, pendulum),
}


def watched(
    config: EnvConfig, *policies: Policy, seed: int = 5, **settings: Any
) -> tuple[list[npt.NDArray[np.uint8]], tuple[Played, ...]]:
    """Return frames and results."""
    players = [
        Player(
            title=policy.spec.name,
            policy=InferencePolicy(policy),
            env=make_rendered(config, num_envs=1),
        )
        for policy in policies
    ]
    playback = Playback(players, seed=seed, **({"num_episodes": 1} | settings))
    frames = list(playback.frames())
    for player in players:
        player.env.close()
    return frames, playback.results()


@pytest.mark.parametrize("case", CASES)
def test_the_return_is_what_the_evaluator_finds(case: str) -> None:
    config, make = CASES[case]
    policy = make()
    env = make_environment(config, num_envs=1)
    wanted = evaluate(
        env, InferencePolicy(policy), acting=policy.spec.acting, num_episodes=1, seed=5
    )
    env.close()
    frames, (played,) = watched(config, policy)
    assert (played.returns, played.lengths) == (wanted.returns, wanted.lengths)
    assert played.cut == (False,)
    assert len(frames) == played.lengths[0] + 1 + HELD_FRAMES
    assert wanted.returns[0] != 0


@pytest.mark.parametrize("make", [weak_cartpole, with_memory])
def test_the_episodes_of_a_greedy_policy_are_the_evaluators_copies(
    make: Callable[..., Policy],
) -> None:
    policy = make(acting={"mode": "greedy"})
    env = make_environment(CARTPOLE, num_envs=3)
    wanted = evaluate(
        env, InferencePolicy(policy), acting=policy.spec.acting, num_episodes=3, seed=5
    )
    env.close()
    _, (played,) = watched(CARTPOLE, policy, num_episodes=3)
    # The evaluator notes them in the order in which they end.
    assert sorted(played.lengths) == list(wanted.lengths)
    assert len(set(played.lengths)) > 1


def test_two_play_side_by_side_and_the_end_of_the_first_stays_in_sight() -> None:
    frames, (good, weak) = watched(CARTPOLE, cartpole_teacher(), weak_cartpole(), max_steps=60)
    assert good.cut == (True,)
    assert good.lengths == (60,)
    assert weak.cut == (False,)
    (end,) = weak.lengths
    assert end < 60
    assert len(frames) == 60 + 1 + HELD_FRAMES
    left, right = (np.stack(frames)[:, :, place : place + WIDTH] for place in (0, WIDTH))
    assert (left[0] != right[0]).any()  # titles
    rows = slice(90, 300)  # of the pictures: the same start
    np.testing.assert_array_equal(left[0, rows], right[0, rows])
    assert (left[end:60] != left[end + 1 : 61]).any(axis=(1, 2, 3)).all()
    assert (right[end:] == right[end]).all()
    assert (right[end] != right[end - 1]).any()


def test_frames_have_one_even_size_and_the_bars_move() -> None:
    frames, _ = watched(PENDULUM, pendulum("deterministic"), max_steps=20)
    stack = np.stack(frames)
    assert stack.dtype == np.uint8
    assert stack.shape[1] % 2 == stack.shape[2] % 2 == 0
    bars = stack[:, -MARGIN - BAR_ROW - 1 : -MARGIN]
    moves = (bars[:-1] != bars[1:]).any(axis=(1, 2, 3))
    assert moves[:19].mean() > 0.5
    assert not moves[20:].any()  # the end is held


def test_q_values_and_named_actions_are_drawn() -> None:
    frames, (played,) = watched(CARTPOLE, cartpole_teacher("q_values"), max_steps=5)
    assert played.lengths == (5,)
    assert (frames[0] != frames[5]).any()
