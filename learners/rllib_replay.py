"""The replay of a DQN teacher in training: n-step transitions, stacked frames stored once.

RLlib's own replay forgets, for the last n - 1 transitions of an episode, that the episode has
terminated (its prioritised one lacks them), so that Q-values bootstrap from beyond the end. It
stores every frame four times, copies the whole of an episode whenever a piece is added to it, and
is not in RLlib's checkpoints. This one can be written and read back.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numpy.lib import format as npy
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.replay_buffers.episode_replay_buffer import EpisodeReplayBuffer

_CODEC = "zstd"


class _Episode:
    """An episode as far as it was played; observation t is item t, or the stack that begins there.

    Args:
        observation: the first, a vector or a stack of frames [S, H, W].
    """

    def __init__(self, observation: npt.NDArray[Any]) -> None:
        self.stack = len(observation) if observation.ndim == 3 else None
        self.items: list[Any] = (
            [observation.copy()] if self.stack is None else [*observation.copy()]
        )
        self.actions: list[Any] = []
        self.rewards: list[float] = []
        self.terminated = self.truncated = False

    def extend(self, piece: SingleAgentEpisode) -> None:
        """Add the steps of the episode's next piece."""
        for observation in piece.get_observations()[1:]:
            self.items.append((observation if self.stack is None else observation[-1]).copy())
        self.actions.extend(piece.get_actions())
        self.rewards.extend(float(reward) for reward in piece.get_rewards())
        self.terminated, self.truncated = piece.is_terminated, piece.is_truncated

    def observation(self, t: int) -> npt.NDArray[Any]:
        """Return what was seen before action t."""
        if self.stack is None:
            item: npt.NDArray[Any] = self.items[t]
            return item
        return np.stack(self.items[t : t + self.stack])


class NStepEpisodeReplayBuffer(EpisodeReplayBuffer):
    """Uniform replay of n-step transitions that end where their episode ends.

    Args:
        capacity: transitions that are kept; the oldest go first.
        seed: of the draws.
        kwargs: for RLlib's buffer.
    """

    def __init__(self, capacity: int, *, seed: int, **kwargs: Any) -> None:
        super().__init__(capacity, **kwargs)
        self.rng = np.random.default_rng(seed)
        self._rows: list[tuple[_Episode, int]] = []  # a ring, once it is full
        self._oldest = 0
        self._growing: dict[str, _Episode] = {}

    def __len__(self) -> int:
        """Return the number of transitions."""
        return len(self._rows)

    # RLlib's two classes above this one name the argument differently.
    def add(self, episodes: Any) -> None:  # type: ignore[override]
        """Add a list of pieces of episodes; those of one episode come in their order."""
        for piece in episodes:
            episode = self._growing.get(piece.id_)
            if episode is None:
                episode = _Episode(np.asarray(piece.get_observations(0)))
                self._growing[piece.id_] = episode
            start = len(episode.actions)
            episode.extend(piece)
            for t in range(start, len(episode.actions)):
                self._insert(episode, t)
            if piece.is_done:
                del self._growing[piece.id_]

    def sample(self, num_items: int | None = None, **options: Any) -> Any:
        """Return `num_items` transitions, each as an episode of one step."""
        picks = self.rng.integers(len(self._rows), size=num_items)
        n_step, gamma = options["n_step"], options["gamma"]
        count = len(self._rows)
        rows = (self._rows[(self._oldest + pick) % count] for pick in picks)
        return [self._transition(episode, t, n_step, gamma) for episode, t in rows]

    def write(self, sink: Any) -> None:
        """Write everything to a file that is open for bytes."""
        with pa.CompressedOutputStream(pa.PythonFile(sink, mode="w"), _CODEC) as stream:
            for array in self._arrays():
                npy.write_array(stream, array, allow_pickle=False)

    def read(self, source: Any) -> None:
        """Take over what `write` wrote; episodes that were being played stay as long as they are.

        Args:
            source: a file of pyarrow's.
        """
        with pa.CompressedInputStream(source, _CODEC) as stream:

            def read() -> npt.NDArray[Any]:
                array: npt.NDArray[Any] = npy.read_array(stream, allow_pickle=False)
                return array

            rows, stacks, ends = read(), read(), read()
            episodes = []
            for stack, (terminated, truncated) in zip(stacks, ends, strict=True):
                episode = _Episode.__new__(_Episode)
                episode.stack = int(stack) or None
                episode.terminated, episode.truncated = bool(terminated), bool(truncated)
                episode.actions, episode.rewards = [*read()], read().tolist()
                episode.items = [*read()]
                episodes.append(episode)
        self._rows, self._oldest, self._growing = [], 0, {}
        for index, t in rows:
            self._insert(episodes[index], int(t))

    def _insert(self, episode: _Episode, t: int) -> None:
        if len(self._rows) < self.capacity:
            self._rows.append((episode, t))
            return
        former, gone = self._rows[self._oldest]
        former.items[gone] = None  # which no later transition of that episode sees
        self._rows[self._oldest] = (episode, t)
        self._oldest = (self._oldest + 1) % self.capacity

    def _transition(
        self, episode: _Episode, t: int, n_step: int, gamma: float
    ) -> SingleAgentEpisode:
        played = len(episode.actions)
        steps = min(n_step, played - t)
        ends = t + steps == played
        rewards = episode.rewards[t : t + steps]
        return SingleAgentEpisode(
            observations=[episode.observation(t), episode.observation(t + steps)],
            actions=[episode.actions[t]],
            rewards=[sum(gamma**k * reward for k, reward in enumerate(rewards))],
            terminated=ends and episode.terminated,
            truncated=ends and episode.truncated,
            extra_model_outputs={"n_step": [steps], "weights": [1.0]},
            len_lookback_buffer=0,
        )

    def _arrays(self) -> Iterator[npt.NDArray[Any]]:
        """Yield the transitions, the oldest first, and what is left of their episodes."""
        rows = self._rows[self._oldest :] + self._rows[: self._oldest]
        firsts: dict[_Episode, int] = {}
        for episode, t in rows:
            firsts.setdefault(episode, t)
        numbers = {episode: number for number, episode in enumerate(firsts)}
        yield _array(((numbers[episode], t - firsts[episode]) for episode, t in rows), 2, np.int64)
        yield np.array([episode.stack or 0 for episode in firsts], np.int64)
        yield _array(((episode.terminated, episode.truncated) for episode in firsts), 2, np.bool_)
        for episode, first in firsts.items():
            yield np.asarray(episode.actions[first:])
            yield np.asarray(episode.rewards[first:], np.float64)
            yield np.asarray(episode.items[first:])


def _array(rows: Iterable[tuple[Any, ...]], width: int, dtype: Any) -> npt.NDArray[Any]:
    return np.array([*rows], dtype).reshape(-1, width)
