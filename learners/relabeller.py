"""The relabeller: the present teacher's labels for rows whose labels another version gave.

Where a run refreshes its teacher, what lies in the replay and in the learner's window is labelled
by whoever was the teacher then. The window asks here as it gathers a batch, keeps the answer, and
so labels a row at most once a version, and only if it is drawn: a new version never holds the
learner up for a whole window.
"""

import numpy as np
import torch

from common.labels import LabelArrays
from common.policies.inference import Observations
from common.policies.policy import Policy
from common.policies.refreshable import RefreshablePolicy


class Relabeller:
    """Labels stale rows, and counts them.

    Args:
        teacher: the present teacher. The learner's thread alone hands it newer versions, between
            two steps, so that all rows of a batch have labels of one version.
    """

    def __init__(self, teacher: RefreshablePolicy) -> None:
        self._teacher = teacher
        self.relabelled = 0
        """Rows labelled anew."""
        self.unknown = 0
        """Of these, rows whose labels were of a version that this learner did not have yet."""

    @property
    def version(self) -> int:
        """Of the present teacher."""
        return self._teacher.version

    def take(self, newer: Policy) -> bool:
        """Go on with a version if it is newer; return whether it was."""
        return self._teacher.take(newer)

    def label(self, observations: Observations, versions: torch.Tensor) -> LabelArrays:
        """Return the present teacher's labels of rows.

        Args:
            observations: [B, *shape], as the environment gave them.
            versions: [B] of the labels that the rows have.
        """
        labels = LabelArrays((len(observations),), self._teacher.spec)
        labels.write(np.arange(len(observations)), self._teacher(observations))
        self.relabelled += len(observations)
        self.unknown += int((versions > self.version).sum())
        return labels
