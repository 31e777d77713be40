"""The teacher's labels in the form in which they travel and are stored.

One place for it: the env runner labels while it samples, the learner's labeller where chunks are
decoded, and both must write the same numbers.
"""

import numpy as np
import numpy.typing as npt

from common.policies.inference import PolicyOutputs
from common.policies.spec import PolicySpec

LOWEST_LOGIT = -1e4
"""Shifted logits below this are as good as impossible; float16 would make them infinite."""

Labels = npt.NDArray[np.floating]


class LabelArrays:
    """The labels of B rows while they are being filled.

    Args:
        shape: of the rows, for example (T, N).
        teacher: who labels.
    """

    def __init__(self, shape: tuple[int, ...], teacher: PolicySpec) -> None:
        self._shift = teacher.dist == "logits"
        dtype = np.float16 if self._shift else np.float32
        self.dist_inputs: Labels = np.zeros((*shape, teacher.num_dist_inputs), dtype)
        """[*shape, A] logits as float16 with their maximum shifted to 0, everything else as float32
        (a Q-value's level matters, and float16 would round one of 100 to steps of 0.06)."""
        self.value = np.zeros(shape, np.float32) if teacher.has_value else None
        """[*shape] where the teacher has a value head."""
        self._versions: set[int] = set()

    @property
    def version(self) -> int:
        """Of the teacher that said what was written; the oldest, where a newer one took over in
        between, so that the whole counts as stale."""
        return min(self._versions, default=0)

    def write(self, where: int | npt.NDArray[np.intp], outputs: PolicyOutputs) -> None:
        """Write the teacher's outputs for the rows at `where` of the first axis."""
        self._versions.add(outputs.version)
        labels = outputs.dist_inputs
        if self._shift:
            labels = np.maximum(labels - labels.max(-1, keepdims=True), LOWEST_LOGIT)
        self.dist_inputs[where] = labels
        if self.value is not None and outputs.value is not None:
            self.value[where] = outputs.value
