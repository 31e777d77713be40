"""Lets one or two policies play for people to watch, and yields the frames of a video of it.

Each plays in a copy of the environment of its own, and all of their games start alike. Episode i
starts from the seed of the evaluator's copy i, and actions are drawn as the evaluator draws them:
of a policy that acts greedily all returns are those of `evaluate` with as many copies, of any other
the first one is that of `evaluate` with one copy.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from actors.action_bars import ActionBars
from actors.environments import RenderedEnvironment
from actors.panels import ACCENTS, Moment, Panel, State, beside
from common.policies.actions import draw_actions
from common.policies.inference import InferencePolicy
from common.policies.remembering import RememberingPolicy

HELD_FRAMES = 15
"""For how many frames the end of an episode is seen."""

Frame = npt.NDArray[np.uint8]
"""[H, W, 3], of even height and width."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Player:
    """Who plays, and where."""

    title: str
    policy: InferencePolicy
    env: RenderedEnvironment
    """One copy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What came of a player's episodes, in their order."""

    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    cut: tuple[bool, ...]
    """Whether an episode was broken off before its end."""


class Playback:
    """Episodes of one or two players.

    Args:
        players: who plays, from left to right.
        num_episodes: that each plays.
        seed: of environments and draws.
        max_steps: after how many steps an episode is broken off.
    """

    def __init__(
        self,
        players: Sequence[Player],
        *,
        num_episodes: int,
        seed: int,
        max_steps: int | None = None,
    ) -> None:
        self._games = [_Game(player, seed=seed, max_steps=max_steps) for player in players]
        self._num_episodes = num_episodes

    def frames(self) -> Iterator[Frame]:
        """Play all episodes; yield a frame a step.

        An episode of L steps has L + 1 frames, and `HELD_FRAMES` at its end. Where one player's
        ends before the other's, its last picture stays.

        Raises:
            ConfigError: the environment cannot be drawn.
        """
        for episode in range(self._num_episodes):
            for game in self._games:
                game.start(episode)
            yield (frame := self._frame())
            while any(game.state == "playing" for game in self._games):
                for game in self._games:
                    if game.state == "playing":
                        game.step()
                yield (frame := self._frame())
            for _ in range(HELD_FRAMES):
                yield frame

    def results(self) -> tuple[Played, ...]:
        """Return what came of the episodes that are over, by player."""
        return tuple(game.played() for game in self._games)

    def _frame(self) -> Frame:
        accents = zip(self._games, ACCENTS, strict=False)
        return beside([game.panel(accent).draw(game.moment) for game, accent in accents])


class _Game:
    """One player's game: an episode at a time."""

    def __init__(self, player: Player, *, seed: int, max_steps: int | None) -> None:
        self._env, self._title = player.env, player.title
        self._policy = RememberingPolicy(player.policy, 1)
        self._max_steps = max_steps
        self._rng = np.random.default_rng(seed)
        self._first_seed = int(self._rng.integers(2**30))
        spec = player.policy.spec
        self._bars = ActionBars(spec, player.env.spec.action_meanings or spec.action_meanings)
        self._panel: Panel | None = None
        self._episodes: list[tuple[float, int, bool]] = []

    def start(self, episode: int) -> None:
        """Start an episode."""
        self._policy.forget(np.ones(1, np.bool_))
        self._return, self._num_steps = 0.0, 0
        self._decide(self._env.reset(self._first_seed + episode))
        self._see("playing")

    def step(self) -> None:
        """Take the action that was decided on."""
        result = self._env.step(self._actions)
        self._return += float(result.rewards[0])
        self._num_steps += 1
        state: State = "playing"
        if result.terminated[0] or result.truncated[0]:
            state = "ended"
        elif self._num_steps == self._max_steps:
            state = "cut"
        if state == "playing":
            self._decide(result.observations)
        else:  # what it said last stays to be seen
            self._episodes.append((self._return, self._num_steps, state == "cut"))
        self._see(state)

    @property
    def state(self) -> State:
        """Whether the episode goes on."""
        return self.moment.state

    def panel(self, accent: str) -> Panel:
        """Return what draws this game."""
        if self._panel is None:
            self._panel = Panel(
                self._title,
                caption=self._bars.caption,
                names=self._bars.names,
                widest=self._bars.widest,
                num_bars=self._bars.num_bars,
                screen=self.moment.screen,
                accent=accent,
            )
        return self._panel

    def played(self) -> Played:
        """Return what came of the episodes that are over."""
        return Played(
            returns=tuple(episode[0] for episode in self._episodes),
            lengths=tuple(episode[1] for episode in self._episodes),
            cut=tuple(episode[2] for episode in self._episodes),
        )

    def _decide(self, observations: npt.NDArray[np.uint8 | np.float32]) -> None:
        outputs = self._policy(observations)
        spec = self._policy.spec
        self._actions = draw_actions(
            spec,
            outputs.dist_inputs,
            mode=spec.acting.mode,
            epsilon=spec.acting.epsilon,
            rng=self._rng,
        ).actions
        self._shown_bars = self._bars(outputs.dist_inputs, self._actions)

    def _see(self, state: State) -> None:
        self.moment = Moment(
            screen=self._env.screens()[0],
            return_so_far=self._return,
            step=self._num_steps,
            bars=self._shown_bars,
            state=state,
        )
