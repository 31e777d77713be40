"""The dataset runner: in the place of an env runner, it yields chunks that were recorded.

Several share a dataset: runner i of R has the chunks i, i + R, … It reads them in a shuffled order,
and in another one in each pass. A resumed run goes on in its pass about where it was.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from actors.env_runner import EpisodeResult
from common.dataset import Dataset
from common.trajectory import ChunkId, TrajectoryChunk
from common.weights import PolicyWeights


class DatasetRunner:
    """Reads chunks.

    Args:
        dataset: where they are.
        chunks: numbers of those to train on.
        runner_id: number of this runner.
        num_runners: R.
        incarnation: how often it was started before.
        seed: of the orders.
        start_env_steps: transitions that the run had when this runner was started.
    """

    def __init__(
        self,
        dataset: Dataset,
        chunks: Sequence[int],
        *,
        runner_id: int,
        num_runners: int,
        incarnation: int,
        seed: int,
        start_env_steps: int = 0,
    ) -> None:
        self._dataset = dataset
        self._own = list(chunks[runner_id % num_runners :: num_runners])
        self._seed = (seed, runner_id)
        self._chunk_id = ChunkId(runner_id, incarnation, 0)
        self.policy_version = 0
        self.env_steps = 0
        """Valid transitions read."""
        told = dataset.manifest
        passes = start_env_steps / (told.transitions * len(chunks) / told.chunks)
        self._pass = int(passes)
        self._place = int((passes - self._pass) * len(self._own))
        self._order = self._shuffled()

    def set_weights(self, weights: PolicyWeights) -> None:
        """Take note of the version; nobody acts here."""
        self.policy_version = weights.version

    def drain_episodes(self) -> list[EpisodeResult]:
        """Return nothing: no episode is played."""
        return []

    def close(self) -> None:
        """Close the dataset."""
        self._dataset.close()

    def sample(self) -> TrajectoryChunk:
        """Return the next chunk, under an id of this runner's.

        Raises:
            DatasetError: it cannot be read.
        """
        if self._place == len(self._order):
            self._pass, self._place = self._pass + 1, 0
            self._order = self._shuffled()
        chunk = self._dataset.read(self._order[self._place])
        self._place += 1
        chunk_id, steps_before = self._chunk_id, self.env_steps
        self._chunk_id = chunk_id._replace(sequence=chunk_id.sequence + 1)
        self.env_steps += chunk.num_transitions
        return replace(chunk, chunk_id=chunk_id, steps_before=steps_before)

    def _shuffled(self) -> list[int]:
        """Return the order of this pass."""
        rng = np.random.default_rng((*self._seed, self._pass))
        order: list[int] = rng.permutation(self._own).tolist()
        return order
