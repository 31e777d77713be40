"""The curve of a teacher's training: a line of `metrics.jsonl` and TensorBoard events an iteration.

A training that goes on from a checkpoint has to play again what it had played since. So what is
later than the checkpoint is taken back first: lines are cut off, and TensorBoard is told to forget.
"""

import json
import logging
import math
from pathlib import Path

from cluster.growing_file import GrowingFile
from cluster.spool import Spool
from cluster.teaching.directory import TeachDirectory
from cluster.tensorboard import TensorBoard
from common.storage import locate
from learners.teacher_search import TeachProgress

logger = logging.getLogger(__name__)

ENV_STEPS = "teach/env_steps"


class TeachCurve:
    """Writes the curve.

    Args:
        directory: of the training.
        after: env steps of the checkpoint from which it goes on; 0 where it starts.

    Raises:
        StorageError: what is there of it cannot be read, or not be cut.
    """

    def __init__(self, directory: TeachDirectory, *, after: int) -> None:
        self._spool = Spool(directory)
        _cut(self._spool.metrics, after)
        self._lines = GrowingFile(self._spool.metrics, ends_with=b"\n")
        self._tensorboard = TensorBoard(self._spool.tensorboard, goes_on_after=after)

    def add(self, progress: TeachProgress) -> None:
        """Write an iteration."""
        figures = {
            ENV_STEPS: progress.env_steps,
            "teach/return": progress.mean_return,
            "teach/episodes": progress.episodes,
            "teach/greedy_return": progress.greedy_return,
            "teach/best_return": progress.best_return,
            "time/elapsed_s": progress.elapsed_s,
        }
        figures = {name: value for name, value in figures.items() if math.isfinite(value)}
        self._lines.append(json.dumps(figures, allow_nan=False).encode() + b"\n")
        self._tensorboard.add(figures, step=progress.env_steps)
        self._spool.upload_when_due()

    def close(self) -> None:
        """Upload what is not there yet."""
        problem = self._spool.flush()
        if problem is not None:
            logger.warning("the curve is not whole: %s", problem)
        self._spool.close()


def _cut(path: Path, after: int) -> None:
    """Cut off lines of iterations after so many env steps, and half a line at the end."""
    if not path.exists():
        return
    whole = locate(path).read_text().splitlines(keepends=True)
    kept = [line for line in whole if line.endswith("\n") and json.loads(line)[ENV_STEPS] <= after]
    if kept != whole:
        locate(path).write_text("".join(kept))
