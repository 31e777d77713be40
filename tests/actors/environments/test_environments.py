import functools
import sys

import gymnasium
import numpy as np
import pytest
from ale_py.vector_env import AtariVectorEnv
from pydantic import ValidationError

from actors.environments import ENVIRONMENTS, make_environment
from actors.environments.atari import AtariConfig
from actors.environments.gymnasium_env import GymnasiumConfig
from common.errors import ConfigError, MismatchError, UserError
from common.policies.box import BoxActions
from tests.matrices import matrices_registered

SHORT_PONG = AtariConfig(id="pong", frame_size=24, max_frames_per_episode=80)
"""Episodes of 20 steps, ended by truncation."""

CARTPOLE = GymnasiumConfig(id="CartPole-v1")
OWN_PONG = SHORT_PONG.model_copy(update={"picture": "field", "frame_skip_max": 4})
"""The same with frames that ale-py's vector environment does not make."""

CONFIGS = {"atari": SHORT_PONG, "atari_games": OWN_PONG, "gymnasium": CARTPOLE}
"""One configuration of every family, and of every way to play it."""

each_family = pytest.mark.parametrize("family", CONFIGS)


def play(config, *, seed: int = 0, num_steps: int = 45, other_on_reset_rows: bool = False):
    """Return observations [T + 1, N, …], and rewards and ends [T, N], of random actions."""
    env = make_environment(config, num_envs=3)
    rng = np.random.default_rng(0)
    rows, results = [env.reset(seed)], []
    ended = np.zeros(env.num_envs, np.bool_)
    for _ in range(num_steps):
        actions = rng.integers(env.spec.num_actions, size=env.num_envs)
        if other_on_reset_rows:
            actions = np.where(ended, (actions + 1) % env.spec.num_actions, actions)
        result = env.step(actions)
        ended = result.terminated | result.truncated
        rows.append(result.observations)
        results.append(result[1:])
    return np.stack(rows), *(np.stack(column) for column in zip(*results, strict=True))


@functools.cache
def played(family: str):
    """Return what `play` does by default."""
    return play(CONFIGS[family])


def refusal(config: AtariConfig | GymnasiumConfig, error: type[UserError]) -> str:
    with pytest.raises(error) as caught:
        make_environment(config, num_envs=1)
    message = str(caught.value)
    assert message.startswith(f"env.id = {config.id!r}: ")
    assert "\n" not in message
    return message


def test_every_family_is_tested():
    assert {config.family for config in CONFIGS.values()} == ENVIRONMENTS.keys()


@each_family
def test_observations_and_results_are_as_the_specification_says(family):
    env = make_environment(CONFIGS[family], num_envs=1)
    observations, rewards, terminated, truncated = played(family)
    assert observations.shape == (46, 3, *env.spec.observation.shape)
    assert observations.dtype == env.spec.observation.dtype
    assert rewards.shape == terminated.shape == truncated.shape == (45, 3)
    assert (rewards.dtype, terminated.dtype, truncated.dtype) == (np.float32, np.bool_, np.bool_)
    env.close()


@each_family
def test_the_row_after_an_end_only_resets(family):
    observations, rewards, terminated, truncated = played(family)
    ended = terminated | truncated
    resets = np.zeros_like(ended)
    resets[1:] = ended[:-1]
    assert resets.any(axis=0).all()
    assert not rewards[resets].any()
    assert not ended[resets].any()
    assert (observations[1:][resets] != observations[:-1][resets]).any()


@each_family
def test_the_action_of_a_reset_row_is_ignored(family):
    other = play(CONFIGS[family], other_on_reset_rows=True)
    for found, wanted in zip(other, played(family), strict=True):
        np.testing.assert_array_equal(found, wanted)


@each_family
def test_the_seed_decides_and_every_copy_has_its_own(family):
    observations = played(family)[0]
    np.testing.assert_array_equal(play(CONFIGS[family])[0], observations)
    assert (play(CONFIGS[family], seed=1)[0] != observations).any()
    assert (observations[:, 0] != observations[:, 1]).any()


@each_family
def test_what_was_returned_is_not_written_over_later(family):
    env = make_environment(CONFIGS[family], num_envs=2)
    first = env.reset(0)
    kept = [first, *env.step(np.zeros(2, np.int64))]
    copies = [array.copy() for array in kept]
    for action in (1, 1, 0, 1):
        env.step(np.full(2, action))
    for array, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_nor_where_an_environment_of_somebodys_own_uses_its_arrays_again(monkeypatch):
    env = make_environment(CARTPOLE, num_envs=3)
    env.reset(0)
    again = [np.zeros((3, 4)), np.zeros(3), np.zeros(3, np.bool_), np.zeros(3, np.bool_)]
    monkeypatch.setattr(env._env, "step", lambda actions: (*again, {}))
    before = env.step(np.zeros(3, np.int64))
    for array in again:
        array[:] = 1
    assert not any(array.any() for array in before)
    assert all(array.all() for array in env.step(np.zeros(3, np.int64)))
    env.close()


def test_pong_is_described():
    spec = make_environment(AtariConfig(id="pong"), num_envs=1).spec
    assert (spec.observation.shape, spec.observation.dtype) == ((4, 84, 84), "uint8")
    assert spec.observation.scale == 1 / 255
    assert spec.frame_stack == 4
    meanings = ("NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE")
    assert (spec.num_actions, spec.action_meanings) == (6, meanings)


def test_all_eighteen_actions_can_be_asked_for():
    config = SHORT_PONG.model_copy(update={"full_action_space": True})
    spec = make_environment(config, num_envs=1).spec
    assert spec.num_actions == 18
    assert spec.action_meanings is not None
    assert spec.action_meanings[-1] == "DOWNLEFTFIRE"


def test_the_limit_of_frames_truncates():
    _, _, terminated, truncated = played("atari")
    assert truncated.sum(axis=0).tolist() == [2, 2, 2]
    assert truncated[19].all()
    assert not terminated.any()


def test_rewards_are_not_clipped():
    config = AtariConfig(id="ms_pacman", frame_size=16)
    _, rewards, _, _ = play(config, num_steps=120)
    assert rewards.max() >= 10


def test_a_lost_life_is_no_end():
    def steps_to_the_end(step, reset) -> int:
        reset()
        return next(t for t in range(3_000) if any(step(np.ones(1, np.int64))[2]))

    ours = make_environment(AtariConfig(id="breakout", frame_size=16), num_envs=1)
    by_life = AtariVectorEnv("breakout", 1, img_height=16, img_width=16, episodic_life=True)
    life = steps_to_the_end(by_life.step, lambda: by_life.reset(seed=0))
    game = steps_to_the_end(ours.step, lambda: ours.reset(0))
    assert game > 3 * life


def test_cartpole_is_described():
    spec = make_environment(CARTPOLE, num_envs=2).spec
    assert (spec.observation.shape, spec.observation.dtype) == ((4,), "float32")
    assert (spec.num_actions, spec.action_meanings, spec.frame_stack) == (2, None, None)
    assert spec.observation.scale == 1.0


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_matrices_of_floats_become_vectors(vectorization):
    with matrices_registered() as env_id:
        config = GymnasiumConfig(id=env_id, vectorization=vectorization)
        env = make_environment(config, num_envs=2)
        assert (env.spec.observation.shape, env.spec.observation.dtype) == ((6,), "float32")
        rows = [env.reset(0), env.step(np.ones(2, np.int64)).observations]
        np.testing.assert_array_equal(rows[0], [range(6)] * 2)
        np.testing.assert_array_equal(rows[1], [range(10, 16)] * 2)
        env.close()


@pytest.mark.parametrize(
    "kwargs", [{"dtype": "uint8"}, {"shape": (8, 8, 3)}, {"shape": (8, 8, 3), "dtype": "uint8"}]
)
def test_what_may_be_a_picture_is_refused(kwargs):
    with matrices_registered() as env_id:
        config = GymnasiumConfig(id=env_id, kwargs=kwargs)
        assert "matrices of floats are supported" in refusal(config, MismatchError)


def test_cartpole_ends_by_termination_and_at_its_limit_by_truncation():
    short = GymnasiumConfig(id="CartPole-v1", kwargs={"max_episode_steps": 5})
    _, rewards, terminated, truncated = play(short, num_steps=6)
    assert truncated.sum(axis=0).tolist() == [1, 1, 1]
    assert rewards[:5].all()
    assert not terminated.any()
    assert played("gymnasium")[2].any(axis=0).all()


@pytest.mark.parametrize("name", ["Pong", "ALE/Pong-v5", "no_such_game", ""])
def test_a_rom_that_is_not_there_is_refused(name):
    assert "use its snake case name" in refusal(AtariConfig(id=name), ConfigError)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("NoSuchEnvironment-v0", "doesn't exist"),
        ("CartPole-v99", "doesn't exist"),
        ("no_such_module:Thing-v0", "No module named"),
        ("not an id", "Malformed"),
        ("", "Malformed"),
    ],
)
def test_an_id_that_is_not_registered_is_refused(name, reason):
    assert reason in refusal(GymnasiumConfig(id=name, trust=True), ConfigError)


def test_a_module_is_imported_only_where_it_is_trusted(tmp_path, monkeypatch):
    (tmp_path / "own_environment.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('Own-v0', 'gymnasium.envs.classic_control.cartpole:CartPoleEnv')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValidationError, match=r"imports the module own_environment.*env\.trust"):
        GymnasiumConfig(id="own_environment:Own-v0")
    assert "own_environment" not in sys.modules
    trusted = GymnasiumConfig(id="own_environment:Own-v0", trust=True)
    try:
        assert make_environment(trusted, num_envs=1).spec.num_actions == 2
        assert "own_environment" in sys.modules
    finally:
        sys.modules.pop("own_environment", None)
        gymnasium.registry.pop("Own-v0", None)


@pytest.mark.parametrize("kwargs", [{"colour": "red"}, {"max_episode_steps": "5"}])
def test_arguments_that_the_environment_does_not_take_are_refused(kwargs):
    config = GymnasiumConfig(id="CartPole-v1", kwargs=kwargs)
    assert "cannot make it" in refusal(config, ConfigError)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("FrozenLake-v1", "its observations are Discrete"),
        ("Blackjack-v1", "its observations are Tuple"),
    ],
)
def test_spaces_that_are_not_supported_are_refused(name, reason):
    assert reason in refusal(GymnasiumConfig(id=name), MismatchError)


@pytest.mark.parametrize(
    ("space", "name"),
    [
        (gymnasium.spaces.Discrete(2, start=1), "Discrete(2, start=1)"),
        (gymnasium.spaces.Box(-np.inf, np.inf, (2,)), "Box(-inf, inf, (2,)"),
        (gymnasium.spaces.Box(-1, 1, (2, 2)), "Box(-1.0, 1.0, (2, 2)"),
        (gymnasium.spaces.MultiBinary(3), "MultiBinary(3)"),
    ],
)
def test_other_actions_are_refused(monkeypatch, space, name):
    class Odd(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (2,))
        action_space = space

    monkeypatch.setattr(gymnasium.envs.registration, "registry", {})
    gymnasium.register("Odd-v0", entry_point=Odd, disable_env_checker=True)
    message = refusal(GymnasiumConfig(id="Odd-v0"), MismatchError)
    assert name in message
    assert "vectors within finite bounds" in message


def test_actions_of_a_box_are_taken_in_units_and_clipped():
    config = GymnasiumConfig(id="Pendulum-v1")
    env, plain = make_environment(config, num_envs=2), gymnasium.make("Pendulum-v1")
    assert env.spec.num_actions is None
    assert env.spec.action_box == BoxActions(low=(-2.0,), high=(2.0,))
    np.testing.assert_allclose(env.reset(3)[1], plain.reset(seed=4)[0])
    for units, torque in ((0.5, 1.0), (-0.25, -0.5), (3.0, 2.0), (-1.5, -2.0)):
        result = env.step(np.full((2, 1), units, np.float32))
        observation, reward, *_ = plain.step(np.array([torque], np.float32))
        np.testing.assert_allclose(result.observations[1], observation, rtol=1e-6)
        assert result.rewards[1] == pytest.approx(float(reward))
