"""How an env runner gets at its teacher: for acting, row by row, and for a chunk's labels.

| teacher               | asked about                          | labels                       |
|-----------------------|--------------------------------------|------------------------------|
| here                  | every row                            | at once                      |
| here, with a memory   | every row, in order                  | at once                      |
| elsewhere             | every row; where none of the copies  | at once where it acts, else  |
|                       | is the teacher's, several together   | some rows later              |
| here, for acting only | the copies on which it acts          | none: the learner labels     |
"""

from collections import deque
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from common.labels import LabelArrays, Labels
from common.policies.acting import ActingPolicy, Answer, DistantPolicy
from common.policies.inference import InferencePolicy, Observations, PolicyOutputs
from common.policies.remembering import RememberingPolicy
from common.trajectory import UNLABELLED

ROWS_PER_QUESTION = 4
"""Rows of N observations that go to a distant teacher together: fewer calls, larger batches."""

MAX_UNANSWERED = 2
"""Questions of one env runner under way at most; a further one waits for the oldest answer."""


class ChunkLabels(NamedTuple):
    """What the teacher says of a chunk's rows."""

    version: int
    dist_inputs: Labels | None  # [T, N, A]
    value: npt.NDArray[np.float32] | None  # [T, N]


class Labelling(Protocol):
    """The teacher as the env runner's loop sees it."""

    def start(self, num_steps: int, num_envs: int) -> None:
        """Start a chunk of T rows of N env copies."""

    def row(
        self, t: int, observations: Observations, acting: npt.NDArray[np.intp]
    ) -> npt.NDArray[np.float32]:
        """See to row t.

        Args:
            t: the row.
            observations: [N, *shape]; not written to afterwards.
            acting: numbers of the env copies on which the teacher acts.

        Returns:
            The teacher's outputs [len(acting), A] for these copies.
        """

    def forget(self, copies: npt.NDArray[np.intp]) -> None:
        """Start over what the teacher remembers of copies whose episode starts at the next row."""

    def finish(self) -> ChunkLabels:
        """Return the chunk's labels, waiting for those that are under way."""


class LabelAtOnce:
    """Labels every row with a teacher of this process."""

    def __init__(self, teacher: ActingPolicy) -> None:
        self._teacher = teacher

    def start(self, num_steps: int, num_envs: int) -> None:
        """Start a chunk."""
        self._labels = LabelArrays((num_steps, num_envs), self._teacher.spec)

    def row(
        self, t: int, observations: Observations, acting: npt.NDArray[np.intp]
    ) -> npt.NDArray[np.float32]:
        """Label the row."""
        outputs = self._teacher(observations)
        self._labels.write(t, outputs)
        everywhere = acting.size == len(observations)
        return outputs.dist_inputs if everywhere else outputs.dist_inputs[acting]

    def forget(self, copies: npt.NDArray[np.intp]) -> None:
        """Do nothing: the teacher remembers nothing."""

    def finish(self) -> ChunkLabels:
        """Return the labels."""
        labels = self._labels
        return ChunkLabels(labels.version, labels.dist_inputs, labels.value)


class LabelInOrder(LabelAtOnce):
    """Labels with a teacher of this process that remembers the rows before, of every env copy.

    Whoever acts, the teacher sees every row of an episode, and its memory goes on from chunk to
    chunk.
    """

    def __init__(self, teacher: InferencePolicy, num_envs: int) -> None:
        self._remembering = RememberingPolicy(teacher, num_envs)
        super().__init__(self._remembering)

    def forget(self, copies: npt.NDArray[np.intp]) -> None:
        """Start over what the teacher remembers of these copies."""
        self._remembering.forget(copies)


class LabelLater(LabelAtOnce):
    """Labels with a teacher elsewhere, and waits for it only where it must.

    An action of the teacher's cannot be taken without its answer. On rows that the student alone
    plays, the env copies go on while the teacher computes, so that its round trip costs no time.
    """

    def __init__(self, teacher: DistantPolicy) -> None:
        super().__init__(teacher)
        self._distant = teacher
        self._waiting: list[tuple[int, Observations]] = []
        self._unanswered: deque[tuple[list[int], Answer]] = deque()

    def row(
        self, t: int, observations: Observations, acting: npt.NDArray[np.intp]
    ) -> npt.NDArray[np.float32]:
        """Label the row, now or later."""
        if acting.size:
            return super().row(t, observations, acting)
        self._waiting.append((t, observations))
        if len(self._waiting) == ROWS_PER_QUESTION:
            self._ask()
        return np.empty((0, self._teacher.spec.num_dist_inputs), np.float32)

    def finish(self) -> ChunkLabels:
        """Wait for all answers and return the labels."""
        if self._waiting:
            self._ask()
        while self._unanswered:
            self._write_oldest()
        return super().finish()

    def _ask(self) -> None:
        """Ask about the rows that wait; those of a copy lie side by side, which packs best."""
        rows = [t for t, _ in self._waiting]
        stacked = np.stack([observations for _, observations in self._waiting], axis=1)
        self._waiting = []
        while len(self._unanswered) >= MAX_UNANSWERED:
            self._write_oldest()
        answer = self._distant.ask(stacked.reshape(-1, *stacked.shape[2:]))
        self._unanswered.append((rows, answer))

    def _write_oldest(self) -> None:
        rows, answer = self._unanswered[0]
        outputs = answer()
        self._unanswered.popleft()
        for place, t in enumerate(rows):
            of_row = slice(place, None, len(rows))
            value = None if outputs.value is None else outputs.value[of_row]
            said = PolicyOutputs(outputs.dist_inputs[of_row], value, outputs.version)
            self._labels.write(t, said)


class LeaveUnlabelled:
    """Asks the teacher only where it acts; the learner labels the chunk."""

    def __init__(self, teacher: ActingPolicy) -> None:
        self._teacher = teacher

    def start(self, num_steps: int, num_envs: int) -> None:
        """Start a chunk: nothing is kept of it."""

    def row(
        self, t: int, observations: Observations, acting: npt.NDArray[np.intp]
    ) -> npt.NDArray[np.float32]:
        """Ask about the copies on which the teacher acts."""
        if not acting.size:
            return np.empty((0, self._teacher.spec.num_dist_inputs), np.float32)
        everywhere = acting.size == len(observations)
        return self._teacher(observations if everywhere else observations[acting]).dist_inputs

    def forget(self, copies: npt.NDArray[np.intp]) -> None:
        """Do nothing: the teacher remembers nothing."""

    def finish(self) -> ChunkLabels:
        """Return that there are none."""
        return ChunkLabels(UNLABELLED, None, None)


def make_labelling(teacher: ActingPolicy, *, labels: bool, num_envs: int) -> Labelling:
    """Return how an env runner gets at this teacher.

    Args:
        teacher: here or elsewhere; one with a memory is here, and labels.
        labels: whether the env runner labels its chunks.
        num_envs: N.
    """
    if isinstance(teacher, InferencePolicy) and teacher.memory_shape is not None:
        assert labels
        return LabelInOrder(teacher, num_envs)
    if not labels:
        return LeaveUnlabelled(teacher)
    if isinstance(teacher, DistantPolicy):
        return LabelLater(teacher)
    return LabelAtOnce(teacher)
