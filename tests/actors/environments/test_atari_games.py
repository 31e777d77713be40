"""The emulators of our own, against ale-py's vector environment and against each other."""

from typing import Any

import numpy as np
import pytest
from ale_py import ALEInterface, roms
from pydantic import ValidationError

from actors.environments import make_environment
from actors.environments.atari import AtariConfig, AtariEnvironment, AtariView
from actors.environments.atari_games import AtariGames
from common.errors import ConfigError

PONG = AtariConfig(id="pong", noop_max=0, frame_size=36, max_frames_per_episode=200)
FIELD = AtariView(picture="field", frame_size=20, frame_stack=2, max_pool=False)
RANDOM_SKIP = PONG.model_copy(update={"frame_skip": 2, "frame_skip_max": 4})


def changed(**changes: Any) -> AtariConfig:
    return AtariConfig.model_validate(PONG.model_dump() | changes)


def play(env: Any, *, num_steps: int = 120, seed: int = 3) -> tuple[list[np.ndarray], ...]:
    """Return observations, the teacher's, rewards and ends of random actions, one a step."""
    rng = np.random.default_rng(0)
    rows = [(env.reset(seed), env.teacher_observations, None, None)]
    for _ in range(num_steps):
        result = env.step(rng.integers(env.spec.num_actions, size=env.num_envs))
        ended = result.terminated | result.truncated
        rows.append((result.observations, env.teacher_observations, result.rewards, ended))
    env.close()
    return tuple(list(column) for column in zip(*rows, strict=True))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"id": "breakout", "frame_stack": 3, "frame_size": 60},
        {"id": "ms_pacman", "frame_skip": 3, "max_pool": False, "fire_reset": False},
        {"id": "air_raid", "frame_size": 84},  # whose screen is higher
    ],
)
def test_both_play_alike(changes: dict[str, Any]) -> None:
    config = changed(**changes)
    ours = play(AtariGames(config, num_envs=2))
    theirs = play(AtariEnvironment(config, num_envs=2, num_threads=1))
    for seen, wanted, rewards, others, ended, theirs_ended in zip(
        ours[0], theirs[0], ours[2], theirs[2], ours[3], theirs[3], strict=True
    ):
        if ended is None:
            continue
        np.testing.assert_array_equal(rewards, others)
        np.testing.assert_array_equal(ended, theirs_ended)
        # The row after an end shows another screen; means that lie between two bytes may differ.
        apart = np.abs(seen[~ended].astype(int) - wanted[~ended])
        assert not apart.size or (apart.max() <= 1 and (apart > 0).mean() < 0.01)
    assert any(ended is not None and ended.any() for ended in ours[3])


def test_specifications_are_the_same() -> None:
    plain, own = (kind(PONG, num_envs=1) for kind in (make_environment, AtariGames))
    assert own.spec == plain.spec
    full = AtariGames(changed(full_action_space=True), num_envs=1)
    assert full.spec.num_actions == 18


def test_who_plays_is_decided_by_what_is_wanted() -> None:
    assert type(make_environment(PONG, num_envs=1)) is AtariEnvironment
    for config, view in ((RANDOM_SKIP, None), (FIELD.of(PONG), None), (PONG, FIELD.of(PONG))):
        assert type(make_environment(config, num_envs=1, teacher_view=view)) is AtariGames


def test_two_views_are_of_the_same_games() -> None:
    both = play(AtariGames(RANDOM_SKIP, num_envs=2, teacher_view=FIELD.of(RANDOM_SKIP)))
    alone = play(AtariGames(RANDOM_SKIP, num_envs=2))
    field = play(AtariGames(FIELD.of(RANDOM_SKIP), num_envs=2))
    np.testing.assert_array_equal(both[0], alone[0])
    np.testing.assert_array_equal(both[1], field[0])
    for column in (2, 3):
        np.testing.assert_array_equal(both[column][1:], alone[column][1:])
        np.testing.assert_array_equal(both[column][1:], field[column][1:])
    assert all(shown is None for shown in alone[1])


def test_both_views_are_told() -> None:
    spec = AtariGames(PONG, num_envs=1, teacher_view=FIELD.of(PONG)).spec
    assert spec.observation.shape == (4, 36, 36)
    assert spec.seen_by_teacher.shape == (2, 20, 20)
    alone = AtariGames(PONG, num_envs=1).spec
    assert (alone.teacher_observation, alone.seen_by_teacher) == (None, alone.observation)


def test_what_the_teacher_was_shown_is_not_written_over_later() -> None:
    env = AtariGames(PONG, num_envs=2, teacher_view=FIELD.of(PONG))
    env.reset(0)
    kept = env.teacher_observations
    assert kept is not None
    copy = kept.copy()
    for _ in range(5):
        env.step(np.array([2, 3]))
    np.testing.assert_array_equal(kept, copy)


def test_stacks_start_empty_and_move_on() -> None:
    observations, _, _, ended = play(AtariGames(PONG, num_envs=1))
    assert not observations[0][0, :-1].any()
    assert observations[0][0, -1].any()
    last = next(t for t, end in enumerate(ended) if end is not None and end[0])
    assert not observations[last + 1][0, :-1].any()
    for t in range(1, last):
        np.testing.assert_array_equal(observations[t + 1][0, :-1], observations[t][0, 1:])


def test_skips_are_drawn_between_both_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every frame is counted by the emulator itself."""
    env = AtariGames(
        changed(frame_skip=2, frame_skip_max=4, max_frames_per_episode=9_999), num_envs=1
    )
    env.reset(0)
    emulator = env._games[0]._ale
    skips, before = [], emulator.getEpisodeFrameNumber()
    for _ in range(300):
        env.step(np.array([0]))
        now = emulator.getEpisodeFrameNumber()
        skips.append(now - before)
        before = now
    counts = np.bincount(skips, minlength=5)
    assert counts[:2].sum() == 0
    assert counts[2:].min() > 70  # of 100 expected
    assert len(counts) == 5


def test_a_frame_is_the_last_screen_or_the_maximum_of_the_last_two() -> None:
    emulator = ALEInterface()
    emulator.setFloat("repeat_action_probability", 0.0)
    emulator.setInt("random_seed", 7)
    rom = roms.get_rom_path("pong")
    assert rom is not None
    emulator.loadROM(rom)
    emulator.reset_game()
    screens = []
    for _ in range(4):
        emulator.act(emulator.getMinimalActionSet()[2])
        screens.append(emulator.getScreenGrayscale())
    for pooled in (True, False):
        env = AtariGames(changed(fire_reset=False, max_pool=pooled), num_envs=1)
        env.reset(7)
        found = env.step(np.array([2])).observations[0, -1]
        screen = np.maximum(screens[2], screens[3]) if pooled else screens[3]
        np.testing.assert_array_equal(found, env._views[0]._picture(screen))


def test_bounds_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValidationError, match="frame_skip_max = 2 is below frame_skip = 4"):
        AtariConfig(id="pong", frame_skip=4, frame_skip_max=2)


def test_a_game_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="ale-py has no such ROM"):
        AtariGames(changed(id="no_such_game"), num_envs=1)


def test_a_view_changes_what_it_names() -> None:
    assert AtariView().of(PONG) == PONG
    assert FIELD.of(PONG) == changed(picture="field", frame_size=20, frame_stack=2, max_pool=False)
