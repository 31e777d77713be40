"""The replay as part of a checkpoint: the shards' chunks and counters, and the learner's window.

A learner that goes on from it draws the samples that it would have drawn. Every list is taken at a
step's boundary, and written while the run goes on. Whoever reads feed and window here is the
learner's thread; whoever writes is the thread that writes checkpoints.
"""

import itertools
import logging
from collections.abc import Sequence
from typing import Any, Protocol

from common.replay.snapshot import Snapshot, read_snapshot
from common.storage import Location
from learners.checkpoint import Checkpoint, Part
from learners.feed import Feed, open_chunk
from learners.labeller import Labeller
from learners.learner import Learner
from learners.window import WindowContent

logger = logging.getLogger(__name__)

WINDOW = "window.arrow"


class SavedShard(Protocol):
    """A replay shard as whoever saves it sees it."""

    def save(self) -> Part:
        """Take a snapshot now; what is returned writes it.

        It raises StorageError where it cannot.
        """

    def load(self, location: Location, *, epoch: str | None, granted: int, cursor: int) -> bool:
        """Go on from a snapshot, where nothing was inserted yet; return whether it did."""


class SavedReplay:
    """Saves and restores the replay of a learner of one rank.

    Args:
        shards: all of them, in the order in which the feed reads them.
        labeller: labels chunks that are stored without labels.
    """

    def __init__(self, shards: Sequence[SavedShard], labeller: Labeller | None = None) -> None:
        self._shards = shards
        self._labeller = labeller

    def take(self, learner: Learner, feed: Feed) -> tuple[dict[str, Any], dict[str, Part]]:
        """Take everything now.

        Returns:
            What belongs into the checkpoint's state, and its other files.
        """
        content = learner.window_content()
        window = {
            "row_start": content.row_start,
            "plane_start": content.plane_start,
            "revisited": content.revisited,
        }
        parts: dict[str, Part] = {WINDOW: Snapshot(window, content.chunks).write}
        parts |= {_file(index): shard.save() for index, shard in enumerate(self._shards)}
        return {"feed": feed.states(), "learner": learner.replay_state()}, parts

    def restore(self, checkpoint: Checkpoint, learner: Learner, feed: Feed) -> None:
        """Go on from a checkpoint; without a replay in it that fits, the replay starts empty.

        Shards that hold chunks already are left as they are: they outlived the learner.

        Raises:
            StorageError: a file of the checkpoint cannot be read.
        """
        state = checkpoint.state.get("replay")
        states = [] if state is None else state["feed"]
        if state is None or len(states) != len(self._shards):
            found = "no replay" if state is None else f"a replay of {len(states)} shards"
            logger.warning(
                "checkpoint %s holds %s, and there are %d shards now: the replay starts empty",
                checkpoint.folder,
                found,
                len(self._shards),
            )
            feed.open()
            return
        for index, (shard, read) in enumerate(zip(self._shards, states, strict=True)):
            location = checkpoint.folder / _file(index)
            shard.load(
                location, epoch=read["epoch"], granted=read["granted"], cursor=read["cursor"]
            )
        window = read_snapshot(checkpoint.folder / WINDOW)
        content = WindowContent(**window.header, chunks=list(window.chunks))
        chunks = map(open_chunk, content.chunks, itertools.repeat(self._labeller))
        learner.load_replay(state["learner"], content, chunks)
        feed.open(states)


def _file(index: int) -> str:
    return f"shard-{index}.arrow"
