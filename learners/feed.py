"""The feed: decoded chunks and granted samples, from replay shards to the learner.

`ShardReader` asks one shard, decodes its answer, and labels it where the env runners did not.
`PrefetchFeed` does so in one thread a shard (codec and forward pass release the GIL) and holds a
few answers ready; `DirectFeed` asks in the caller's thread, in turn, for runs in one process, where
order must be repeatable.

| loop    | produces          | waits for                         | unblocked by               |
|---------|-------------------|-----------------------------------|----------------------------|
| reader  | `FeedItem`s       | the shard's rate limiter; a full  | inserts; the learner's     |
|         |                   | queue                             | `get`                      |

Where the replay is part of checkpoints, items bring the compressed chunks along, and `state` tells
how far each shard was read by the items that `get` returned: what still waits in a queue is read
again.
"""

import itertools
import queue
import threading
from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from common.codec import EncodedChunk, decode, owned
from common.replay.shard import ReplaySample
from common.trajectory import TrajectoryChunk
from learners.labeller import Labeller

QUEUE_SIZE = 2
"""Answers held ready, unless a batch needs more; each is at most a few chunks."""


class ChunkSource(Protocol):
    """A replay shard as the learner sees it."""

    def sample(
        self, *, cursor: int, num_samples: int, held: Collection[int]
    ) -> ReplaySample | None:
        """Return an answer, or None where there is nothing yet (it may wait before)."""


Paired = Iterable[tuple[TrajectoryChunk, EncodedChunk | None]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FeedItem:
    """One answer of a shard, decoded."""

    granted: int
    """Samples that the learner may draw for it."""
    chunks: list[TrajectoryChunk]
    again: int = 0
    """How many of them, from the first, a learner had that died since: the samples that the shard
    granted for them died with it."""
    revisited: list[TrajectoryChunk] = field(default_factory=list)
    """Older chunks that were in the window before; they go in before the new ones."""
    encoded: list[EncodedChunk] = field(default_factory=list)
    """`chunks` as the shard keeps them, where they are asked for."""
    encoded_revisited: list[EncodedChunk] = field(default_factory=list)
    """`revisited` in the same way."""

    def paired(self) -> Paired:
        """Return `chunks`, each with its compressed form, or None where these are not kept."""
        kept = self.encoded or itertools.repeat(None, len(self.chunks))
        return zip(self.chunks, kept, strict=True)

    def paired_revisited(self) -> Paired:
        """Return `revisited` in the same way."""
        kept = self.encoded_revisited or itertools.repeat(None, len(self.revisited))
        return zip(self.revisited, kept, strict=True)


State = dict[str, Any]
"""How far a shard was read: JSON types."""


class Feed(Protocol):
    """Where the learner gets its data."""

    def open(self, states: list[State] | None = None) -> None:
        """Start reading, from where a feed with these states was.

        Args:
            states: of all shards, in their order; None to start from the beginning.
        """

    def states(self) -> list[State]:
        """Return how far the items that `get` returned have read each shard."""

    def get(self, timeout_s: float) -> FeedItem | None:
        """Return the next item, or None when none came in time.

        Raises:
            Exception: what broke in a reader.
        """

    def close(self) -> None:
        """Stop reading."""


class ShardReader:
    """Reads one shard with a cursor of its own.

    Args:
        source: the shard.
        num_samples: samples asked for at once.
        window: transitions of this shard that the learner's window holds, where the shard hands
            out older chunks again; 0 where it does not.
        labeller: labels chunks that come without labels; None where none does.
        keep_encoded: whether items bring the compressed chunks along.
    """

    def __init__(
        self,
        source: ChunkSource,
        *,
        num_samples: int,
        window: int = 0,
        labeller: Labeller | None = None,
        keep_encoded: bool = False,
    ) -> None:
        self._keep_encoded = keep_encoded
        self._source = source
        self._num_samples = num_samples
        self._labeller = labeller
        self._cursor = 0
        self._epoch: str | None = None
        self._granted = 0
        """Samples that this life of the shard granted."""
        self._top = 0
        """Number after the last chunk of this life that this reader was given."""
        self._held = _Held(window)

    def state(self) -> State:
        """Return how far the shard was read."""
        return {
            "epoch": self._epoch,
            "cursor": self._cursor,
            "granted": self._granted,
            "held": self._held.chunks(),
        }

    def load_state(self, state: State) -> None:
        """Go on from there."""
        self._epoch, self._cursor = state["epoch"], state["cursor"]
        self._granted, self._top = state["granted"], state["cursor"]
        self._held.clear()
        for number, num_transitions in state["held"]:
            self._held.add(number, num_transitions)

    def read(self) -> FeedItem | None:
        """Ask once and decode."""
        sample = self._source.sample(
            cursor=self._cursor, num_samples=self._num_samples, held=self._held.numbers()
        )
        if sample is None:
            return None
        if self._epoch not in (None, sample.epoch):
            # The shard started again, and the cursor of its former life may have skipped chunks
            # of this one: take the grant, and ask for the chunks from the first.
            self._epoch, self._cursor = sample.epoch, 0
            self._granted, self._top = sample.granted, sample.cursor
            self._held.clear()
            return FeedItem(granted=sample.granted, chunks=[])
        self._epoch, self._cursor = sample.epoch, sample.cursor
        self._granted += sample.granted
        first_chunk = sample.cursor - len(sample.chunks)
        handed_out = min(sample.cursor, sample.top) - first_chunk
        again = max(0, handed_out) if first_chunk >= self._top else 0
        self._top = max(self._top, sample.cursor)
        for number, chunk in [*sample.revisited.items(), *enumerate(sample.chunks, first_chunk)]:
            self._held.add(number, chunk.num_transitions)
        return FeedItem(
            granted=sample.granted,
            chunks=[open_chunk(chunk, self._labeller) for chunk in sample.chunks],
            again=again,
            revisited=[open_chunk(chunk, self._labeller) for chunk in sample.revisited.values()],
            encoded=self._kept(sample.chunks),
            encoded_revisited=self._kept(sample.revisited.values()),
        )

    def _kept(self, chunks: Iterable[EncodedChunk]) -> list[EncodedChunk]:
        # What Ray hands over is a view into its object store, which a kept view would fill.
        return [owned(chunk) for chunk in chunks] if self._keep_encoded else []


def open_chunk(encoded: EncodedChunk, labeller: Labeller | None) -> TrajectoryChunk:
    """Decode a chunk, and label it where it has no labels."""
    chunk = decode(encoded)
    return chunk if labeller is None else labeller.label(chunk)


class _Held:
    """Which chunks of a shard are in the learner's window: the last that were handed over.

    It knows them before they arrive, and takes the shards' parts of the window for equal; a chunk
    that it is wrong about lies twice in the window for a while, or comes back a little later.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._transitions = 0
        self._chunks: deque[tuple[int, int]] = deque()  # (number, transitions), oldest first

    def numbers(self) -> tuple[int, ...]:
        """Return the numbers of the chunks, oldest first."""
        return tuple(number for number, _ in self._chunks)

    def chunks(self) -> list[tuple[int, int]]:
        """Return numbers and transitions, oldest first."""
        return list(self._chunks)

    def add(self, number: int, num_transitions: int) -> None:
        """Take note of a chunk, which takes the room of the oldest."""
        if self._window == 0:
            return
        self._chunks.append((number, num_transitions))
        self._transitions += num_transitions
        while self._transitions > self._window:
            self._transitions -= self._chunks.popleft()[1]

    def clear(self) -> None:
        """Forget all: the shard numbers its chunks anew."""
        self._chunks.clear()
        self._transitions = 0


class DirectFeed:
    """Reads the shards in turn, in the caller's thread."""

    def __init__(self, readers: list[ShardReader]) -> None:
        self._readers = readers
        self._next = 0

    def open(self, states: list[State] | None = None) -> None:
        """Let the readers go on from their states."""
        if states is not None:
            for reader, state in zip(self._readers, states, strict=True):
                reader.load_state(state)
                if state.get("next"):
                    self._next = self._readers.index(reader)

    def states(self) -> list[State]:
        """Return the readers' states; one of them is marked as the next to be asked."""
        states = [reader.state() for reader in self._readers]
        states[self._next]["next"] = True
        return states

    def get(self, timeout_s: float) -> FeedItem | None:
        """Return the next item of the next shard that has one; never waits."""
        for _ in self._readers:
            reader = self._readers[self._next]
            self._next = (self._next + 1) % len(self._readers)
            if (item := reader.read()) is not None:
                return item
        return None

    def close(self) -> None:
        """Do nothing: there is no thread."""


class _Ready(NamedTuple):
    """What waits in a queue."""

    item: FeedItem
    reader: int
    state: State
    """Of the reader after this item."""


class PrefetchFeed:
    """Reads every shard in a thread of its own.

    Args:
        readers: of the shards.
        queue_size: answers held ready.
    """

    def __init__(self, readers: list[ShardReader], *, queue_size: int = QUEUE_SIZE) -> None:
        self._readers = readers
        self._items: queue.Queue[_Ready | Exception] = queue.Queue(queue_size)
        self._closed = threading.Event()
        self._states: list[State] = []
        self._threads = [
            threading.Thread(target=self._read, args=(i,), name=f"feed-{i}", daemon=True)
            for i in range(len(readers))
        ]

    def open(self, states: list[State] | None = None) -> None:
        """Start the threads."""
        for reader, state in zip(self._readers, states or (), strict=states is not None):
            reader.load_state(state)
        self._states = [reader.state() for reader in self._readers]
        for thread in self._threads:
            thread.start()

    def states(self) -> list[State]:
        """Return the readers' states after the last item that each of them gave to `get`."""
        return list(self._states)

    def get(self, timeout_s: float) -> FeedItem | None:
        """Return the next item, or None when none came within `timeout_s`."""
        try:
            item = self._items.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if isinstance(item, Exception):
            raise item
        self._states[item.reader] = item.state
        return item.item

    def close(self) -> None:
        """Let the threads end after what they are doing."""
        self._closed.set()

    def _read(self, number: int) -> None:
        reader = self._readers[number]
        while not self._closed.is_set():
            item: _Ready | Exception | None
            try:
                read = reader.read()
                item = None if read is None else _Ready(read, number, reader.state())
            except Exception as error:  # handed to the learner's thread, which raises it
                item = error
            if item is not None and not self._put(item):
                return
            if isinstance(item, Exception):
                return

    def _put(self, item: _Ready | Exception) -> bool:
        while not self._closed.is_set():
            try:
                self._items.put(item, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False
