"""The labeller: the teacher's labels for chunks that travelled without.

It stands where chunks are decoded, before the window, so that the window and everything after it
see the same chunk whoever labelled it. A teacher that changes labels every chunk as it is when the
learner takes the chunk in (what becomes of the labels later: `learners.relabeller`); a learner that
starts again labels again what the replay still holds.
"""

from dataclasses import replace

import numpy as np

from common.labels import LabelArrays
from common.policies.acting import ActingPolicy
from common.trajectory import TrajectoryChunk


class Labeller:
    """Labels chunks.

    Args:
        teacher: who labels; several threads may ask it at once.
        micro_batch_size: rows of one forward pass.
    """

    def __init__(self, teacher: ActingPolicy, *, micro_batch_size: int) -> None:
        self.teacher = teacher
        self._micro_batch_size = micro_batch_size

    def label(self, chunk: TrajectoryChunk) -> TrajectoryChunk:
        """Return the chunk with labels on its valid rows; what has labels is returned as it is.

        The other rows get zeros: nothing may learn from them.
        """
        if chunk.teacher_dist_inputs is not None:
            return chunk
        shape, size = chunk.valid.shape, self._micro_batch_size
        labels = LabelArrays((chunk.valid.size,), self.teacher.spec)
        valid = np.flatnonzero(chunk.valid)
        for start in range(0, valid.size, size):
            rows = valid[start : start + size]
            labels.write(rows, self.teacher(chunk.observations.take(rows)))
        return replace(
            chunk,
            teacher_version=labels.version,
            teacher_dist_inputs=labels.dist_inputs.reshape(*shape, -1),
            teacher_value=None if labels.value is None else labels.value.reshape(shape),
        )
